"""What is fed, and what must hold: no exception, no line in the log, nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.broker.interface import Admission, Admitted, Holder
from sinapse.daemon import daemon as composition
from sinapse.errors import BrokerUnavailable, CloseReason, InvalidPayload, Unauthorized
from sinapse.framing.eventstream import EventStream, JSONEventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.websocket import WebSocket
from sinapse.hub.hub import Hub
from sinapse.protocol.message import Message, unpack
from sinapse.settings import resolve
from sinapse.sockets.forwarded import HEADERS, TrustedProxies
from sinapse.streams.websocketpeer import WebSocketPeer
from sinapse.web.http1 import HTTP1Channel
from sinapse.web.http2 import HTTP2Channel

#: A token that is good, and one for which Redis is away. Every other one is unknown.
TOKEN = b"t"
AWAY = b"a"

#: What begins every connection of HTTP/2 (RFC 9113 §3.4); the rest is frames.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

STATUSES = {
    101,
    200,
    204,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    413,
    414,
    415,
    426,
    429,
    431,
    503,
    505,
}


class Transport(StringTransport):
    """A transport without a socket, of a connection that a stream can take over."""

    wrappedProtocol: Any = None  # noqa: N815  # The names are Twisted's.
    aborted = False

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.1", 4711))

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = self.disconnecting = True

    def resumeProducing(self) -> None:  # noqa: N802
        """Do nothing once it ends, as those of sockets; that of the tests would raise."""
        if not self.disconnecting:
            super().resumeProducing()

    def loseWriteConnection(self) -> None:  # noqa: N802
        self.disconnecting = True


class Node:
    """A daemon without sockets, whose Redis is made up."""

    def __init__(self) -> None:
        self.clock = Clock()
        former, composition.reactor = composition.reactor, self.clock
        try:
            self._daemon = composition.Daemon(resolve({}, {}))
        finally:
            composition.reactor = former
        self.streams = self._daemon._streams
        self.site = self._daemon._site
        broker: Any = self._daemon._broker
        self.hub: Hub = broker.hub
        broker.admit = self._admit
        broker.expiry = self._expiry

    async def _admit(self, token: bytes) -> Admission:
        joining = self.hub.join()
        try:
            expires = await self._expiry(token)
            self.hub.expect(joining, b"1", token, {b"news": 0})
        except BaseException:
            self.hub.abandon(joining)
            raise
        return Admission(token, Holder(b"1", None), expires, {0: Admitted(joining, None)})

    async def _expiry(self, token: bytes) -> float | None:
        if token == AWAY:
            raise BrokerUnavailable("away")
        if token != TOKEN:
            raise Unauthorized("unknown token")
        return None

    def feed(self, protocol: Any, pieces: Iterator[bytes]) -> bytes:
        """Connect, feed what a client sends, disconnect; return what it was answered."""
        transport = Transport()
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        for piece in pieces:
            if transport.aborted:
                break
            transport.wrappedProtocol.dataReceived(piece)
            self._take_turns()
        self.hub.dispatch(b"news", Message("hello"))
        self.hub.flush()
        self.clock.advance(60)
        transport.wrappedProtocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(60)
        answer: bytes = transport.value()
        return answer

    def _take_turns(self) -> None:
        """Let everything be done that need not wait."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def check(self) -> None:
        """Nothing is left of who was here."""
        assert not self.streams._open
        assert not self.hub.subjects
        assert not self.hub.channels
        assert self.streams.backlog.bytes == 0
        assert self.streams._limits._count == 0
        assert not self.clock.getDelayedCalls()


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut `data` up as a network might: its first byte says how."""
    size = (data[0] if data else 0) * 4 or 1 << 20
    for start in range(1, len(data), size):
        yield data[start : start + size]


@contextmanager
def silence() -> Iterator[None]:
    """Fail if anything is logged that is a fault of ours."""
    faults: list[Any] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_failure") or event["log_level"] >= LogLevel.warn:
            faults.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    for event in faults:
        failure = event.get("log_failure")
        raise AssertionError(failure.getTraceback() if failure else event)


_NODE: list[Node] = []


def _node() -> Node:
    if not _NODE:
        _NODE.append(Node())
    return _NODE[0]


def http(data: bytes) -> None:
    """Whatever a client says over HTTP/1, it is answered in HTTP, and forgotten."""
    node = _node()
    with silence():
        channel: HTTP1Channel = node.site.buildProtocol(None)
        answer = node.feed(channel, pieces(data))
    node.check()
    if answer:
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
        assert status is not None, answer
        assert int(status[1]) in STATUSES | {100}, answer


def http2(data: bytes) -> None:
    """Whatever frames a client sends over HTTP/2."""
    node = _node()
    with silence():
        node.feed(HTTP2Channel(node.site), pieces(data[:1] + PREFACE + data[1:]))
    node.check()


def websocket(data: bytes) -> None:
    """Whatever a client sends over a WebSocket that is open, with compression agreed on or not."""
    for compresses in (False, True):
        _websocket(data, WebSocketPeer(compresses=compresses))


def _websocket(data: bytes, peer: WebSocketPeer) -> None:
    reply = b""
    for piece in pieces(data):
        received = peer.receive(piece)
        reply += received.reply
        assert received.reason is None or isinstance(received.reason, CloseReason)
        if received.reason is not None:
            break
    assert len(reply) <= len(data) + 200
    assert peer.ping()


FRAMINGS = (
    EventStream(chunked=True),
    EventStream(chunked=False),
    EventStream(chunked=True, compress=0),
    JSONEventStream(chunked=False),
    WebSocket(),
    WebSocket(compress=0),
    JSONList(),
)


def payload(data: bytes) -> None:
    """Whatever a publisher sends, it is a message or skipped, and breaks out of no frame."""
    try:
        message = unpack(data)
    except InvalidPayload:
        return
    for framing in FRAMINGS:
        framing.encode(b"room:\n1", [message])
    text = FRAMINGS[1].encode(b"room", [message])
    assert text.endswith(b"\n\n")
    assert text.count(b"\n\n") == 1
    for line in text.rstrip(b"\n").split(b"\n"):
        assert line.startswith((b"data: ", b"event: ", b"id: "))
        assert b"\r" not in line


def forwarded(data: bytes) -> None:
    """Whatever stands in the header fields of proxies."""
    for header in HEADERS:
        proxies = TrustedProxies(["10.0.0.0/8"], header)
        client = proxies.client("10.0.0.1", [data, data])
        assert proxies.trusts(client) == (proxies.counted(client) is None)
        assert proxies.client("192.0.2.1", [data]) == "192.0.2.1"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "http": http,
    "http2": http2,
    "websocket": websocket,
    "payload": payload,
    "forwarded": forwarded,
}
