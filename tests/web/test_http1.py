"""Bad input: each kind has its status, costs little, and no traceback appears anywhere."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Request

from sinapse.publisher import Publisher
from sinapse.web.answers import NotFound
from sinapse.web.http1 import HTTP1Channel
from sinapse.web.limits import MAX_FIELDS, REQUESTS_PER_SECOND, RequestLimits
from sinapse.web.site import Site
from tests.support import EVENT_TIMEOUT, RedisServer, Turns, eventually
from tests.support.daemon import Daemon
from tests.support.subscribing import subscribe

LIMITS = RequestLimits()
DEADLINE = int(LIMITS.timeout)
MAX_HEADER = LIMITS.header
MAX_BODY = LIMITS.body

GET = b"GET /status HTTP/1.1\r\nHost: a\r\n"


def connect(daemon: Daemon) -> socket.socket:
    assert isinstance(daemon.address, int)
    return socket.create_connection(("127.0.0.1", daemon.address), EVENT_TIMEOUT)


def exchange(daemon: Daemon, request: bytes) -> bytes:
    """Send `request`, and return everything until the daemon closes."""
    with connect(daemon) as client:
        with contextlib.suppress(ConnectionError):  # Refused before it was read whole.
            client.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(65536):
                received += data
        return received


def long_query(length: int) -> bytes:
    return b"GET /?access_token=" + b"x" * length + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (long_query(100_000), b"414 URI Too Long"),
        (GET + b"A: " + b"x" * 100_000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        (GET + b"A: x\r\n" * 2000 + b"\r\n", b"431 Request Header Fields Too Large"),
        (
            GET + b"".join(b"A%d: x\r\n" % n for n in range(MAX_FIELDS + 1)) + b"\r\n",
            b"431 Request Header Fields Too Large",
        ),
        (GET + b"no colon\r\n\r\n", b"400 Bad Request"),
        (GET + b"A b: c\r\n\r\n", b"400 Bad Request"),
        (GET + b"A: b\0c\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/9.9 x y\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400 Bad Request"),
        (b"\0" * 100 + b"\r\n\r\n", b"400 Bad Request"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"400 Bad Request",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
            b"400 Bad Request",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"400 Bad Request",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello", b"400 Bad Request"),
        (GET + b"a" * 300 + b": b\r\n\r\n", b"431 Request Header Fields Too Large"),
        (GET + b"Host: a\r\n\r\n", b"400 Bad Request"),
        (b"GET /status HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /status HTTP/1.1\r\nHost: a b\r\n\r\n", b"400 Bad Request"),
        (b"GET /status HTTP/1.1\r\nHost: u@a\r\n\r\n", b"400 Bad Request"),
        (b"GET http://a@b/status HTTP/1.1\r\nHost: a\r\n\r\n", b"400 Bad Request"),
        (GET + b"Transfer-Encoding: identity\r\n\r\n", b"400 Bad Request"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"413 Content Too Large",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n\r\n",
            b"413 Content Too Large",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n",
            b"413 Content Too Large",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"1000\r\n" + b"x" * 0x1000 + b"\r\n") * 20,
            b"413 Content Too Large",
        ),
    ],
)
def test_a_bad_request_is_refused_with_its_status(
    daemon: Daemon, request_: bytes, status: bytes
) -> None:
    received = exchange(daemon, request_)
    assert received.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Connection: close" in received
    assert b"Traceback" not in received
    assert "Traceback" not in daemon.log
    assert daemon.get("/status").status == 200


def test_what_is_posted_in_excess_is_not_read(daemon: Daemon) -> None:
    """200 MB are refused by their announcement; a client that sends on is cut off."""
    with connect(daemon) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * 200_000_000)


def test_a_request_of_just_the_largest_size_is_served(daemon: Daemon) -> None:
    head = b"GET /status HTTP/1.1\r\nConnection: close\r\nHost: a\r\nA: "
    request = head + b"x" * (MAX_HEADER - len(head)) + b"\r\n\r\n"
    assert exchange(daemon, request).startswith(b"HTTP/1.1 200 OK\r\n")
    body = b"access_token=".ljust(MAX_BODY, b"x")
    form = b"Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
    request = b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b"
    assert exchange(daemon, request % (form, len(body), body)).startswith(b"HTTP/1.1 401 ")


def test_random_bytes_leave_no_traceback(daemon: Daemon) -> None:
    source = random.Random(26)
    pieces = [GET, b"\r\n\r\n", b"POST / HTTP/1.1\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\n"]
    for _ in range(100):
        with connect(daemon) as client, contextlib.suppress(ConnectionError):
            for _ in range(source.randrange(1, 8)):
                client.sendall(source.choice([*pieces, source.randbytes(source.randrange(300))]))
    assert daemon.get("/status").status == 200
    assert "Traceback" not in daemon.log


def test_pipelined_requests_are_answered_in_turn(daemon: Daemon) -> None:
    received = exchange(daemon, (GET + b"\r\n") * 3 + GET + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 4


@pytest.mark.parametrize(
    "target", ["http://push.example/status?a", "HTTP://a:80/status", "//status", "///status"]
)
def test_a_target_may_name_the_server_or_have_slashes_too_many(daemon: Daemon, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert exchange(daemon, request.encode()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (b"application/x-www-form-urlencoded", b"access_token=x", b"401 Unauthorized"),
        (b"Application/X-WWW-Form-Urlencoded ; charset=utf-8", b"access_token=x", b"401 "),
        (b"application/x-www-form-urlencoded", b"a=&" * 1000, b"400 Bad Request"),
        (b"multipart/form-data; boundary=x", b"--x--", b"415 Unsupported Media Type"),
        (b"text/plain; name*", b"x", b"415 "),
        (b"a/b;n*0*", b"x", b"415 "),
        (b"(" * 1000, b"x", b"415 "),
        (b"a\x85/b", b"x", b"415 "),
    ],
)
def test_a_body_is_a_form_or_refused(
    daemon: Daemon, kind: bytes, body: bytes, status: bytes
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: " + kind
    request = head + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert exchange(daemon, request).startswith(b"HTTP/1.1 " + status)
    assert "Traceback" not in daemon.log


class TestPipelining:
    """Requests that come before the one in front is answered."""

    REQUEST = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"

    @staticmethod
    def answers(transport: StringTransport) -> int:
        written: bytes = transport.value()
        return written.count(b"HTTP/1.1 404 ")

    def test_each_has_a_turn_of_its_own_and_nothing_is_read_meanwhile(self) -> None:
        channel, transport, clock = TestDeadline.channel()
        channel.dataReceived(self.REQUEST * 5 + self.REQUEST[:10])
        for count in range(1, 5):
            assert self.answers(transport) == count
            assert transport.producerState == "paused"
            clock.turn()
        assert self.answers(transport) == 5
        channel.dataReceived(self.REQUEST[10:])
        clock.turn()
        assert self.answers(transport) == 6
        assert transport.producerState == "producing"

    def test_they_are_handled_no_faster_than_they_may_come(self) -> None:
        channel, transport, clock = TestDeadline.channel()
        channel.dataReceived(self.REQUEST * 3 * REQUESTS_PER_SECOND)
        for _ in range(3 * REQUESTS_PER_SECOND):
            clock.turn()
        assert REQUESTS_PER_SECOND <= self.answers(transport) <= REQUESTS_PER_SECOND + 1
        for _ in range(300):
            clock.advance(0.01)
        assert self.answers(transport) == 3 * REQUESTS_PER_SECOND

    def test_while_the_answers_are_not_taken_none_is_handled(self) -> None:
        channel, transport, clock = TestDeadline.channel()
        channel.dataReceived(self.REQUEST * 3)
        channel.pauseProducing()
        clock.advance(0)
        assert self.answers(transport) == 1
        channel.resumeProducing()
        clock.advance(0)
        assert self.answers(transport) == 3

    def test_what_follows_the_last_is_dropped(self) -> None:
        channel, transport, clock = TestDeadline.channel()
        last = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        channel.dataReceived(last + self.REQUEST * 3)
        clock.advance(0)
        assert self.answers(transport) == 1
        assert transport.disconnecting


class Broken(Resource):
    """A fault of ours."""

    isLeaf = True  # noqa: N815

    def render(self, request: Request) -> int:
        raise RuntimeError(f"unexpected {request.method!r}\n" + "x" * 10_000)


def test_what_we_fail_to_answer_is_a_500_and_one_line_a_while() -> None:
    clock = Clock()
    refused: Counter[str] = Counter()
    site = Site(Broken(), clock, LIMITS, refused=refused)
    said: list[str] = []
    site.faults._error._emit = said.append
    for _ in range(50):
        channel, transport = site.buildProtocol(None), StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(TestPipelining.REQUEST)
        assert transport.value().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"Content-Security-Policy" in transport.value()
        assert b"unexpected" not in transport.value()
        channel.connectionLost()
    (line,) = said
    assert "Traceback" in line
    assert len(line) < 3000
    assert refused == {"internal server error": 50}


def test_a_node_that_ends_waits_for_requests_and_not_for_idle_connections() -> None:
    clock = Clock()
    site = Site(NotFound(), clock, LIMITS)

    def accepted() -> HTTP1Channel:
        channel = site.buildProtocol(None)
        channel.makeConnection(StringTransport())
        return channel

    asked, idle, gone, silent = accepted(), accepted(), accepted(), accepted()
    idle.dataReceived(TestPipelining.REQUEST)
    silent.dataReceived(b"GET / HT")
    waiting = Deferred.fromCoroutine(site.settle(1))
    asked.dataReceived(TestPipelining.REQUEST)
    gone.connectionLost()
    seen = []
    for step in (0.9, 0.2):  # It does not wait for ever.
        seen.append(waiting.called)
        clock.advance(step)
    assert (*seen, waiting.called) == (False, False, True)
    silent.dataReceived(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert not site.pending


def test_who_was_accepted_before_the_end_is_answered(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    daemon = Daemon(tmp_path, redis_server.url).start()
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(daemon)) for _ in range(20)]
            # Connections are accepted in the order of their coming.
            assert daemon.get("/status").status == 200
            os.kill(daemon.pid, signal.SIGTERM)

            def is_refused() -> bool:
                with contextlib.suppress(ConnectionRefusedError), connect(daemon):
                    return False
                return True

            eventually(is_refused)
            for client in clients:
                client.sendall(GET + b"\r\n")
            for client in clients:
                assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        daemon.stop()


@pytest.mark.parametrize("feed", [b"", b"x"], ids=["silence", "a byte a second"])
def test_half_a_request_is_closed_at_the_deadline(daemon: Daemon, feed: bytes) -> None:
    with connect(daemon) as client:
        client.sendall(GET + b"X-Slow: ")
        client.settimeout(1)
        received = b""
        for _ in range(3 * DEADLINE):
            try:
                data = client.recv(65536)
            except TimeoutError:
                client.sendall(feed)
                continue
            if not data:
                break
            received += data
        else:
            pytest.fail("still open")
        assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


class TestHalfClosed:
    """Clients that say with the request that they say no more, as `nc -N` does."""

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (GET + b"\r\n", b"200 OK"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"400 Bad Request"),
            (b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n", b"404 Not Found"),
            (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", b"405 Method Not Allowed"),
            (long_query(100_000), b"414 URI Too Long"),
            (GET + b"A: " + b"x" * 100_000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        ],
        ids=["fine", "no token", "no such page", "no such method", "URL", "header field"],
    )
    def test_the_answer_comes_all_the_same(
        self, daemon: Daemon, request_: bytes, status: bytes
    ) -> None:
        for _ in range(20):  # Whether both come in one read is chance.
            with connect(daemon) as client:
                client.sendall(request_)
                client.shutdown(socket.SHUT_WR)
                received = b""
                while data := client.recv(65536):
                    received += data
            assert received.startswith(b"HTTP/1.1 " + status), received
            assert received.count(b"HTTP/1.1") == 1

    def test_a_stream_of_one_has_ended(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        with connect(daemon) as client:
            client.sendall(f"GET /?access_token={token} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)


class TestDeadline:
    """The deadline, by a clock that the test turns."""

    @staticmethod
    def channel() -> tuple[HTTP1Channel, Any, Turns]:
        clock = Turns()
        channel = Site(NotFound(), clock, LIMITS).buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        return channel, transport, clock

    @pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
    def test_bytes_do_not_put_it_off(self, pace: float) -> None:
        channel, transport, clock = self.channel()
        for byte in GET + b"X: " + b"x" * 100:
            if clock.seconds() + pace >= DEADLINE:
                break
            channel.dataReceived(bytes([byte]))
            clock.advance(pace)
            assert not transport.value()
        clock.advance(DEADLINE - clock.seconds())
        assert transport.value().startswith(b"HTTP/1.1 408 ")

    def test_a_connection_that_never_asks_is_just_closed(self) -> None:
        _, transport, clock = self.channel()
        clock.advance(DEADLINE)
        assert transport.value() == b""
        assert transport.disconnected

    def test_the_next_request_has_as_much_time(self) -> None:
        channel, transport, clock = self.channel()
        for _ in range(5):
            channel.dataReceived(b"GET / HT")
            clock.advance(DEADLINE - 1)
            channel.dataReceived(b"TP/1.1\r\nHost: a\r\n\r\n")
            assert transport.value().startswith(b"HTTP/1.1 404 ")
            transport.clear()
            clock.advance(LIMITS.idle - 1)
        channel.dataReceived(b"GET / HT")
        clock.advance(DEADLINE)
        assert transport.value().startswith(b"HTTP/1.1 408 ")

    def test_a_connection_that_stays_is_closed_in_good_order_after_a_while(self) -> None:
        channel, transport, clock = self.channel()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        clock.advance(LIMITS.idle - 1)
        assert not transport.disconnecting
        clock.advance(1)
        assert transport.disconnecting
        assert not transport.disconnected  # That would be a reset, and lose what is on its way.


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_junk_on_a_refused_connection_costs_no_memory(daemon: Daemon) -> None:
    before = resident_bytes(daemon.pid)
    with connect(daemon) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"junk\r\n\r\n")
        for _ in range(500):
            client.sendall(b"x" * 100_000)
    assert resident_bytes(daemon.pid) - before < 20_000_000
