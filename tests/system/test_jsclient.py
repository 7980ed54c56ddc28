"""sinapse-client in several tabs of a real Chromium, with the real daemon, while things break."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser, closing_tabs
from tests.support.browser import Tab as BrowserTab
from tests.support.clients.runtimes import serving_pages, url
from tests.support.daemon import Daemon, running_daemon
from tests.support.distance import _daemon, daemon, proxy
from tests.support.npm import build_client
from tests.support.proxy import Link, Proxy, away
from tests.support.publishing import traffic
from tests.support.subscribing import subscribe

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ROOMS = ("room:1", "room:2")


class Tab(BrowserTab):
    """A tab with a page that has the client in it."""

    def run(self, script: str, *arguments: object) -> Any:
        """Return what the body of a function returns in this tab."""
        return self.look().run(script, *arguments)

    def command(self, name: str, **parameters: object) -> None:
        """Tell the browser something about this tab (Chrome DevTools Protocol)."""
        self.look().driver.execute_cdp_cmd(name, parameters)

    def connect(self, port: int, token: str | None = None, **options: object) -> Tab:
        """Begin to connect; without `token` the page asks for one."""
        given = {"asks": True} if token is None else {"token": token}
        self.run("start(arguments[0])", {"url": url(port), **given, **options})
        return self

    def is_live(self) -> Tab:
        """Wait until the client says so."""
        self.until("client.state === 'live'")
        return self

    def until(self, expression: str) -> None:
        """Wait until something is true in the page: what comes back makes pauses of up to 30 s."""
        what = f"return [{expression}, states]"
        seen: list[Any] = []

        def is_true() -> bool:
            seen[:] = self.run(what)
            return bool(seen[0])

        eventually(is_true, f"{expression}; {seen}", EVENT_TIMEOUT + 30)

    def closed(self) -> str:
        """Wait until the client has closed, and return how it said so."""
        self.until("client.state === 'closed'")
        return str(self.run("return states.at(-1)"))

    @property
    def log(self) -> list[Any]:
        """What has come: data of messages, and resets."""
        log: list[Any] = self.run("return log")
        return log

    def hears(self, *log: object) -> None:
        """Wait until so much has come, and see that it is just that."""
        self.until(f"log.length >= {len(log)}")
        assert self.log == list(log)

    def is_served(self, last: str) -> list[Any]:
        """Wait until `last` has come, and return the log."""
        self.until(f"log.includes({last!r})")
        return self.log


class Tokens:
    """Where pages get a token, `new` if a test has put that here."""

    new: Callable[[], str] = str

    def __call__(self) -> str:
        return self.new()


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture(scope="module")
def _pages(tokens: Tokens) -> Iterator[str]:
    build_client()
    with serving_pages(tokens) as server:
        yield server


@pytest.fixture
def new_tab(browser: Browser, _pages: str) -> Iterator[Callable[[], Tab]]:
    """Return a function that opens a tab; all are closed after the test."""
    with closing_tabs(browser):
        yield lambda: Tab(browser, f"{_pages}/tab.html")


@pytest.fixture
def patient(redis_server: RedisServer) -> Iterator[Publisher]:
    """Return a publisher of as much as a slow machine may miss."""
    with Publisher(redis_server.url, retain_messages=100_000) as publisher:
        yield publisher


def is_shared(daemon: Daemon, count: int = 1) -> None:
    """Wait until there are so many streams, for all tabs together."""
    eventually(lambda: daemon.metrics()["sinapse_streams"] == count, f"streams: {count}")


def test_tabs_share_one_connection(
    new_tab: Callable[[], Tab], daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, *ROOMS)
    # More than a browser lets have a connection of their own.
    tabs = [new_tab().connect(daemon.port, token).is_live() for _ in range(7)]
    is_shared(daemon)
    publisher.publish("room:1", "retained")
    publisher.publish("room:2", "plain", retain=0)
    for tab in tabs:
        tab.hears("retained", "plain")
        assert tab.run("return states") == ["live"]
    alone = new_tab().connect(daemon.port, token, share=False).is_live()
    is_shared(daemon, 2)
    publisher.publish("room:1", "last")
    alone.hears("last")


@pytest.mark.parametrize("transport", ["eventsource", "websocket", "longpoll"])
def test_nothing_is_lost_or_doubled_whatever_breaks(
    transport: str,
    new_tab: Callable[[], Tab],
    daemon: Daemon,
    proxy: Proxy,
    patient: Publisher,
) -> None:
    token = subscribe(patient, *ROOMS)

    def connected() -> Tab:
        return new_tab().connect(proxy.port, token, transports=[transport])

    leader, second, third = [connected().is_live() for _ in range(3)]
    with traffic(patient) as published:

        def go_on(tab: Tab) -> None:
            """Wait until a tab has got what was published last."""
            tab.is_served(published[-1])

        eventually(lambda: len(published) > 50)
        proxy.cut()
        go_on(third)
        late = connected().is_live()
        go_on(late)
        gone = leader.log
        leader.close()
        go_on(second)
        with away(proxy):
            last = connected()
            so_far = len(published)
            eventually(lambda: len(published) > so_far + 50)
        go_on(last)
        daemon.stop()
        daemon.start()
        go_on(second)
        freeze(second)
        go_on(third)
        wake(second)
        go_on(second)
    patient.publish("room:1", "end")
    expected = [*published, "end"]
    assert len(expected) > 200
    assert gone == expected[: len(gone)]
    for tab in (second, third):
        assert tab.is_served("end") == expected
    for tab in (late, last):
        log = tab.is_served("end")
        assert log == expected[expected.index(log[0]) :]
    if transport != "longpoll":
        is_shared(daemon)


def freeze(tab: Tab) -> None:
    """Do to a tab what browsers do to one that was not looked at for long."""
    tab.command("Page.setWebLifecycleState", state="frozen")


def wake(tab: Tab) -> None:
    """Undo that."""
    tab.command("Page.setWebLifecycleState", state="active")


@pytest.mark.parametrize("transport", ["eventsource", "websocket", "longpoll"])
def test_a_page_does_not_hear_what_it_sends_itself(
    daemon: Daemon, publisher: Publisher, new_tab: Callable[[], Tab], transport: str
) -> None:
    token = subscribe(publisher, *ROOMS)
    options = {"share": False, "transports": [transport]}
    sender, other = (new_tab().connect(daemon.port, token, **options).is_live() for _ in range(2))
    name = sender.run("return client.stream")
    for number in range(6):
        publisher.publish(ROOMS[number % 2], number, but=name if number % 3 else None)
    publisher.publish(ROOMS[0], "last")
    assert sender.is_served("last") == ["0", "3", "last"]
    assert other.is_served("last") == [*"012345", "last"]


@pytest.mark.parametrize("transport", ["eventsource", "websocket", "longpoll", "native"])
@pytest.mark.parametrize("named_by", ["event", "channel"])
def test_messages_may_be_called_as_the_servers_own_events_are(
    new_tab: Callable[[], Tab],
    tmp_path: Path,
    redis_server: RedisServer,
    publisher: Publisher,
    *,
    transport: str,
    named_by: str,
) -> None:
    names = ["position", "reset", "replaced", "authentication", "token-expiring", "error"]
    options = ["--channel-event"] if named_by == "channel" else []
    token = subscribe(publisher, "room:1", *names)
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        tab = new_tab().connect(daemon.port, token, transports=[transport], share=False).is_live()
        for name in names:
            tab.run("client.on(arguments[0], ({event, data}) => log.push([event, data]))", name)
            if named_by == "channel":
                publisher.publish(name, "x")
            else:
                publisher.publish("room:1", "x", event=name)
        if transport != "longpoll" or named_by == "event":  # A poll has the channel beside it.
            tab.hears(*([name, "x"] for name in names))
        else:
            tab.hears(*["x"] * len(names))
        assert tab.run("return client.state") == "live"


@pytest.mark.parametrize("transport", ["eventsource", "websocket", "longpoll", "native"])
def test_messages_carry_their_channel_to_all_tabs(
    daemon: Daemon, proxy: Proxy, publisher: Publisher, new_tab: Callable[[], Tab], transport: str
) -> None:
    token = subscribe(publisher, *ROOMS)
    tabs = [new_tab().connect(proxy.port, token, transports=[transport]) for _ in range(2)]
    for tab in tabs:
        tab.is_live().run(
            "client.channel('room:2').on('*', (message) => log.push(message.json()));"
            "client.channel('room:1').once('note', (message) => log.push(message.json().line));"
            "client.on('*', ({event, channel, id}) => log.push([event, channel, !!id]))"
        )
    publisher.publish("room:1", {"line": "one\r\ntwo\u2028"}, event="note")
    publisher.publish("room:2", {"line": "three"}, event="reset")
    for tab in tabs:
        tab.until("log.length >= 4")
    proxy.cut()
    publisher.publish("room:2", {"line": "four"})
    expected = [
        *("one\r\ntwo\u2028", ["note", "room:1", True]),
        *({"line": "three"}, ["reset", "room:2", True]),
        *({"line": "four"}, '{"line":"four"}', ["message", "room:2", True]),
    ]
    for tab in tabs:
        tab.until("log.length >= 7")
        assert sorted(map(str, tab.log)) == sorted(map(str, expected))
        assert tab.run("return client.state") == "live"


def test_it_is_offline_and_online_again(
    new_tab: Callable[[], Tab], proxy: Proxy, publisher: Publisher
) -> None:
    tab = new_tab().connect(proxy.port, subscribe(publisher, *ROOMS)).is_live()
    publisher.publish("room:1", "before")
    tab.hears("before")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    tab.command("Network.enable")
    tab.command("Network.emulateNetworkConditions", offline=True, **network)
    proxy.cut()
    tab.until("client.state === 'reconnecting'")
    publisher.publish("room:1", "meanwhile")
    tab.command("Network.emulateNetworkConditions", offline=False, **network)
    tab.is_live()
    publisher.publish("room:1", "after")
    tab.hears("before", "meanwhile", "after")


def test_a_token_that_ends_is_replaced(
    new_tab: Callable[[], Tab],
    tokens: Tokens,
    daemon: Daemon,
    patient: Publisher,
) -> None:
    for room in ROOMS:
        patient.channels.add("1", room)
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return patient.tokens.generate("1", expires_in=2.5 if asked == 1 else 3600)

    tokens.new = token
    tabs = [new_tab().connect(daemon.port, share="user 1").is_live() for _ in range(3)]
    with traffic(patient) as published:
        eventually(lambda: asked > 1, "another token was asked for")
        patient.tokens.clear("1")
        eventually(lambda: asked > 2, "another token was asked for")
        so_far = len(published)
        eventually(lambda: len(published) > so_far + 50)
    patient.publish("room:1", "end")
    for tab in tabs:
        log = tab.is_served("end")
        assert log == [*published, "end"]
        assert tab.run("return client.state") == "live"
    is_shared(daemon)


def test_all_tabs_close_when_the_token_is_revoked(
    new_tab: Callable[[], Tab], daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, *ROOMS)
    tabs = [new_tab().connect(daemon.port, token).is_live() for _ in range(3)]
    publisher.publish("room:1", "last")
    for tab in tabs:
        tab.hears("last")
    publisher.tokens.clear("1")
    for tab in tabs:
        assert tab.closed() == "closed 401"
        assert tab.log == ["last"]
    is_shared(daemon, 0)


def test_a_channel_that_is_removed_is_quiet_in_all_tabs(
    new_tab: Callable[[], Tab], daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, *ROOMS)
    tabs = [new_tab().connect(daemon.port, token).is_live() for _ in range(2)]
    publisher.publish("room:2", "heard")
    publisher.channels.remove("1", "room:2")
    publisher.publish("room:2", "behind their back")
    publisher.publish("room:1", "still")
    for tab in tabs:
        tab.hears("heard", "still")


def test_all_tabs_are_told_of_what_is_gone(
    new_tab: Callable[[], Tab], proxy: Proxy, redis_server: RedisServer
) -> None:
    with Publisher(redis_server.url, retain_messages=3) as publisher:
        token = subscribe(publisher, *ROOMS)
        tabs = [new_tab().connect(proxy.port, token).is_live() for _ in range(3)]
        publisher.publish("room:1", "seen")
        for tab in tabs:
            tab.hears("seen")
        with away(proxy):
            for number in range(10):
                publisher.publish("room:1", str(number))
        for tab in tabs:
            gone = {"reason": "not-retained", "channels": ["room:1"]}
            tab.hears("seen", gone, "7", "8", "9")


def test_a_network_that_holds_back_streams_is_got_through(
    new_tab: Callable[[], Tab], proxy: Proxy, publisher: Publisher
) -> None:
    def hold_back(link: Link, data: bytes) -> bytes:
        is_stream = b"text/event-stream" in link.sent and b"OPTIONS" not in link.sent[:8]
        return b"" if is_stream else data

    proxy.down = hold_back
    tab = new_tab()
    tab.run("hurry()")
    tab.connect(proxy.port, subscribe(publisher, *ROOMS)).is_live()
    publisher.publish("room:1", "through")
    tab.hears("through")
