"""The HTTP server: twisted.web with deadlines and limits, and without an access log.

A request is small: a header section and, for a POST, a token in a form. It must have arrived
whole some seconds after the connection was accepted, a TLS handshake included, or after the last
answer on it.
"""

import socket
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request as TwistedRequest
from twisted.web.server import Site as TwistedSite
from zope.interface import implementer

from sinapse.http2 import HTTP2Channel
from sinapse.limits import LINGER, MAX_FIELDS, REASONS, RequestLimits
from sinapse.safety import SAFETY

#: Bytes of what a refused client sends that are dropped: enough for one that had sent its request
#: already.
LINGER_BYTES = 256 * 1024

#: Seconds: TCP keep-alive finds a peer that is gone after 60 + 3 * 15 s of silence, and data
#: that nobody acknowledges ends the connection after 60 s.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 3
USER_TIMEOUT = 60


class Request(TwistedRequest):
    """A request whose text has no query string: that is where tokens are."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method!r} {self.path!r}>"

    channel: Any  # A `Channel`, or an exchange over HTTP/2.

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002, N802
        """Keep the body in memory: it is small, whether or not its length was told."""
        super().gotLength(0)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Handle the request, whose body may be a form."""
        kinds = self.requestHeaders.getRawHeaders(b"Content-Type", [])
        # RFC 9110 §8.3.1. Twisted takes some other characters for line breaks, and raises.
        if all(kind.isascii() and kind.decode().isprintable() for kind in kinds):
            super().requestReceived(command, path, version)
        else:
            self.channel.refuse(400)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Take a part of the body, which may come in chunks and so without its length."""
        if self.content is None:
            return
        if self.content.tell() + len(data) > self.channel.limits.body:
            self.channel.refuse(413)
        else:
            super().handleContentChunk(data)


@implementer(IHandshakeListener)
class Channel(HTTPChannel):
    """One connection of a client, until it becomes a stream or ends."""

    transport: Any  # No interface has all that is needed.
    site: "Site"
    _networkProducer: Any  # noqa: N815
    maxHeaders = MAX_FIELDS  # noqa: N815
    _linger: IDelayedCall | None = None
    _begun = False
    _refused = False
    _dropped = 0

    @property
    def limits(self) -> RequestLimits:
        """What a request may be."""
        return self.site.limits

    @property
    def totalHeadersSize(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of request line and header section."""
        return self.limits.header

    @property
    def MAX_LENGTH(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of a line: what is longer is refused before its end has come."""
        return self.limits.header if self.requests else self.limits.url

    def connectionMade(self) -> None:  # noqa: N802
        """Set the socket's options, and the deadline for the first request."""
        super().connectionMade()
        below = self.transport
        while isinstance(below, ProtocolWrapper):  # TLS, or who reads the PROXY protocol.
            below = below.transport
        handle = getattr(below, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            _find_dead_peers(handle)

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Make way if HTTP/2 is what was agreed upon with TLS."""
        if self.transport.negotiatedProtocol == b"h2":
            transport = self.hand_over()
            transport.wrappedProtocol = HTTP2Channel(self.site)
            transport.wrappedProtocol.makeConnection(transport)

    def hand_over(self) -> Any:
        """Return the transport, and never use it again; requests are forgotten."""
        transport = self.transport
        self.setTimeout(None)
        transport.unregisterProducer()
        # A client that sent more than its request may have been paused.
        transport.resumeProducing()
        # Request, channel and transport refer to one another: cut, they are freed at once.
        self.requests.clear()
        self.transport = self._networkProducer = None
        return transport

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take what the client sends, unless it was refused."""
        if not self._refused:
            self._begun = True
            super().dataReceived(data)
            return
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self.transport.pauseProducing()

    def allContentReceived(self) -> None:  # noqa: N802
        """Note that a request has arrived whole."""
        self._begun = False
        super().allContentReceived()

    def resetTimeout(self) -> None:  # noqa: N802
        """Do nothing, which makes a deadline of the idle timer: a byte a second is no excuse."""

    def timeoutConnection(self) -> None:  # noqa: N802
        """Answer 408 to half a request; a connection that is merely open is just closed."""
        if self._begun:
            self.refuse(408)
        else:
            self.transport.abortConnection()

    def writeHeaders(  # noqa: N802
        self, version: bytes, code: bytes, reason: bytes, headers: Headers
    ) -> None:
        """Write the head of an answer, which is the last one if the node is going."""
        if self.site.is_closing:
            headers.setRawHeaders(b"Connection", [b"close"])
            self.persistent = False
        super().writeHeaders(version, code, reason, headers)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002, N802
        """Refuse a line that is longer than the whole header section may be."""
        self.refuse(431 if self.requests else 414)

    def allHeadersReceived(self) -> None:  # noqa: N802
        """Refuse a large body before any of it is read, and before a 100 Continue."""
        if self.length is not None and self.length > self.limits.body:
            self.refuse(413)
        else:
            super().allHeadersReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        """Refuse what the base class found wrong."""
        is_large = (
            self._receivedHeaderSize > self.limits.header or self._receivedHeaderCount > MAX_FIELDS
        )
        self.refuse(431 if is_large else 400)

    def refuse(self, status: int) -> None:
        """Answer and disconnect, without reading the rest.

        The connection is closed for writing only at first: a close with unread data in the
        socket would be a reset, and could take the answer with it.
        """
        if self._refused:
            return
        self._refused = True
        self.paused = True  # Parse no more of what was read already.
        self.setTimeout(None)
        text = b"%d %b" % (status, REASONS[status])
        fields = (
            (b"Connection", b"close"),
            (b"Content-Type", b"text/plain"),
            (b"Content-Length", b"%d" % (len(text) + 1)),
            (b"Cache-Control", b"no-store"),
            *SAFETY,
        )
        head = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n%b\n" % (text, head, text))
        close = getattr(self.transport, "loseWriteConnection", self.transport.loseConnection)
        close()
        self._linger = self.callLater(LINGER, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Let go of the connection."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)


class Site(TwistedSite):
    """Serves `root` to requests within `limits`; with `http2`, over TLS, in HTTP/2 as well."""

    noisy = False
    #: Every connection ends with the next answer on it.
    is_closing = False

    def __init__(
        self,
        root: IResource,
        reactor: Any,
        limits: RequestLimits | None = None,
        *,
        http2: bool = False,
    ) -> None:
        limits = limits or RequestLimits()
        super().__init__(root, requestFactory=Request, timeout=limits.timeout, reactor=reactor)
        self.limits = limits
        self._http2 = http2

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # type: ignore[override]  # noqa: ARG002, N802
        """Return the protocol of an accepted connection."""
        channel: Any = Channel()
        channel.factory = channel.site = self
        channel.requestFactory = self.requestFactory
        channel.timeOut = self.timeOut
        channel.callLater = self.reactor.callLater
        return channel  # type: ignore[no-any-return]

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """Say what is offered over TLS."""
        return [b"h2", b"http/1.1"] if self._http2 else [b"http/1.1"]

    def log(self, request: TwistedRequest) -> None:  # type: ignore[override]
        """Write no access log: its lines would have tokens in them."""


def _find_dead_peers(handle: socket.socket) -> None:
    """Have the kernel notice a peer that is gone without a word."""
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT * 1000),
    ):
        if hasattr(socket, option):  # Names differ between systems.
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
