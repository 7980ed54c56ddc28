"""The HTTP server: twisted.web with deadlines and limits, and without an access log.

A request is small: a header section and, for a POST, a token in a form. The first request must be
complete some seconds after the accept, TLS handshake included; a later request, after its first
byte. docs/operations.md has all deadlines.
"""

import re
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request as TwistedRequest
from twisted.web.server import Site as TwistedSite
from zope.interface import implementer

from sinapse.listen.ending import Ending
from sinapse.ratelimit import TokenBucket
from sinapse.web.answers import PLAIN_TEXT, Fields, refusal
from sinapse.web.faults import Faults
from sinapse.web.http2 import HTTP2Channel
from sinapse.web.limits import (
    MAX_DIGITS,
    MAX_FIELDS,
    MAX_NAME,
    REASONS,
    REQUESTS_PER_SECOND,
    RequestLimits,
)

#: Bytes from a refused client that are dropped: enough if it had sent its request already.
LINGER_BYTES = 256 * 1024

#: Seconds: TCP keep-alive finds a dead peer after 60 + 3 * 15 s of silence, and data without an
#: acknowledgement end the connection after 60 s.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 3
USER_TIMEOUT = 60


#: A request target that names the server too (RFC 9112 §3.2.2): its host, and the rest.
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

#: A host and perhaps a port (RFC 3986 §3.2), or nothing.
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)


class Refusal(NamedTuple):
    """An answer that is sent without reading the rest of a request."""

    status: int
    body: bytes | None = None
    """None for the status in words."""
    fields: Fields = PLAIN_TEXT


class Request(TwistedRequest):
    """A request whose ``repr`` has no query string, since tokens are there."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method!r} {self.path!r}>"

    channel: Any  # A `Channel`, or an exchange over HTTP/2.

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002, N802
        """Keep the body in memory: it is small, with or without an announced length."""
        super().gotLength(0)

    def parseCookies(self) -> None:  # noqa: N802
        """Do nothing: few callers need a cookie, and thousands fit into one field."""

    def getCookie(self, key: bytes) -> bytes | None:  # noqa: N802
        """Return the value of the last cookie of that name, if there is one (RFC 6265 §5.4)."""
        found = None
        for field in self.requestHeaders.getRawHeaders(b"Cookie", []):
            for pair in field.split(b";"):
                name, equals, value = pair.lstrip().partition(b"=")
                if equals and name == key:
                    found = value
        return found

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Handle the request: its target may name a server, or begin with too many slashes."""
        if (absolute := _ABSOLUTE.fullmatch(path)) is not None:
            host, path = absolute.groups()
            if not _HOST.fullmatch(host):
                self.channel.refuse(400)
                return
            self.requestHeaders.setRawHeaders(b"Host", [host])
        if path != b"*":
            path = b"/" + path.lstrip(b"/")
        super().requestReceived(command, path, version)

    def processingFailed(self, reason: Failure) -> None:  # noqa: N802
        """Answer 500 after an error of ours, if nothing was written yet."""
        self.channel.site.faults("a request could not be answered", reason)
        if self.startedWriting:
            self.channel.abortConnection()
        else:
            self.channel.refuse(500)
            self.connectionLost(reason)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Take a part of the body; in chunks, it comes without its length."""
        if self.content is None:
            return
        if self.content.tell() + len(data) > self.channel.limits.body:
            self.channel.refuse(413)
        else:
            super().handleContentChunk(data)


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """One connection of a client, until it becomes a stream or ends."""

    transport: Any  # No interface has all that we use.
    site: "Site"
    _networkProducer: Any  # noqa: N815
    maxHeaders = MAX_FIELDS  # noqa: N815
    _ending: Ending | None = None
    #: A part of a request has come, but not all of it.
    _begun = False
    #: There was an answer before.
    _answered = False
    #: We read nothing any more.
    _is_over = False
    _dropped = 0
    #: The rate at which pipelined requests are handled, and the call that handles the next one.
    _pipelined: TokenBucket | None = None
    _next: IDelayedCall | None = None

    @property
    def limits(self) -> RequestLimits:
        """The limits of a request."""
        return self.site.limits

    @property
    def totalHeadersSize(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of request line and header section."""
        return self.limits.header

    @property
    def MAX_LENGTH(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of a line: a longer one is refused before its end has come."""
        return self.limits.header if self.requests else self.limits.url

    def connectionMade(self) -> None:  # noqa: N802
        """Set the socket's options, and the deadline for the first request."""
        super().connectionMade()
        below = self.transport
        while isinstance(below, ProtocolWrapper):  # TLS, or the PROXY protocol.
            below = below.transport
        handle = getattr(below, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            _find_dead_peers(handle)

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Change to HTTP/2 if the TLS handshake has negotiated it."""
        if self.transport.negotiatedProtocol == b"h2":
            transport = self.hand_over()
            transport.wrappedProtocol = HTTP2Channel(self.site)
            transport.wrappedProtocol.makeConnection(transport)

    def hand_over(self) -> Any:
        """Return the transport, and never use it again; forget all requests."""
        transport = self.transport
        self.setTimeout(None)
        transport.unregisterProducer()
        # A client that sent more than its request may have been paused.
        transport.resumeProducing()
        # Request, channel and transport refer to each other: cut, they are freed at once.
        self.requests.clear()
        self.transport = self._networkProducer = None
        return transport

    # What the client sends

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take data from the client, unless it was refused."""
        if self._is_over:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.transport.pauseProducing()
            return
        if self._answered and not self._begun and not self._handlingRequest:
            self.site.idle.pop(self, None)
            self.setTimeout(self.limits.timeout)
        self._begun = True
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except Exception:  # noqa: BLE001  # Whatever the client has sent: it is refused.
            self.site.faults("a request could not be read", Failure())
            if self.transport is not None:
                self.refuse(400)

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802
        """Take a field, unless its name is too long: Twisted caches thousands of names."""
        if line.find(b":") > MAX_NAME:
            self.refuse(431)
            return False
        is_right: bool = super().headerReceived(line)
        return is_right

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:  # noqa: N802
        """Refuse impossible lengths, and codings other than chunked."""
        if header == b"Content-Length" and len(data) > MAX_DIGITS and data.isdigit():
            self.refuse(413)
            return False
        if header == b"Transfer-Encoding" and data.lower() != b"chunked":
            self.refuse(400)
            return False
        is_right: bool = super()._maybeChooseTransferDecoder(header, data)
        return is_right

    def allHeadersReceived(self) -> None:  # noqa: N802
        """Refuse a request by its head, before its body is read or the client is told to go on.

        There is at most one Host field, and over HTTP/1.1 exactly one (RFC 9112 §3.2).
        """
        request = self.requests[-1]
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        is_missing = not hosts and self._version == b"HTTP/1.1"
        if is_missing or len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
            self.refuse(400)
        elif self.length is not None and self.length > self.limits.body:
            self.refuse(413)
        elif self.length != 0 and (refusal := self.site.screen(request)) is not None:
            self.refuse(*refusal)
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:  # noqa: N802
        """Note that a request is complete."""
        self._begun = False
        super().allContentReceived()

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002, N802
        """Refuse a line that is longer than the whole header section may be."""
        self.refuse(431 if self.requests else 414)

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        """Refuse a request in which the base class has found an error."""
        is_large = (
            self._receivedHeaderSize > self.limits.header or self._receivedHeaderCount > MAX_FIELDS
        )
        self.refuse(431 if is_large else 400)

    # Answers

    def writeHeaders(  # noqa: N802
        self, version: bytes, code: bytes, reason: bytes, headers: Headers
    ) -> None:
        """Write the head of an answer; it is the last one if the node is closing."""
        if self.site.is_closing:
            headers.setRawHeaders(b"Connection", [b"close"])
            self.persistent = False
        super().writeHeaders(version, code, reason, headers)

    def requestDone(self, request: Any) -> None:  # noqa: N802
        """Give other connections a turn before the next request, if that has come already."""
        self.paused = True  # Parse no more of what was read.
        super().requestDone(request)
        if not self.persistent:
            return
        self._answered = True
        self._begun = bool(self._buffer)
        if not self._begun:
            self.paused = False
            self.setTimeout(self.limits.idle)
            self.site.idle[self] = None
            return
        self.setTimeout(self.limits.timeout)
        self._networkProducer.pauseProducing()
        if self._pipelined is None:
            self._pipelined = TokenBucket(REQUESTS_PER_SECOND, self.site.reactor.seconds)
        self._pipelined.take()
        self._next = self.callLater(self._pipelined.wait(), self._go_on)

    def _go_on(self) -> None:
        """Handle the next pipelined request, if the client reads the answers."""
        self._next = None
        if self._is_over or self._waitingForTransport:
            return
        self.paused = False
        self._parse(b"")
        if not self.paused and self._networkProducer is not None:
            self._networkProducer.resumeProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """Go on: the client has read what was written."""
        super().resumeProducing()
        if self.paused and not self._is_over:
            self._networkProducer.pauseProducing()
            if self._next is None:
                self._next = self.callLater(0, self._go_on)

    def refuse(self, status: int, body: bytes | None = None, fields: Fields = PLAIN_TEXT) -> None:
        """Answer and disconnect, without reading the rest; see :class:`Refusal`.

        At first the connection is closed for writing only: a close with unread data in the socket
        would be a reset, and could destroy the answer.
        """
        if self._is_over:
            return
        self._is_over = self.paused = True
        self.length = None  # No request is complete any more.
        self.setTimeout(None)
        self.site.count_refused(status)
        body, fields = refusal(status, body, fields)
        lines = [b"%b: %b\r\n" % field for field in ((b"Connection", b"close"), *fields)]
        line = b"HTTP/1.1 %d %b\r\n" % (status, REASONS[status])
        self.transport.write(b"%b%b\r\n%b" % (line, b"".join(lines), body))
        close = getattr(self.transport, "loseWriteConnection", self.transport.loseConnection)
        close()
        self._ending = Ending(self.transport, self.callLater)

    # The end

    def readConnectionLost(self) -> None:  # noqa: N802
        """Close after the answers: the client sends nothing more, but may still read."""
        self.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Do nothing; part of the interface."""

    def resetTimeout(self) -> None:  # noqa: N802
        """Do nothing, so that the idle timer is a deadline, also for a byte a second."""

    def timeoutConnection(self) -> None:  # noqa: N802
        """Answer 408 to a part of a request; close a connection without any."""
        if self._begun:
            self.refuse(408)
        elif self._answered:
            self.close_idle()
        else:
            self.abortConnection()

    def close_idle(self) -> None:
        """Close an idle connection, after the bytes in its buffer."""
        self.loseConnection()

    def loseConnection(self) -> None:  # noqa: N802
        """Close, when the client has read the last answer."""
        self._is_over = True
        super().loseConnection()

    def abortConnection(self) -> None:  # noqa: N802
        """Close at once."""
        self._is_over = True
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Release the connection."""
        self._is_over = True
        self.site.idle.pop(self, None)
        if self._ending is not None:
            self._ending.stop()
        if self._next is not None and self._next.active():
            self._next.cancel()
        super().connectionLost(reason)


class Site(TwistedSite):
    """Serves `root` to requests within `limits`; with `http2`, over TLS, in HTTP/2 as well.

    `screen` gets the head of a request with a body, over HTTP/1, and returns a refusal, or None to
    read the body. `refused` counts refusals by their reason.
    """

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
        screen: Callable[[Request], Refusal | None] = lambda _: None,
        refused: Counter[str] | None = None,
    ) -> None:
        limits = limits or RequestLimits()
        super().__init__(
            root,
            requestFactory=Request,
            timeout=limits.timeout,
            reactor=reactor,
            # Its code for multipart/form-data, and for parameters, can take seconds.
            parsePOSTFormSubmission=False,
        )
        self.limits = limits
        self.screen = screen
        #: Logs our own errors.
        self.faults = Faults(reactor.seconds)
        self._refused = Counter() if refused is None else refused
        self._http2 = http2
        #: Connections without a request, the longest idle first.
        self.idle: dict[Any, None] = {}

    def close_an_idle(self) -> bool:
        """Close the connection that is idle the longest; returns whether there was one."""
        for channel in self.idle:
            del self.idle[channel]
            channel.close_idle()
            return True
        return False

    def count_refused(self, status: int) -> None:
        """Count a request that is refused with `status`, before its answer."""
        self._refused[REASONS[status].decode().lower()] += 1

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # type: ignore[override]  # noqa: ARG002, N802
        """Return the protocol of an accepted connection."""
        channel: Any = Channel()
        channel.factory = channel.site = self
        channel.requestFactory = self.requestFactory
        channel.timeOut = self.timeOut
        channel.callLater = self.reactor.callLater
        return channel  # type: ignore[no-any-return]

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """Return the protocols to offer over TLS."""
        return [b"h2", b"http/1.1"] if self._http2 else [b"http/1.1"]

    def log(self, request: TwistedRequest) -> None:  # type: ignore[override]
        """Write no access log: its lines would have tokens in them."""


def _find_dead_peers(handle: socket.socket) -> None:
    """Let the kernel find a peer that has vanished without a FIN or reset."""
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
