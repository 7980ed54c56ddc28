"""HTTP/1 (RFC 9112): one connection of a client, by twisted.web, with deadlines and limits.

A request is small: a header section and, for a POST, a token in a form. The first request must be
complete some seconds after the accept, TLS handshake included; a later request, after its first
byte. docs/operations.md has all deadlines.
"""

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from zope.interface import implementer

from sinapse.ratelimit import TokenBucket
from sinapse.sockets.ending import Ending
from sinapse.web import head
from sinapse.web.answers import PLAIN_TEXT, Fields, refusal
from sinapse.web.head import Head
from sinapse.web.http2 import HTTP2Channel
from sinapse.web.limits import (
    MAX_DIGITS,
    MAX_FIELDS,
    MAX_NAME,
    REASONS,
    REQUESTS_PER_SECOND,
    RequestLimits,
)
from sinapse.web.request import HOST

#: Bytes from a refused client that are dropped: enough if it had sent its request already.
LINGER_BYTES = 256 * 1024


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class HTTP1Channel(HTTPChannel):
    """One connection of a client, until it becomes a stream or ends."""

    transport: Any  # No interface has all that we use.
    site: Any  # The site, which has made it.
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
        limits: RequestLimits = self.site.limits
        return limits

    @property
    def totalHeadersSize(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of request line and header section."""
        return self.limits.header

    @property
    def MAX_LENGTH(self) -> int:  # type: ignore[override]  # noqa: N802
        """Bytes of a line: a longer one is refused before its end has come."""
        return self.limits.header if self.requests else self.limits.url

    def connectionMade(self) -> None:  # noqa: N802
        """Set the deadline for the first request.

        The base class sets an option of the socket, which ours has from the listening one, and
        asks for an adapter to what every transport of ours is: a fiftieth of a connect.
        """
        self.setTimeout(self.timeOut)
        self.site.pending.add(self)
        self._networkProducer = self.transport
        self.transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Change to HTTP/2 if the TLS handshake has negotiated it."""
        if self.transport.negotiatedProtocol == b"h2":
            transport = self.hand_over()
            transport.wrappedProtocol = HTTP2Channel(self.site)
            transport.wrappedProtocol.makeConnection(transport)

    def hand_over(self) -> Any:
        """Return the transport, and never use it again; forget all requests."""
        transport = self.transport
        self.site.pending.discard(self)
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
            self.site.pending.add(self)
            self.setTimeout(self.limits.timeout)
        is_first = not (self._begun or self._answered or self.requests)
        self._begun = True
        self._parse(data, head.read(data, self.limits) if is_first else None)

    def _parse(self, data: bytes, whole: Head | None = None) -> None:
        try:
            if whole is None:
                super().dataReceived(data)
            else:
                self._begin(whole)
        except Exception:  # noqa: BLE001  # Whatever the client has sent: it is refused.
            self.site.faults("a request could not be read", Failure())
            if self.transport is not None:
                self.refuse(400)

    def _begin(self, whole: Head) -> None:
        """Handle a request that came whole, as the base class does when it has read all lines."""
        request = self.requestFactory(self)
        self.requests.append(request)
        for name, value in whole.fields:
            request.requestHeaders.addRawHeader(name, value)
        self._command, self._path, self._version = whole.method, whole.target, whole.version
        self.allHeadersReceived()
        if not self._is_over:
            self.allContentReceived()

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
        if is_missing or len(hosts) > 1 or not all(map(HOST.fullmatch, hosts)):
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
            self.site.pending.discard(self)
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
        """Answer and disconnect, without reading the rest: what a :class:`Refusal` has.

        At first the connection is closed for writing only: a close with unread data in the socket
        would be a reset, and could destroy the answer.
        """
        if self._is_over:
            return
        self._is_over = self.paused = True
        self.site.pending.discard(self)
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
        self.site.pending.discard(self)
        if self._ending is not None:
            self._ending.stop()
        if self._next is not None and self._next.active():
            self._next.cancel()
        super().connectionLost(reason)
