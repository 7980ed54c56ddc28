"""HTTP/2: a real daemon with clients that know what they may not do; time is the test's."""

# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.daemon.daemon import Daemon
from sinapse.errors import CloseReason, StartError
from sinapse.framing.eventstream import EventStream
from sinapse.publisher import Publisher
from sinapse.settings import resolve
from sinapse.sockets.ending import READ_TIMEOUT
from sinapse.streams.backlog import Backlog
from sinapse.streams.connection import Connection
from sinapse.streams.takeover import take_over
from sinapse.web.answers import respond
from sinapse.web.exchange import Exchange
from sinapse.web.http2 import (
    _SETTINGS,
    CANCELS_PER_SECOND,
    HEADER_TABLE_SIZE,
    HTTP2Channel,
)
from sinapse.web.intake import PART_SIZE, Intake
from sinapse.web.limits import FRAMES_PER_SECOND, MAX_FIELDS, REQUESTS_PER_SECOND, RequestLimits
from sinapse.web.site import Site
from tests.support import RedisServer, Turns, eventually
from tests.support.browser import Browser, Page, _first_browser, browser
from tests.support.certificates import root
from tests.support.daemon import OPENING
from tests.support.http2client import WINDOW, Answer, Client, Peer
from tests.support.subscribing import subscribe
from tests.support.tls import SecureDaemon, secure_daemon

LIMITS = RequestLimits()
DEADLINE = LIMITS.timeout

ACCEPT = ("accept", "text/event-stream")


@pytest.fixture(scope="session")
def context() -> ssl.SSLContext:
    return root().client("h2", "http/1.1")


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    redis_process: RedisServer,
    certificate: Path,
    context: ssl.SSLContext,
) -> Iterator[SecureDaemon]:
    """One daemon for those tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("daemon")
    arguments = f"ssl:privateKey={certificate}"
    options = ("--keep-alive", "3600", "--max-pending", "262144")
    with secure_daemon(folder, redis_process, context, arguments, *options) as secure:
        yield secure


@pytest.fixture
def secure(shared: SecureDaemon, redis_server: RedisServer) -> SecureDaemon:
    """Return the shared daemon, on an empty Redis and with no stream open."""
    eventually(lambda: streams(shared) == 0)
    return shared


@pytest.fixture
def client(secure: SecureDaemon) -> Iterator[Client]:
    with Client(secure.port, secure.context) as client:
        yield client


def streams(secure: SecureDaemon) -> float:
    return secure.daemon.metrics()["sinapse_streams event stream"]


def closed(secure: SecureDaemon, reason: str) -> float:
    return secure.daemon.metrics().get(f"sinapse_streams_closed_total {reason}", 0)


def opened(client: Client, token: str, *fields: tuple[str, str]) -> Answer:
    """Open an event stream."""
    answer = client.request(f"/?access_token={token}", [ACCEPT, *fields])
    client.wait_for("data: ok\n\n", answer)
    return answer


def position(answer: Answer) -> str:
    """Return the last id that has come."""
    return answer.body.rpartition(b"id: ")[2].partition(b"\n")[0].decode()


class TestStreams:
    """Many on one connection."""

    def test_messages_come_to_all_in_order(
        self, secure: SecureDaemon, client: Client, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        answers = [opened(client, token) for _ in range(100)]
        for number in range(20):
            publisher.publish("room:1", f"<{number}>")
        client.wait_for("<19>", *answers)
        for answer in answers:
            places = [answer.body.index(b"<%d>" % number) for number in range(20)]
            assert places == sorted(places)
        assert streams(secure) == 100

    def test_the_head_is_that_of_every_event_stream(
        self, client: Client, publisher: Publisher
    ) -> None:
        answer = opened(client, subscribe(publisher), ("origin", "https://app.example"))
        assert answer.status == 200
        assert answer.fields["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.fields["cache-control"] == "no-store, no-transform"
        assert answer.fields["server"].startswith("Sinapse/")
        assert answer.fields["access-control-allow-origin"] == "https://app.example"
        assert not {"connection", "transfer-encoding", "content-length"} & {*answer.fields}
        lines = answer.body.splitlines(keepends=True)
        assert b"".join(line for line in lines if not line.startswith(b"id:")) == OPENING

    def test_one_is_cancelled_and_the_others_go_on(
        self, secure: SecureDaemon, client: Client, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        cancelled, other = opened(client, token), opened(client, token)
        client.cancel(cancelled)
        eventually(lambda: streams(secure) == 1)
        publisher.publish("room:1", "hello")
        client.wait_for("hello", other)
        assert b"hello" not in cancelled.body
        client.close()
        eventually(lambda: streams(secure) == 0)

    def test_one_resumes(self, client: Client, publisher: Publisher) -> None:
        token = subscribe(publisher)
        first = opened(client, token)
        client.cancel(first)
        for number in range(500):
            publisher.publish("room:1", f"<{number}>")
        second = opened(client, token, ("last-event-id", position(first)))
        client.wait_for("<499>", second)
        seen = [line for line in second.body.splitlines() if line.startswith(b"data: <")]
        assert seen == [b"data: <%d>" % number for number in range(500)]

    def test_lists_are_live(self, client: Client, publisher: Publisher) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        answer = opened(client, token)
        publisher.channels.remove("1", "room:1")
        publisher.publish("room:1", "not for you")
        publisher.publish("room:2", "for you")
        client.wait_for("for you", answer)
        assert b"not for you" not in answer.body

    def test_a_revoked_token_ends_its_streams_and_no_other(
        self, client: Client, publisher: Publisher
    ) -> None:
        ended = opened(client, subscribe(publisher))
        publisher.channels.add("2", "room:1")
        other = opened(client, publisher.tokens.generate("2"))
        publisher.tokens.clear("1")
        client.whole(ended)
        assert ended.is_ended
        assert ended.reset is None
        publisher.publish("room:1", "hello")
        client.wait_for("hello", other)

    def test_a_large_message_comes_whole(self, secure: SecureDaemon, publisher: Publisher) -> None:
        text = "0123456789" * 20_000
        # As much room as there is by default, and more when there is none left.
        with Client(secure.port, secure.context, window=65535, shared=65535) as client:
            answer = opened(client, subscribe(publisher))
            publisher.publish("room:1", text)
            publisher.publish("room:1", "the end")
            while b"the end" not in answer.body:
                before = len(answer.body)
                client.read()
                if more := len(answer.body) - before:
                    client.make_room(more, answer)
                    client.make_room(more)
            assert f"data: {text}\n".encode() in answer.body

    def test_what_is_quiet_is_kept_alive(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        certificate: Path,
        context: ssl.SSLContext,
    ) -> None:
        arguments = f"ssl:privateKey={certificate}"
        with (
            secure_daemon(tmp_path, redis_server, context, arguments, "-k", "0.2") as secure,
            Client(secure.port, secure.context) as client,
        ):
            token = subscribe(publisher)
            answers = [opened(client, token) for _ in range(3)]
            client.wait_for(":\n\n:\n\n:\n\n", *answers)


class TestSlowConsumers:
    """Each stream has its own bound."""

    def fill(
        self,
        secure: SecureDaemon,
        publisher: Publisher,
        slow: int,
        read: Callable[[str], None] = lambda _: None,
    ) -> int:
        """Publish until so many streams were too slow; returns how many messages that took.

        `read` is called after each of them, with how it begins.
        """
        before, published = closed(secure, "slow consumer"), 0
        while closed(secure, "slow consumer") < before + slow:
            publisher.publish("room:1", f"<{published:06}> {'x' * 20_000}")
            read(f"<{published:06}>")
            published += 1
        return published

    def test_one_that_has_no_room_is_reset_and_the_others_miss_nothing(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with Client(secure.port, secure.context, window=65535) as client:
            slow, other = opened(client, token), opened(client, token)
            client.make_room(WINDOW - 65535, other)
            published = self.fill(secure, publisher, 1, lambda text: client.wait_for(text, other))
            client.whole(slow)
            assert slow.reset == ErrorCodes.CANCEL
            assert streams(secure) == 1
            again = opened(client, token, ("last-event-id", position(slow)))
            client.make_room(WINDOW - 65535, again)
            client.wait_for(f"<{published - 1:06}>", again)
            numbers = [b"<%06d>" % number for number in range(published)]
            assert all(number in slow.body + again.body for number in numbers)
            assert all(number in other.body for number in numbers)

    def test_all_share_what_there_is(self, secure: SecureDaemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        with Client(secure.port, secure.context, shared=65535) as client:
            answers = [opened(client, token) for _ in range(5)]
            published = self.fill(secure, publisher, slow=5)
            for answer in answers:
                client.whole(answer)
                assert answer.reset == ErrorCodes.CANCEL
            # The connection is as good as ever.
            client.make_room(WINDOW)
            again = opened(client, token, ("last-event-id", position(answers[0])))
            client.wait_for(f"<{published - 1:06}>", again)
            numbers = [b"<%06d>" % number for number in range(published)]
            assert all(number in answers[0].body + again.body for number in numbers)

    def test_who_reads_nothing_at_all_is_bounded_as_well(
        self, secure: SecureDaemon, client: Client, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        start = opened(client, token)
        others = [opened(client, token) for _ in range(9)]
        published = self.fill(secure, publisher, slow=10)
        assert streams(secure) == 0
        client.read_until(lambda: all(each.reset is not None for each in (start, *others)))
        with Client(secure.port, secure.context) as fresh:
            again = opened(fresh, token, ("last-event-id", position(start)))
            fresh.wait_for(f"<{published - 1:06}>", again)
            numbers = [b"<%06d>" % number for number in range(published)]
            assert all(number in start.body + again.body for number in numbers)


class TestAnswers:
    """Everything but streams: as over HTTP/1.1."""

    def test_short_ones(self, client: Client) -> None:
        for path, method, status in (
            ("/status", "GET", 200),
            ("/ready", "GET", 200),
            ("/nothing", "GET", 404),
            ("/", "GET", 400),
            ("/", "DELETE", 405),
            ("/?access_token=unknown", "GET", 401),
            ("/status", "HEAD", 200),
        ):
            answer = client.whole(client.request(path, method=method))
            assert answer.status == status
            assert (answer.body == b"") == (method == "HEAD")
            assert answer.fields.get("content-length", "0") == str(len(answer.body))
            assert answer.reset is None

    def test_a_preflight(self, client: Client) -> None:
        fields = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
        ]
        answer = client.whole(client.request("/", fields, method="OPTIONS"))
        assert answer.status == 204
        assert answer.fields["access-control-allow-origin"] == "https://app.example"

    def test_tokens_come_in_forms_and_fields(self, client: Client, publisher: Publisher) -> None:
        token = subscribe(publisher)
        form = urlencode({"access_token": token}).encode()
        kind = ("content-type", "application/x-www-form-urlencoded")
        by_form = client.request("/", [ACCEPT, kind], method="POST", body=form)
        by_field = client.request("/", [ACCEPT, ("authorization", f"Bearer {token}")])
        client.wait_for("data: ok\n\n", by_form, by_field)
        publisher.publish("room:1", "hello")
        client.wait_for("hello", by_form, by_field)

    def test_a_long_poll(self, client: Client, publisher: Publisher) -> None:
        path = f"/?access_token={subscribe(publisher)}"
        accept = ("accept", "application/json")
        first = client.whole(client.request(path, [accept]))
        assert first.fields["content-type"] == "application/json"
        start = first.body.rpartition(b'"id":"')[2].partition(b'"')[0].decode()
        waiting = client.request(f"{path}&last_event_id={start}", [accept])
        cancelled = client.request(f"{path}&last_event_id={start}", [accept])
        client.cancel(cancelled)
        publisher.publish("room:1", "hello")
        assert b'"hello"' in client.whole(waiting).body

    def test_http_1_is_spoken_with_who_asks_for_it(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        plain = root().client()
        token = subscribe(publisher)
        for protocols in ([], ["http/1.1"]):
            if protocols:
                plain.set_alpn_protocols(protocols)
            with SecureDaemon(secure.daemon, secure.port, plain).stream(token).opened() as stream:
                assert stream.response.version == 11


class TestLimits:
    """What a client may not do, and what it is told."""

    @pytest.mark.parametrize(
        "fields",
        [
            [(f"a{number}", "x") for number in range(MAX_FIELDS)],
            [("a", "x" * LIMITS.header)],
        ],
        ids=["many fields", "large fields"],
    )
    def test_a_large_head_is_refused(self, client: Client, fields: list[tuple[str, str]]) -> None:
        assert client.whole(client.request("/status", fields)).status == 431
        assert client.whole(client.request("/status")).status == 200

    def test_a_head_that_is_large_when_it_is_decompressed_is_the_end(self) -> None:
        """A field that is said once, and then named 10,000 times with a byte (RFC 7541 §6)."""
        pair = Pair()
        field = b"\x40\x01a" + b"\x7f\xb9\x16" + b"x" * 3000
        request = b"\x82\x84\x87\x41\x01a"
        frame = HeadersFrame(1, request + field + b"\xbe" * 10_000)
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        pair.say(frame.serialize())
        pair.fetch()
        assert pair.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert pair.transport.disconnecting

    @pytest.mark.parametrize("is_declared", [True, False])
    def test_a_large_body_is_refused(self, client: Client, is_declared: bool) -> None:
        body = b"x" * (LIMITS.body + 1)
        fields = [("content-length", str(len(body)))] if is_declared else []
        answer = client.request("/", fields, method="POST", is_all=False)
        if not is_declared:
            number = client.number(answer)
            client.h2.send_data(number, body[:1000])
            client.h2.send_data(number, body[1000:])
            client.flush()
        client.read_until(lambda: answer.reset is not None)
        assert answer.status == 413
        assert answer.is_ended
        assert answer.reset == ErrorCodes.NO_ERROR
        assert client.whole(client.request("/status")).status == 200

    def test_one_that_came_whole_is_refused_as_well(self) -> None:
        pair = Pair()
        number = pair.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "a")]
        pair.h2.send_headers(number, head)
        pair.h2.send_data(number, b"x" * LIMITS.body)
        pair.h2.send_data(number, b"x", end_stream=True)
        answer = pair.answers[number] = Answer()
        pair.flush()
        pair.fetch()
        assert answer.status == 413
        assert answer.is_ended
        assert answer.reset is None

    def test_one_that_does_not_come_is_refused_alone(self, client: Client) -> None:
        client.h2.config.validate_outbound_headers = False
        answer = client.request("/status", [("content-length", "5")])
        assert client.whole(answer).status == 400
        assert client.whole(client.request("/status", [("content-length", "0")])).status == 200

    def test_connect_is_refused(self, client: Client) -> None:
        number = client.h2.get_next_available_stream_id()
        answer = client.answers[number] = Answer()
        client.h2.config.validate_outbound_headers = False
        client.h2.send_headers(number, [(":method", "CONNECT"), (":authority", "a:1")])
        client.flush()
        client.read_until(lambda: answer.is_ended or client.is_closed)
        assert answer.status == 400 if answer.fields else client.goodbye is not None

    def test_too_many_at_once_are_the_end(
        self, secure: SecureDaemon, client: Client, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        client.read_until(lambda: client.h2.remote_settings.max_concurrent_streams == 100)
        for _ in range(100):
            opened(client, token)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 200
        client.h2.remote_settings.acknowledge()
        client.request(f"/?access_token={token}")
        client.wait_for_end()
        assert client.goodbye is not None
        eventually(lambda: streams(secure) == 0)

    def test_a_flood_of_cancelled_requests_is_the_end(self, client: Client) -> None:
        # In one piece: after a write that failed TLS lets nobody read why.
        said: list[bytes] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "say", said.append)
            for _ in range(20 * CANCELS_PER_SECOND):
                client.cancel(client.request("/?access_token=x"))
        client.say(b"".join(said))
        client.wait_for_end()
        assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize("name", ["x/y", "x(y", "a@b", "a,b", '"'])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_name_that_is_none_is_refused_and_other_streams_go_on(
        self, secure: SecureDaemon, client: Client, publisher: Publisher, name: str, method: str
    ) -> None:
        stream = opened(client, subscribe(publisher))
        client.h2.config.validate_outbound_headers = False
        answer = client.whole(client.request("/status", [(name, "1")], method=method))
        assert answer.status == 400
        publisher.publish("room:1", "hello")
        client.wait_for("hello", stream)
        assert "Traceback" not in secure.daemon.log

    @pytest.mark.parametrize(
        "frame",
        [
            PingFrame(0, b"12345678").serialize(),
            SettingsFrame(0).serialize(),
            WindowUpdateFrame(0, window_increment=1).serialize(),
        ],
        ids=["PING", "SETTINGS", "WINDOW_UPDATE"],
    )
    def test_frames_are_handled_no_faster_than_they_may_come(self, frame: bytes) -> None:
        pair = Pair()
        pair.stream()  # So that there is no deadline.
        pair.say(frame * 3 * FRAMES_PER_SECOND)
        assert pair.transport.producerState == "paused"
        for _ in range(3 * _SETTINGS):
            pair.clock.pump([0.01] * 150)
        assert pair.transport.producerState == "producing"
        asked = pair.request("/")
        pair.fetch()
        assert asked.status == 200

    def test_requests_are_begun_no_faster_than_they_may_come(self) -> None:
        pair = Pair()
        for _ in range(REQUESTS_PER_SECOND + 10):
            pair.request("/")
            pair.hear(pair.transport.value())
            pair.transport.clear()
        begun = sum(bool(answer.fields) for answer in pair.answers.values())
        assert REQUESTS_PER_SECOND / 2 <= begun <= REQUESTS_PER_SECOND
        pair.clock.pump([0.01] * 100)
        pair.fetch()
        assert all(answer.is_ended for answer in pair.answers.values())

    def test_a_part_is_handled_in_a_turn_and_others_have_theirs(self) -> None:
        pair = Pair()
        pair.channel.dataReceived(WindowUpdateFrame(0, window_increment=1).serialize() * 500)
        turns = 0
        while pair.transport.producerState == "paused":
            pair.clock.turn()
            turns += 1
        assert turns >= 500 * 13 / PART_SIZE - 1

    def test_those_that_wait_are_asked_again_when_there_may_be_room_and_only_then(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = Pair(window=0)
        for _ in range(100):
            pair.request("/")
        asked: list[Exchange] = []

        def resume(exchange: Exchange) -> None:
            asked.append(exchange)

        monkeypatch.setattr(Exchange, "resume", resume)
        pair.clock.advance(1)
        pair.say(SettingsFrame(0).serialize() * 50)
        pair.say(WindowUpdateFrame(0, window_increment=1).serialize() * 50)
        pair.clock.advance(1)
        assert asked == []
        pair.say(WindowUpdateFrame(1, window_increment=1).serialize())
        assert [exchange.number for exchange in asked] == [1]

    def test_junk_is_the_end(self, client: Client) -> None:
        client.say(b"\0" * 9000)
        client.wait_for_end()
        assert client.goodbye is not None

    @pytest.mark.parametrize(
        "beginning",
        [
            b"\xff\xff\xff\0\0\0\0\0\1",  # DATA of 16 MiB.
            b"\0\0\0\1\0\0\0\0\3" + 5 * (b"\0\x40\0\x09\0\0\0\0\3" + b"\0" * 2**14),
        ],
        ids=["a frame", "a header section"],
    )
    def test_what_never_comes_whole_is_not_kept(self, beginning: bytes) -> None:
        pair = Pair()
        pair.stream()  # So that there is no deadline.
        pair.say(beginning)
        for _ in range(5):
            pair.say(b"\0" * 2**14 if beginning[0] else b"")
        pair.fetch()
        assert pair.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert pair.transport.disconnecting


class Endless(Resource):
    """Opens a stream for every GET that asks for one, and answers with 100,000 bytes otherwise."""

    isLeaf = True  # noqa: N815
    max_pending = 1024 * 1024

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.backlog = Backlog()
        self.streams: list[Connection] = []
        self.ends: list[CloseReason] = []

    def render(self, request: Request) -> int:
        if request.path != b"/stream":
            return respond(request, 200, b"x" * 100_000)
        channel: Any = request.channel
        channel.answer(200, [])
        stream = take_over(request, self, EventStream(chunked=False), b"token")
        self.streams.append(stream)
        return NOT_DONE_YET

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        assert connection in self.streams
        self.ends.append(reason)

    def closing(self, connection: Connection) -> None:
        raise AssertionError(connection)

    def intake(self, transport: Any, handle: Callable[[bytes], None]) -> Intake:
        raise AssertionError(transport)


class Pair(Peer):
    """A connection in memory, with both its ends."""

    def __init__(self, window: int = WINDOW, shared: int = WINDOW) -> None:
        super().__init__(window, shared)
        self.clock = Turns()
        self.root = Endless(self.clock)
        self.channel = HTTP2Channel(Site(self.root, self.clock))
        self.transport: Any = StringTransport()
        self.channel.makeConnection(self.transport)
        self.flush()
        self.fetch()

    def say(self, data: bytes) -> None:
        self.channel.dataReceived(data)
        for _ in range(0, len(data), PART_SIZE):  # A part of it in each turn.
            self.clock.advance(0)

    def fetch(self) -> None:
        """Take what the server has written."""
        data = self.transport.value()
        self.transport.clear()
        self.hear(data)
        self.flush()

    def stream(self) -> tuple[Answer, Connection]:
        answer = self.request("/stream")
        return answer, self.root.streams[-1]


class TestTime:
    """Deadlines, by a clock that the test turns."""

    def test_a_connection_on_which_nothing_is_open_is_closed(self) -> None:
        pair = Pair()
        pair.clock.advance(DEADLINE - 1)
        pair.request("/")
        pair.fetch()
        pair.clock.advance(LIMITS.idle - 1)
        assert not pair.transport.disconnecting
        pair.clock.advance(1)
        pair.fetch()
        assert pair.goodbye == ErrorCodes.NO_ERROR
        assert pair.transport.disconnecting

    def test_one_on_which_nothing_was_ever_asked_is_closed_sooner(self) -> None:
        pair = Pair()
        pair.clock.advance(DEADLINE)
        pair.fetch()
        assert pair.goodbye == ErrorCodes.NO_ERROR

    def test_half_a_request_on_a_quiet_connection_has_as_long_as_any(self) -> None:
        pair = Pair()
        pair.request("/")
        pair.fetch()
        pair.say(HeadersFrame(3, b"\x82").serialize())
        pair.clock.advance(DEADLINE - 1)
        assert not pair.transport.disconnecting
        pair.clock.advance(1)
        assert pair.transport.disconnecting

    def test_one_with_a_quiet_stream_is_not(self) -> None:
        pair = Pair()
        answer, stream = pair.stream()
        pair.clock.advance(24 * 3600)
        stream.send(b"hello")
        pair.fetch()
        assert answer.body == b"hello"
        pair.cancel(answer)
        assert pair.root.ends == [CloseReason.CLIENT_GONE]
        pair.clock.advance(LIMITS.idle)
        assert pair.transport.disconnecting

    def test_a_body_that_does_not_come_is_refused(self) -> None:
        pair = Pair()
        pair.stream()
        answer = pair.request("/", method="POST", body=b"a", is_all=False)
        pair.clock.advance(DEADLINE)
        pair.fetch()
        assert answer.status == 408
        assert answer.reset == ErrorCodes.NO_ERROR
        assert not pair.transport.disconnecting

    def test_an_answer_that_nobody_makes_room_for_is_dropped(self) -> None:
        pair = Pair(window=1000)
        answer = pair.request("/")
        pair.fetch()
        assert len(answer.body) == 1000
        pair.clock.advance(60)
        pair.fetch()
        assert answer.reset == ErrorCodes.CANCEL
        pair.clock.advance(LIMITS.idle)
        assert pair.transport.disconnecting

    def test_cancelled_requests_are_forgotten_in_time(self) -> None:
        pair = Pair()
        pair.stream()  # So that there is no deadline.
        for _ in range(3):
            for _ in range(CANCELS_PER_SECOND):
                pair.cancel(pair.stream()[0])
            assert not pair.transport.disconnecting
            pair.clock.advance(1)
        for _ in range(CANCELS_PER_SECOND + 1):
            assert not pair.transport.disconnecting
            pair.cancel(pair.stream()[0])
        assert pair.transport.disconnecting
        pair.fetch()
        assert pair.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


class TestGoing:
    """A node that is going: what is open goes on, what is new is asked for elsewhere."""

    @staticmethod
    def frames(pair: Pair) -> list[Frame]:
        """Return what the server has written: a client of ``h2`` ends with the first goodbye."""
        data = memoryview(pair.transport.value())
        pair.transport.clear()
        frames = []
        while data:
            frame, length = Frame.parse_frame_header(data[:9])
            frame.parse_body(data[9 : 9 + length])
            frames.append(frame)
            data = data[9 + length :]
        return frames

    def test_the_end_of_a_stream_says_so(self) -> None:
        pair = Pair()
        (_, ending), (_, other) = pair.stream(), pair.stream()
        ending.send(b"opened")
        other.send(b"opened")
        pair.fetch()
        pair.transport.clear()
        pair.channel.site.is_closing = True
        ending.close(CloseReason.SHUTDOWN)
        end, goodbye = self.frames(pair)
        assert (end.stream_id, "END_STREAM" in end.flags) == (1, True)
        assert isinstance(goodbye, GoAwayFrame)
        assert (goodbye.last_stream_id, goodbye.error_code) == (3, ErrorCodes.NO_ERROR)

        pair.request("/stream")
        (refused,) = self.frames(pair)
        assert isinstance(refused, RstStreamFrame)
        assert (refused.stream_id, refused.error_code) == (5, ErrorCodes.REFUSED_STREAM)

        other.send(b"hello")
        (hello,) = self.frames(pair)
        assert isinstance(hello, DataFrame)
        assert (hello.stream_id, hello.data) == (3, b"hello")
        other.close(CloseReason.SHUTDOWN)
        assert not pair.transport.disconnecting
        pair.clock.advance(0)
        assert pair.transport.disconnecting


class TestRoom:
    """What is written when."""

    def test_while_the_client_does_not_read_it_is_not_read(self) -> None:
        pair = Pair()
        answer, stream = pair.stream()
        pair.channel.pauseProducing()
        assert pair.transport.producerState == "paused"
        stream.send(b"one ")
        stream.send(b"other")
        pair.fetch()
        assert answer.body == b""
        pair.channel.resumeProducing()
        assert pair.transport.producerState == "producing"
        pair.fetch()
        assert answer.body == b"one other"

    def test_much_is_written_in_parts_between_which_the_transport_may_say_stop(self) -> None:
        pair = Pair()
        pair.h2.update_settings({SettingCodes.MAX_FRAME_SIZE: 2**20})
        pair.flush()
        answer, stream = pair.stream()
        pair.fetch()
        write = pair.transport.write

        def full(data: bytes) -> None:
            write(data)
            pair.channel.pauseProducing()

        pair.transport.write = full
        stream.send(b"x" * 1_000_000)
        assert len(pair.transport.value()) < 70_000
        pair.transport.write = write
        pair.channel.resumeProducing()
        pair.fetch()
        assert answer.body == b"x" * 1_000_000

    def test_those_that_wait_have_their_turns(self) -> None:
        pair = Pair(shared=65535)
        opened = [pair.stream() for _ in range(3)]
        for _, stream in opened:
            for _ in range(3):
                stream.send(b"x" * 100_000)
        seen = set()
        for _ in range(6):
            before = [len(answer.body) for answer, _ in opened]
            pair.make_room(10_000)
            pair.fetch()
            seen |= {n for n, (answer, _) in enumerate(opened) if len(answer.body) > before[n]}
        assert seen == {0, 1, 2}

    def test_a_stream_that_ends_while_others_wait_says_so(self) -> None:
        pair = Pair()
        (live, ending), (behind, slow) = pair.stream(), pair.stream()
        pair.fetch()
        pair.channel.pauseProducing()
        slow.send(b"x")
        ending.close(CloseReason.REVOKED)
        slow.close(CloseReason.REVOKED)
        assert pair.root.ends == []  # The hub is in its loop: nobody is told before the next turn.
        pair.clock.advance(0)
        assert pair.root.ends == [CloseReason.REVOKED] * 2
        pair.fetch()
        assert live.is_ended
        assert behind.reset == ErrorCodes.CANCEL

    def test_what_is_cancelled_with_what_would_use_it_does_no_harm(self) -> None:
        pair = Pair(window=0)
        answer, stream = pair.stream()
        stream.send(b"x" * 100)
        number = pair.number(answer)
        pair.h2.increment_flow_control_window(1000, number)
        pair.h2.reset_stream(number, ErrorCodes.CANCEL)
        asked = pair.request("/", method="POST", body=b"a", is_all=False)
        pair.cancel(asked)
        pair.h2.send_headers(
            pair.h2.get_next_available_stream_id(),
            [(":method", "GET"), (":path", "/stream"), (":scheme", "https"), (":authority", "a")],
        )
        pair.h2.close_connection(ErrorCodes.PROTOCOL_ERROR)
        pair.flush()
        assert pair.root.ends == [CloseReason.CLIENT_GONE]
        assert pair.transport.disconnecting

    def test_after_the_goodbye_of_a_client_what_is_open_goes_on(self) -> None:
        pair = Pair()
        answer, stream = pair.stream()
        pair.say(GoAwayFrame(0).serialize())
        stream.send(b"hello")
        pair.fetch()
        assert answer.body == b"hello"
        late = pair.request("/")
        pair.fetch()
        assert late.reset == ErrorCodes.REFUSED_STREAM
        pair.cancel(answer)
        pair.clock.advance(0)
        assert pair.transport.disconnecting

    def test_the_goodbye_of_a_client_that_has_nothing_open_is_the_end(self) -> None:
        pair = Pair()
        pair.say(GoAwayFrame(0).serialize())
        assert pair.transport.disconnecting

    def test_who_takes_a_long_answer_bit_by_bit_gets_it_whole(self) -> None:
        pair = Pair(window=1000)
        answer = pair.request("/")
        pair.fetch()
        for _ in range(99):
            pair.clock.advance(READ_TIMEOUT - 1)
            pair.make_room(1000, answer)
            pair.fetch()
        assert len(answer.body) == 100_000
        assert answer.is_ended

    def test_what_the_client_would_have_us_remember_is_bounded(self) -> None:
        pair = Pair()
        pair.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**24})
        pair.flush()
        for _ in range(3):
            pair.request("/")
            pair.fetch()
        assert pair.channel._state.encoder.header_table_size == HEADER_TABLE_SIZE

    def test_the_end_of_the_connection_is_the_end_of_all(self) -> None:
        pair = Pair()
        for _ in range(3):
            pair.stream()
        pair.channel.connectionLost()
        assert pair.root.ends == [CloseReason.CLIENT_GONE] * 3
        assert pair.clock.getDelayedCalls() == []


STEPS: list[st.SearchStrategy[tuple[str, int, int]]] = [
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 60_000)),
    st.tuples(st.just("room"), st.integers(0, 2), st.integers(1, 60_000)),
    st.tuples(st.just("room for all"), st.just(0), st.integers(1, 60_000)),
    st.tuples(st.sampled_from(["full", "not full", "fetch"]), st.just(0), st.just(0)),
]


@settings(max_examples=60, deadline=None)
@given(
    window=st.integers(0, 100_000),
    shared=st.sampled_from([65535, 100_000]),
    steps=st.lists(st.one_of(STEPS), max_size=40),
)
def test_in_any_interleaving_the_bytes_arrive_as_sent(
    window: int, shared: int, steps: list[tuple[str, int, int]]
) -> None:
    pair = Pair(window, shared)
    opened = [pair.stream() for _ in range(3)]
    sent = [b"", b"", b""]
    actions: dict[str, Callable[[], None]] = {
        "full": pair.channel.pauseProducing,
        "not full": pair.channel.resumeProducing,
        "fetch": pair.fetch,
    }
    for turn, (step, number, size) in enumerate(steps):
        answer, stream = opened[number]
        if step == "send":
            frame = bytes([turn % 256]) * size
            stream.send(frame)
            if stream._reason is None:
                sent[number] += frame
        elif step.startswith("room"):
            if pair.transport.producerState == "producing":
                pair.make_room(size, answer if step == "room" else None)
        else:
            actions[step]()
        assert stream.pending_bytes <= Endless.max_pending
    pair.channel.resumeProducing()
    pair.make_room(2**29)
    for (answer, stream), whole in zip(opened, sent, strict=True):
        if stream._reason is None:
            pair.make_room(2**29, answer)
            pair.fetch()
            assert answer.body == whole
            assert stream.pending_bytes == 0
        else:
            assert whole.startswith(answer.body)


@pytest.fixture
def own(
    tmp_path: Path, redis_server: RedisServer, certificate: Path, context: ssl.SSLContext
) -> Iterator[SecureDaemon]:
    """Run a daemon that can be restarted."""
    arguments = f"ssl:privateKey={certificate}"
    with secure_daemon(tmp_path, redis_server, context, arguments, "--retry", "0.2") as secure:
        yield secure


@pytest.mark.browser
def test_chromium_has_more_streams_than_six_and_comes_back(
    own: SecureDaemon, publisher: Publisher, browser: Browser
) -> None:
    token = subscribe(publisher)
    page = Page(browser, own.port, token)
    assert page.protocol == "h2"
    page.open_streams(20)  # Over HTTP/1.1 it would be six.
    page.sees("opened", times=20)
    for number in range(100):
        publisher.publish("room:1", f"{number}")
    page.sees("99", times=20)
    page.sees("0", times=20)
    assert streams(own) == 20

    own.daemon.stop()
    publisher.publish("room:1", "missed")
    own.daemon.start()
    page.sees("missed", times=20)
    page.sees("99", times=20)
    page.close()
    eventually(lambda: streams(own) == 0)
