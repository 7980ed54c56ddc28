"""Event streams in the hands of the clients that applications use, each the real package."""
# ruff: noqa: F401  # fixtures are imported, and found by their names

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from sinapse.framing.eventstream import EventStream
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser
from tests.support.clients.programs import PROGRAMS, Program
from tests.support.clients.runtimes import (
    FOLDER,
    Client,
    Event,
    Here,
    Listening,
    ListeningOnAsyncio,
    Node,
    Page,
    serving_pages,
)
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.npm import build_client, install
from tests.support.proxy import Link, Proxy, away, running_proxy, unchanged
from tests.support.publishing import traffic
from tests.support.subscribing import subscribe

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


class Kind(NamedTuple):
    """A client: where it runs, its name in ``clients.js``, and what it says why it stops."""

    place: str
    name: str
    when_expired: int | None = 401
    when_revoked: int | None = 401
    trims: bool = False
    """Whether it drops white space at the ends of data."""
    by_block: bool = False
    """Whether it reads nothing of a block of gzip before that is whole."""

    def heard(self, text: str) -> str:
        """Return what it makes of a text."""
        return text.strip() if self.trims else text


CLIENTS = {
    "native-chromium": Kind("chromium", "native", None, None),
    "polyfill-chromium": Kind("chromium", "polyfillWithHeaders"),
    "polyfill-node": Kind("node", "polyfill"),
    "eventsource-node": Kind("node", "eventsource"),
    "reconnecting-chromium": Kind("chromium", "reconnectingEventSource"),
    "fetch-chromium": Kind("chromium", "fetchEventSource"),
    "httpx-sse": Kind("python", "httpx-sse"),
    "listening": Kind("python", "listening"),
    "listening-asyncio": Kind("python", "listening-asyncio"),
    "sinapse-eventsource": Kind("chromium", "sinapseEventSource"),
    "sinapse-websocket": Kind("chromium", "sinapseWebSocket", 4001, 1008),
    "sinapse-longpoll": Kind("chromium", "sinapseLongPoll"),
    "okhttp-sse": Kind("program", "okhttp-sse"),
    "r3labs-sse": Kind("program", "r3labs-sse", by_block=True),
    "launchdarkly-go": Kind("program", "launchdarkly-go", by_block=True),
    "go-sse": Kind("program", "go-sse", by_block=True),
    "reqwest-eventsource": Kind("program", "reqwest-eventsource"),
    "eventsource-client": Kind("program", "eventsource-client"),
    "react-native-sse": Kind("program", "react-native-sse", trims=True),
}

#: Those that run in this process.
HERE: dict[str, Callable[[], Client]] = {
    "httpx-sse": Here,
    "listening": Listening,
    "listening-asyncio": ListeningOnAsyncio,
}

#: Of these a request is answered with whatever has come; between two of them nothing is open.
THOSE_THAT_POLL = ["sinapse-longpoll"]
THOSE_THAT_STREAM = [name for name in CLIENTS if name not in THOSE_THAT_POLL]

#: r3labs/sse takes the end of what there is for the end of a message.
THOSE_THAT_KNOW_WHAT_IS_WHOLE = [name for name in THOSE_THAT_STREAM if name != "r3labs-sse"]

#: Clients in a way that a few tests are about.
SPECIAL = {
    "old-polyfill-chromium": Kind("chromium", "polyfillOfOld"),
    "bare-fetch-chromium": Kind("chromium", "fetchEventSourceAsItIs"),
}

#: reconnecting-eventsource tries for ever, whatever it is answered.
THOSE_THAT_GIVE_UP = [name for name in CLIENTS if name != "reconnecting-chromium"]


def clients(*names: str) -> pytest.MarkDecorator:
    """Run a test with these clients, or with all; what is built is for ``make test-clients``."""
    built = pytest.mark.toolchain
    found = [
        pytest.param(name, marks=built if name in PROGRAMS else ()) for name in names or CLIENTS
    ]
    return pytest.mark.parametrize("client", found, indirect=True)


@pytest.fixture(scope="session")
def _packages() -> None:
    install(FOLDER)
    build_client()


@pytest.fixture(scope="module")
def _pages(_packages: None) -> Iterator[str]:
    with serving_pages() as server:
        yield server


@contextmanager
def making(name: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Make a client that is not connected yet, for the length of a with block."""
    kind = (CLIENTS | SPECIAL)[name]
    client: Client
    if kind.place == "chromium":
        browser = request.getfixturevalue("browser")
        client = Page(kind.name, browser, request.getfixturevalue("_pages"))
    elif kind.place == "node":
        request.getfixturevalue("_packages")
        client = Node(kind.name)
    elif kind.place == "program":
        client = Program(kind.name)
    else:
        client = HERE[kind.name]()
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Return a client that is not connected yet."""
    with making(request.param, request) as client:
        yield client


@pytest.fixture(scope="module")
def _daemon(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon that clients come back to soon; keep-alives come often, so that all see some."""
    folder = tmp_path_factory.mktemp("daemon")
    options = ("--retry", "0.2", "--keep-alive", "0.3")
    with running_daemon(folder, redis_process.url, *options) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def daemon(_daemon: Daemon, redis_server: RedisServer) -> Daemon:
    return _daemon


@pytest.fixture
def proxy(daemon: Daemon) -> Iterator[Proxy]:
    """Return a network between client and daemon that can break."""
    with running_proxy(daemon.port) as proxy:
        yield proxy


def test_the_tests_that_the_documentation_names_are_there() -> None:
    documented = (ROOT / "docs" / "clients.md").read_text()
    modules = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+", documented)) - {path.stem for path in modules}
    assert {name for name in named if f"def {name}(" not in "".join(modules.values())} == set()
    rows = re.findall(r"^\|[^|]+\| `([\w-]+)` \| ✓ ", documented, re.MULTILINE)
    assert rows == list(CLIENTS)


def wait_for_a_poll(client: Client, daemon: Daemon) -> None:
    """Wait until a client that polls has a poll open; others have a stream since they opened."""
    if client.name == CLIENTS[THOSE_THAT_POLL[0]].name:
        eventually(lambda: daemon.metrics()["sinapse_streams long poll"] == 1, "a poll is open")


@contextmanager
def torn(proxy: Proxy, end: bytes) -> Iterator[threading.Event]:
    """Forward what comes up to `end`, at once and not a byte more; cut at the end of the block.

    What a client reports of it has then been read together with what it has half of. Yields an
    event for when that has come.
    """
    held = bytearray()
    has_come = threading.Event()

    def tear(_link: Link, data: bytes) -> bytes:
        if end in held:
            return b""
        held.extend(data)
        before, found, _ = held.partition(end)
        if found:
            has_come.set()
        return bytes(before + found) if found else b""

    proxy.down = tear
    yield has_come
    proxy.down = unchanged
    proxy.cut()


@clients()
def test_it_connects(
    client: Client, daemon: Daemon, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    client.connect(daemon.port, subscribe(publisher, "room:1", "room:2"))
    first = client.opened()
    texts = ["plain", "two\nlines", " é☃😀 ", '{"a": 1}', "x" * 300_000]
    for number, text in enumerate(texts):
        publisher.publish(f"room:{1 + number % 2}", text)
    events = [client.next() for _ in texts]
    heard = [kind_of(request).heard(text) for text in texts]
    assert [event[:2] for event in events] == [("message", text) for text in heard]
    ids = [first.id, *(event.id for event in events)]
    assert all(ids)
    assert ids == sorted(set(ids), key=ids.index)
    publisher.publish("room:1", "of a type", event="chat")
    assert client.next()[:2] == ("chat", "of a type")


@clients()
def test_a_channel_that_is_removed_delivers_nothing_more(
    client: Client, daemon: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    client.connect(proxy.port, subscribe(publisher, "room:1", "room:2")).opened()
    wait_for_a_poll(client, daemon)
    publisher.channels.add("1", "room:3")
    publisher.publish("room:3", "added")
    publisher.channels.remove("1", "room:3")
    publisher.publish("room:3", "behind its back")
    publisher.channels.remove("1", "room:2")
    publisher.publish("room:2", "behind its back")
    publisher.publish("room:1", "still")
    assert client.data(2) == ["added", "still"]
    with away(proxy):
        publisher.publish("room:3", "behind its back")
        publisher.publish("room:1", "and still")
    assert client.data(1) == ["and still"]


class TestResume:
    """Every message once, and in order, whatever is cut and wherever."""

    @clients(*THOSE_THAT_KNOW_WHAT_IS_WHOLE)
    def test_a_message_that_is_torn_comes_whole(
        self, client: Client, proxy: Proxy, publisher: Publisher, request: pytest.FixtureRequest
    ) -> None:
        client.connect(proxy.port, subscribe(publisher)).opened()
        with torn(proxy, b"half") as was_torn:
            publisher.publish("room:1", "whole")
            publisher.publish("room:1", "half and half")
            seen = [] if kind_of(request).by_block else client.data(1)
            assert was_torn.wait(EVENT_TIMEOUT)
        publisher.publish("room:1", "last")
        seen += client.data(3 - len(seen))
        assert seen == ["whole", "half and half", "last"]

    @clients(*THOSE_THAT_POLL)
    def test_an_answer_that_is_torn_comes_whole(
        self, client: Client, daemon: Daemon, proxy: Proxy, publisher: Publisher
    ) -> None:
        client.connect(proxy.port, subscribe(publisher)).opened()
        publisher.publish("room:1", "whole")
        assert client.data(1) == ["whole"]
        wait_for_a_poll(client, daemon)  # The answer to its preflight would be held for good.
        with torn(proxy, b"half") as was_torn:
            publisher.publish("room:1", "half and half")
            assert was_torn.wait(EVENT_TIMEOUT)
        publisher.publish("room:1", "last")
        assert client.data(2) == ["half and half", "last"]

    @clients()
    def test_traffic_that_is_cut_comes_whole(
        self, client: Client, proxy: Proxy, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        client.connect(proxy.port, subscribe(publisher, "room:1", "room:2")).opened()
        seen = []
        with (
            Publisher(redis_server.url, retain_messages=100_000) as patient,
            traffic(patient) as published,
        ):
            for _ in range(2):
                seen += client.data(20)
                proxy.cut()
            seen += client.data(20)
        publisher.publish("room:1", "end")
        seen += client.data(len(published) - len(seen))
        assert seen == published
        assert client.data(1) == ["end"]


class TestReset:
    """What cannot be kept is said."""

    @clients()
    def test_it_is_told_what_it_cannot_have(
        self, client: Client, proxy: Proxy, redis_server: RedisServer
    ) -> None:
        with Publisher(redis_server.url, retain_messages=3) as publisher:
            client.connect(proxy.port, subscribe(publisher, "room:1", "room:2")).opened()
            publisher.publish("room:1", "seen")
            assert client.data(1) == ["seen"]
            with away(proxy):
                for number in range(10):
                    publisher.publish("room:1", str(number))
            assert reset_of(client) == ["room:1"]
            publisher.publish("room:2", "live")
            assert client.data(4) == ["7", "8", "9", "live"]

    @clients()
    def test_it_is_told_once_even_if_nothing_follows(
        self, client: Client, proxy: Proxy, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        client.connect(proxy.port, subscribe(publisher, "room:1", "room:2")).opened()
        with away(proxy):
            publisher.publish("room:1", "short", retain=0.05)
            eventually(lambda: not redis_client.exists("sinapse:retained:room:1"))
        assert reset_of(client) == ["room:1"]
        with away(proxy):
            publisher.publish("room:2", "missed")
        assert client.data(1) == ["missed"]


def reset_of(client: Client) -> list[str]:
    """Return the channels of a reset, which must come next."""
    kind, data, _ = client.next()
    assert kind == "reset"
    content = json.loads(data)
    assert content.pop("reason") == "not-retained"
    return list(content.pop("channels"))


@clients()
def test_it_comes_back_to_a_daemon_that_was_restarted(
    client: Client, daemon: Daemon, publisher: Publisher
) -> None:
    client.connect(daemon.port, subscribe(publisher)).opened()
    publisher.publish("room:1", "before")
    assert client.data(1) == ["before"]
    daemon.stop()
    publisher.publish("room:1", "meanwhile")
    daemon.start()
    publisher.publish("room:1", "after")
    assert client.data(2) == ["meanwhile", "after"]


class TestEnd:
    """What becomes of a client whose token is no good any more."""

    @clients(*THOSE_THAT_GIVE_UP)
    def test_it_stops_when_its_token_expires(
        self, client: Client, daemon: Daemon, publisher: Publisher, request: pytest.FixtureRequest
    ) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=4)
        client.connect(daemon.port, token).opened()
        name = request.node.callspec.params["client"]
        # Our own client asks its page for a token then, and shows it no event.
        if name not in THOSE_THAT_POLL and not name.startswith("sinapse"):
            event, seconds = client.next()[:2]
            assert event == "token-expiring"
            assert seconds in {"1", "2"}  # On a machine that may be slow.
        publisher.publish("room:1", "last")
        assert client.data(1) == ["last"]
        assert client.closed() == kind_of(request).when_expired

    @clients(
        *("native-chromium", "polyfill-node", "eventsource-node", "fetch-chromium", "httpx-sse"),
        *("listening", "listening-asyncio"),
        *("sinapse-eventsource", "sinapse-websocket", "sinapse-longpoll"),
        *PROGRAMS,
    )
    def test_it_stops_when_its_token_is_revoked(
        self, client: Client, daemon: Daemon, publisher: Publisher, request: pytest.FixtureRequest
    ) -> None:
        client.connect(daemon.port, subscribe(publisher)).opened()
        wait_for_a_poll(client, daemon)
        publisher.publish("room:1", "last")
        publisher.tokens.clear("1")
        assert client.data(1) == ["last"]
        assert client.closed() == kind_of(request).when_revoked

    @clients(
        *("native-chromium", "eventsource-node", "listening", "listening-asyncio"),
        "sinapse-eventsource",
    )
    def test_it_stops_when_it_is_told_so(
        self, client: Client, stopping: Daemon, request: pytest.FixtureRequest
    ) -> None:
        client.connect(stopping.port, "unknown")
        assert client.closed() == (204 if kind_of(request).when_expired else None)

    @clients("polyfill-node")
    def test_the_polyfill_does_not_understand_that(self, client: Client, stopping: Daemon) -> None:
        client.connect(stopping.port, "unknown")
        client.reconnecting()


@pytest.fixture(scope="module")
def stopping(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon that tells an EventSource to stop in the way that the standard has for it."""
    folder = tmp_path_factory.mktemp("stopping")
    with running_daemon(folder, redis_process.url, "--stop-status", "204") as daemon:
        yield daemon


def kind_of(request: pytest.FixtureRequest) -> Kind:
    """Return the client that a test runs with."""
    return CLIENTS[request.node.callspec.params["client"]]


@contextmanager
def refused(daemon: Daemon, times: int) -> Iterator[None]:
    """Wait at the end of a with block until so many requests were refused since its beginning."""

    def count() -> float:
        return daemon.metrics().get("sinapse_requests_refused_total unknown token", 0)

    before = count()
    yield
    eventually(lambda: count() >= before + times, f"{times} requests are refused")


class TestPolyfill:
    """event-source-polyfill gives up what is silent, and has an id in its URL."""

    @clients("polyfill-node")
    def test_keep_alives_keep_it_from_giving_up(
        self, client: Client, proxy: Proxy, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        keep_alives = 0

        def count(_link: Link, data: bytes) -> bytes:
            nonlocal keep_alives
            keep_alives += data.count(KEEP_ALIVE)
            return data

        proxy.down = count
        # Milliseconds; there is nothing shorter. Twice as long there is nothing but keep-alives.
        client.connect(proxy.port, token, heartbeatTimeout=1000).opened()
        eventually(lambda: keep_alives > 7)
        publisher.publish("room:1", "on the same connection")
        assert client.data(1) == ["on the same connection"]
        assert proxy.connections == 1

        proxy.down = lambda _link, data: data.replace(KEEP_ALIVE, b"")
        client.reconnecting()
        publisher.publish("room:1", "missed")
        assert client.data(1) == ["missed"]
        assert proxy.connections == 2

    @clients("old-polyfill-chromium")
    def test_it_asks_for_padding_and_says_where_it_was_in_the_query(
        self, client: Client, proxy: Proxy, publisher: Publisher
    ) -> None:
        received = bytearray()

        def note(_link: Link, data: bytes) -> bytes:
            received.extend(data)
            return data

        proxy.down = note
        client.connect(proxy.port, subscribe(publisher))
        last = client.opened().id
        assert query(proxy)["padding"] == ["true"]
        assert b"\n:" + 2048 * b" " + b"\nretry:" in received
        with away(proxy):
            publisher.publish("room:1", "missed")
        assert client.data(1) == ["missed"]
        assert query(proxy)["padding"] == ["true"]
        assert query(proxy)["lastEventId"] == [last]


#: On the wire, in a chunk and a block of its own: Node takes gzip.
KEEP_ALIVE = EventStream(chunked=True, compress=512).keep_alive


def query(proxy: Proxy) -> dict[str, list[str]]:
    """Return the query of the last request."""
    line = proxy.links[-1].sent.partition(b"\r\n")[0].decode()
    return parse_qs(urlsplit(line.split()[1]).query)


class TestReconnectingEventSource:
    """reconnecting-eventsource replaces an EventSource that has given up."""

    @clients("reconnecting-chromium")
    def test_a_new_one_goes_on_where_the_old_one_was(
        self, client: Client, proxy: Proxy, publisher: Publisher
    ) -> None:
        # Milliseconds.
        client.connect(proxy.port, subscribe(publisher), max_retry_time=200).opened()
        publisher.publish("room:1", "seen")
        seen = client.next()
        answered = threading.Event()
        former = proxy.links[-1]

        def refuse(link: Link, data: bytes) -> bytes:
            if link is former:
                return data
            answered.set()
            return b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

        proxy.down = refuse
        proxy.cut()
        publisher.publish("room:1", "missed")
        assert answered.wait(EVENT_TIMEOUT)
        proxy.down = unchanged
        assert client.data(1) == ["missed"]
        assert query(proxy)["lastEventId"] == [seen.id]
        # Now the URL has an old id for good, and the header field the right one.
        with away(proxy):
            publisher.publish("room:1", "last")
        assert client.data(1) == ["last"]
        assert query(proxy)["lastEventId"] == [seen.id]

    @clients("reconnecting-chromium")
    def test_it_never_gives_up(self, client: Client, daemon: Daemon, publisher: Publisher) -> None:
        client.connect(daemon.port, subscribe(publisher), max_retry_time=200).opened()
        with refused(daemon, 3):
            publisher.tokens.clear("1")


class TestFetchEventSource:
    """@microsoft/fetch-event-source leaves to the application what an EventSource decides."""

    @clients("fetch-chromium")
    def test_it_is_away_while_its_page_is_hidden(
        self, client: Page, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher)).opened()
        driver = client.browser.driver
        page = driver.current_window_handle
        driver.switch_to.new_window("tab")
        try:
            eventually(lambda: daemon.metrics()["sinapse_streams"] == 0, "it has hung up")
            publisher.publish("room:1", "missed")
        finally:
            driver.close()
            driver.switch_to.window(page)
        publisher.publish("room:1", "live")
        assert client.data(2) == ["missed", "live"]

    @clients("bare-fetch-chromium")
    def test_it_takes_the_end_of_a_stream_for_its_own(
        self, client: Client, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher))
        assert client.report()[:2] == ("authentication", "ok")
        publisher.tokens.clear("1")
        assert client.closed() is None

    @clients("bare-fetch-chromium")
    def test_it_comes_back_for_ever_when_it_is_refused(
        self, client: Client, daemon: Daemon
    ) -> None:
        with refused(daemon, 2):
            client.connect(daemon.port, "unknown")


class TestPrograms:
    """Libraries of other languages: what they do by themselves, and when they come back."""

    @clients("r3labs-sse")
    def test_what_there_is_of_a_torn_message_comes_before_it(
        self, client: Client, proxy: Proxy, publisher: Publisher
    ) -> None:
        client.connect(proxy.port, subscribe(publisher)).opened()
        publisher.publish("room:1", "whole")
        assert client.data(1) == ["whole"]
        with torn(proxy, b"half") as was_torn:
            publisher.publish("room:1", "half and half")
            assert was_torn.wait(EVENT_TIMEOUT)
        assert client.data(2) == ["half", "half and half"]

    @clients(
        "launchdarkly-go", "go-sse", "reqwest-eventsource", "eventsource-client", "react-native-sse"
    )
    def test_it_waits_as_long_as_it_is_told(
        self, client: Client, patient: Daemon, publisher: Publisher, request: pytest.FixtureRequest
    ) -> None:
        """Told to wait for an hour, it is still away when one that is told nothing is back."""
        token = subscribe(publisher)
        with (
            running_proxy(patient.port) as told,
            running_proxy(patient.port) as silent,
            making(client.name, request) as other,
        ):
            silent.down = lambda _link, data: data.replace(b"retry: ", b"other: ")
            client.connect(told.port, token).opened()
            other.connect(silent.port, token).opened()
            told.cut()
            for missed in ("first", "second"):
                with away(silent):
                    publisher.publish("room:1", missed)
                assert other.data(1) == [missed]
            assert told.connections == 1

    @clients("okhttp-sse", "r3labs-sse")
    def test_it_comes_back_before_it_is_told_to(
        self, client: Client, patient: Daemon, publisher: Publisher
    ) -> None:
        with running_proxy(patient.port) as proxy:
            client.connect(proxy.port, subscribe(publisher)).opened()
            with away(proxy):
                publisher.publish("room:1", "missed")
            assert client.data(1) == ["missed"]

    @clients(*(name for name in PROGRAMS if name != "okhttp-sse"))
    def test_alone_it_comes_back_after_the_end_of_a_stream(
        self, client: Client, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher), alone=True).opened()
        daemon.admin("/subjects/1", "DELETE")
        publisher.publish("room:1", "missed")
        assert client.data(1) == ["missed"]

    @clients("okhttp-sse")
    def test_alone_it_does_not_come_back_after_the_end_of_a_stream(
        self, client: Client, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher), alone=True).opened()
        daemon.admin("/subjects/1", "DELETE")
        assert client.report()[:2] == ("position", "ok")
        assert client.closed() is None

    @clients("r3labs-sse")
    def test_alone_it_does_not_come_back_after_the_end_of_a_stream_without_gzip(
        self, client: Client, uncompressed: Daemon, publisher: Publisher
    ) -> None:
        client.connect(uncompressed.port, subscribe(publisher), alone=True).opened()
        uncompressed.admin("/subjects/1", "DELETE")
        assert client.report()[:2] == ("position", "ok")
        assert client.closed() is None

    @clients("react-native-sse")
    def test_alone_it_does_not_come_back_when_nobody_answers(
        self, client: Client, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher), alone=True).opened()
        daemon.stop()
        status = client.closed()
        daemon.start()
        assert status is None

    @clients("okhttp-sse", "go-sse", "reqwest-eventsource")
    def test_alone_it_gives_up_when_it_is_refused(self, client: Client, daemon: Daemon) -> None:
        client.connect(daemon.port, "unknown", alone=True)
        assert client.closed() == 401

    @clients("r3labs-sse", "launchdarkly-go", "eventsource-client", "react-native-sse")
    def test_alone_it_asks_again_and_again_when_it_is_refused(
        self, client: Client, daemon: Daemon, publisher: Publisher
    ) -> None:
        client.connect(daemon.port, subscribe(publisher), alone=True).opened()
        with refused(daemon, 3):
            publisher.tokens.clear("1")


@pytest.fixture(scope="module")
def patient(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon whose clients are told to wait for an hour before they come back."""
    folder = tmp_path_factory.mktemp("patient")
    with running_daemon(folder, redis_process.url, "--retry", "3600") as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture(scope="module")
def uncompressed(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon whose streams are never gzip."""
    folder = tmp_path_factory.mktemp("uncompressed")
    with running_daemon(folder, redis_process.url, "--compress", "off") as daemon:
        yield daemon
