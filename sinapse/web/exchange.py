"""One request over HTTP/2 and its answer, which share a connection with many others.

For the request it is the channel, as over HTTP/1. When the request becomes an event stream, it is
the transport of the stream: bytes that may not be written yet wait here, at most one write, and the
stream is paused.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.http_headers import Headers, InvalidHeaderName

from sinapse.sockets.ending import READ_TIMEOUT
from sinapse.web.answers import PLAIN_TEXT, Fields, refusal
from sinapse.web.limits import MAX_FIELDS, MAX_NAME, RequestLimits


class Carrier(Protocol):
    """The connection that exchanges share, by their numbers."""

    site: Any
    transport: Any
    call_later: Callable[..., IDelayedCall]

    def write_head(self, number: int, fields: Fields, *, is_all: bool) -> None:
        """Write status and header fields of an answer."""

    def write_body(self, number: int, data: memoryview) -> int:
        """Write as much of `data` as flow control allows; returns how many bytes."""

    def block(self, exchange: "Exchange") -> None:
        """Call :meth:`Exchange.resume` when there may be room."""

    def end_body(self, number: int) -> None:
        """Write the end of an answer."""

    def reset(self, number: int, error: ErrorCodes) -> None:
        """Reset an exchange: nothing more is sent or read on it."""

    def forget(self, exchange: "Exchange") -> None:
        """Note that an exchange has ended."""


class Exchange:
    """The exchange with this number on `carrier`."""

    __slots__ = (
        "_carrier",
        "_deadline",
        "_head",
        "_is_ending",
        "_method",
        "_producer",
        "_request",
        "_rest",
        "_target",
        "is_all",
        "number",
        "site",
        "transport",
        "wrappedProtocol",
    )

    #: For the access log of requests: there is none.
    factory = None

    def __init__(self, carrier: Carrier, number: int) -> None:
        self.number = number
        #: The client has sent its whole request.
        self.is_all = False
        self.site = carrier.site
        self.transport = carrier.transport
        #: The stream that the request has become.
        self.wrappedProtocol: Any = None  # The name is Twisted's.
        self._carrier: Carrier | None = carrier
        self._request: Request | None = None
        self._method = self._target = b""
        self._head: list[tuple[bytes, bytes]] | None = None
        #: The bytes that wait: rarely more than one write.
        self._rest: list[memoryview] = []
        self._is_ending = False
        self._producer: IPushProducer | None = None
        self._deadline: IDelayedCall | None = None

    # What the client sends

    def begin(self, fields: Sequence[tuple[bytes, bytes]], *, is_all: bool) -> None:
        """Take the header section of the request; unless it `is_all` a body has to follow soon."""
        self.is_all = is_all
        request = self._request = self.site.requestFactory(self)
        if (status := self._read_head(request, fields)) is not None:
            self.refuse(status)
            return
        request.gotLength(0)  # A file in memory: the body is small.
        if not is_all and self._carrier is not None:
            self._deadline = self._carrier.call_later(self.limits.timeout, self.refuse, 408)

    def _read_head(self, request: Request, fields: Sequence[tuple[bytes, bytes]]) -> int | None:
        """Fill in `request`; returns the status to refuse it with, or None."""
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        self._method, self._target = pseudo[b":method"], pseudo.get(b":path", b"")
        if len(self._target) > self.limits.url:
            return 414
        names = [name for name, _ in fields]
        size = sum(map(len, names)) + sum(len(value) for _, value in fields)
        if size > self.limits.header or len(names) > MAX_FIELDS or max(map(len, names)) > MAX_NAME:
            return 431
        try:
            for name, value in fields:
                if name not in pseudo:
                    request.requestHeaders.addRawHeader(name, value)
        except InvalidHeaderName:  # h2 accepts all printable names.
            return 400
        if b":authority" in pseudo:
            request.requestHeaders.setRawHeaders(b"Host", [pseudo[b":authority"]])
        if _length(request) > self.limits.body:
            return 413
        return None if self._target else 400  # CONNECT has none.

    def take(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._request is not None:
            self._request.handleContentChunk(data)

    def complete(self) -> None:
        """Handle the request, which is complete."""
        self._stop_waiting()
        request = self._request
        if request is None:
            return
        # RFC 9113 §8.1.1. If there is any body, ``h2`` compares it with the length.
        if request.content is not None and not request.content.tell() and _length(request):
            self.refuse(400)
        else:
            request.requestReceived(self._method, self._target, b"HTTP/2")

    def lost(self, reason: Failure) -> None:
        """Release everything: the client no longer wants an answer, or is gone."""
        if self._carrier is None:
            return
        self._forget()
        parties, self._request, self.wrappedProtocol = (
            (self._request, self.wrappedProtocol),
            None,
            None,
        )
        for each in filter(None, parties):
            each.connectionLost(reason)

    # The channel of a request

    @property
    def limits(self) -> RequestLimits:
        """The limits of a request."""
        limits: RequestLimits = self.site.limits
        return limits

    def getPeer(self) -> IAddress:  # noqa: N802
        """Return the address of the client."""
        address: IAddress = self.transport.getPeer()
        return address

    def getHost(self) -> IAddress:  # noqa: N802
        """Return our own address."""
        address: IAddress = self.transport.getHost()
        return address

    def isSecure(self) -> bool:  # noqa: N802
        """Return True: HTTP/2 is used only over TLS."""
        return True

    def writeHeaders(  # noqa: N802
        self,
        version: bytes,  # noqa: ARG002
        code: bytes,
        reason: bytes,  # noqa: ARG002
        headers: Headers,
    ) -> None:
        """Keep the head of the answer until the first bytes of the body, or the end."""
        fields = [(name, value) for name, each in headers.getAllRawHeaders() for value in each]
        self.answer(int(code), fields)

    def answer(self, status: int, fields: Fields) -> None:
        """Set the head of the answer, which is sent with the first bytes."""
        self._head = [(b":status", b"%d" % status), *fields]

    def requestDone(self, request: Request) -> None:  # noqa: ARG002, N802
        """End the answer: all of it was written."""
        self._request = None
        self.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        self.refuse(400)

    def refuse(self, status: int) -> None:
        """Answer without reading the rest of the request."""
        self._request = None
        self.site.count_refused(status)
        body, fields = refusal(status, None, PLAIN_TEXT)
        self.answer(status, fields)
        self.write(body)
        self.loseConnection()

    def hand_over(self) -> "Exchange":
        """Release the request, and be the transport of a stream from now on."""
        self._request = None
        return self

    # The transport of a stream

    def write(self, data: bytes) -> None:
        """Write `data`, or keep it until there is room."""
        if self._carrier is None or self._is_ending:
            return
        self._write_head(self._carrier)
        view = memoryview(data)
        if not self._rest:
            view = view[self._carrier.write_body(self.number, view) :]
        if view:
            self._rest.append(view)
            self._hold_back()

    def resume(self) -> None:
        """Write more of the bytes that wait."""
        while self._rest and self._carrier is not None:
            written = self._carrier.write_body(self.number, self._rest[0])
            if written and self._is_ending:
                self._be_patient(self._carrier)
            if written < len(self._rest[0]):
                self._rest[0] = self._rest[0][written:]
                self._carrier.block(self)
                return
            del self._rest[0]
        if self._is_ending:
            self._end()
        elif self._producer is not None:
            self._producer.resumeProducing()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: ARG002, N802
        """Pause and resume `producer` from now on."""
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        """Pause and resume the producer no longer."""
        self._producer = None

    def loseConnection(self) -> None:  # noqa: N802
        """End the answer, after the bytes that wait."""
        if self._carrier is None or self._is_ending:
            return
        self._is_ending = True
        if self._rest:
            self._be_patient(self._carrier)
        else:
            self._end()

    def _be_patient(self, carrier: Carrier) -> None:
        """Give the client time to make room for some of what is left."""
        self._stop_waiting()
        self._deadline = carrier.call_later(READ_TIMEOUT, self.abortConnection)

    def abortConnection(self) -> None:  # noqa: N802
        """End the exchange at once: for EventSource the connection is lost, and it comes back."""
        if self._carrier is not None:
            self._carrier.reset(self.number, ErrorCodes.CANCEL)
            self._leave(Failure(ConnectionAborted()))

    def _write_head(self, carrier: Carrier, *, is_all: bool = False) -> bool:
        head, self._head = self._head, None
        if head is not None:
            carrier.write_head(self.number, head, is_all=is_all)
        return head is not None

    def _hold_back(self) -> None:
        if self._carrier is not None:
            self._carrier.block(self)
        if self._producer is not None:
            self._producer.pauseProducing()

    def _end(self) -> None:
        carrier = self._carrier
        if carrier is None:
            return
        if not self._write_head(carrier, is_all=True):
            carrier.end_body(self.number)
        if not self.is_all:
            # RFC 9113 §8.1: this tells the client not to send the rest.
            carrier.reset(self.number, ErrorCodes.NO_ERROR)
        self._leave(Failure(ConnectionDone()))

    def _leave(self, reason: Failure) -> None:
        """Release everything, and notify the stream in a separate turn, as sockets do."""
        carrier, stream = self._carrier, self.wrappedProtocol
        self.wrappedProtocol = None
        if carrier is not None and stream is not None:
            carrier.call_later(0, stream.connectionLost, reason)
        self._forget()

    def _forget(self) -> None:
        self._stop_waiting()
        carrier, self._carrier = self._carrier, None
        self._producer = None
        self._rest.clear()
        if carrier is not None:
            carrier.forget(self)

    def _stop_waiting(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def _length(request: Request) -> int:
    """Return how many bytes of body `request` announces; ``h2`` accepts only numbers."""
    return int(request.getHeader(b"Content-Length") or 0)
