"""One open stream as an I/O object: live or behind, and bounded.

A stream is *live* while everything sent to it has been written, and *behind* while frames wait;
all streams share these, and their bytes are counted. A stream over its limit is a slow consumer and
is closed: the browser comes back, with its last event ID. So a slow stream never costs more than
the limit, and never delays others. How bytes are written is said by its kinds,
:mod:`~sinapse.streams.socketconnection` and :mod:`~sinapse.streams.transportconnection`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import interfaces
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.streams.backlog import Backlog
from sinapse.streams.pending import PendingFrames
from sinapse.streams.stream import Stream
from sinapse.streams.websocketpeer import MIN_FRAME_SIZE, WebSocketPeer
from sinapse.web.intake import Intake


class Owner(Protocol):
    """The owner, which opens the streams."""

    max_pending: int
    """Bytes that may wait for one stream."""
    backlog: Backlog
    """The bytes that wait for all of them."""

    def closed(self, connection: "Connection", reason: CloseReason) -> None:
        """Forget the connection: it has ended, from either side. Called once."""

    def closing(self, connection: "Connection") -> None:
        """Make sure that the connection ends soon: it waits for its client to agree."""

    def intake(self, transport: Any, handle: Callable[[bytes], None]) -> Intake:
        """Return the intake that calls `handle` with what a client sends on `transport`."""


@implementer(interfaces.IProtocol, interfaces.IPushProducer)
class Connection(Stream):
    """A stream over any kind of transport: what all of them share."""

    __slots__ = (
        "__weakref__",
        "_drained",
        "_intake",
        "_owner",
        "_peer",
        "_pending",
        "_reason",
        "_transport",
        "framing",
        "quiet",
    )

    framing: EventStream | WebSocket

    def __init__(
        self,
        owner: Owner,
        framing: EventStream | WebSocket,
        token: bytes,
        peer: WebSocketPeer | None = None,
    ) -> None:
        super().__init__(token)
        self._owner = owner
        self._peer = peer
        #: For what the client of a WebSocket sends; an idle connection has none.
        self._intake: Intake | None = None
        self._transport: Any = None  # No interface has both halves of what we use.
        #: The frames that wait; a stream that is live has none.
        self._pending: PendingFrames | None = None
        self._reason: CloseReason | None = None
        self._drained: Deferred[None] | None = None
        self.framing = framing
        self.quiet = False

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
        return 0 if self._pending is None else self._pending.bytes

    # Sending

    def notice(self, event: str, data: str) -> None:  # noqa: D102
        self.send(self.framing.notice(event, data))

    def come_back(self, seconds: float) -> None:  # noqa: D102
        self.send(self.framing.come_back(seconds))

    def keep_alive(self) -> None:
        """Write a comment or a ping, unless other bytes wait to be written."""
        if self._pending is not None:
            return
        if self._peer is None or self._peer.ping():
            self.send(self.framing.keep_alive)
        else:
            self.close(CloseReason.NO_PONG)

    def resumeProducing(self) -> None:  # noqa: N802
        """Write more: the transport has written all that it had."""
        raise NotImplementedError

    def pauseProducing(self) -> None:  # noqa: N802
        """Fall behind: the transport has enough for now."""
        raise NotImplementedError

    def stopProducing(self) -> None:  # noqa: N802
        """Do nothing: the transport is closing, and calls :meth:`connectionLost` next."""

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be written."""
        return self._pending is not None

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        self._drained = Deferred()
        waiting = self._drained
        if self._pending is None:
            self._be_live()
        return waiting

    def _be_live(self) -> None:
        self._pending = None
        self._owner.backlog.forget(self)
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _queue(self, frame: bytes | memoryview) -> None:
        if self._pending is None or self._reason is not None:
            return
        if self._pending.bytes + len(frame) > self._owner.max_pending:
            self.close(CloseReason.SLOW_CONSUMER)
        else:
            self._pending.add(frame)
            self._owner.backlog.add(self, len(frame))

    def _written(self, pending: PendingFrames, size: int) -> None:
        """Note that `size` bytes wait no longer."""
        pending.bytes -= size
        self._owner.backlog.take(self, size)

    # Ending

    def close(self, reason: CloseReason, last: bytes | None = None) -> None:
        """End the stream: in good order if it is live, at once if it is behind.

        `last` are the last bytes, if the client has agreed already.
        """
        if self._reason is not None:
            return
        if self._pending is None:
            self.send(self.framing.ending(reason) if last is None else last)
        self._reason = reason
        self._owner.backlog.forget(self)
        if self._transport is None:
            return
        if self._pending is None and self._peer is not None and last is None:
            # A WebSocket ends after a close frame from both sides (RFC 6455 §7.1.1): closed before,
            # a socket with unread data is reset, and the client may never get our reason.
            self._owner.closing(self)
        elif self._pending is None:
            self._transport.loseConnection()
        else:
            # loseConnection would wait for the buffer: for ever, if the client does not read.
            self._transport.abortConnection()

    # IProtocol

    def makeConnection(self, transport: interfaces.ITransport) -> None:  # noqa: N802
        """Become the protocol of `transport`."""
        raise NotImplementedError

    def connectionMade(self) -> None:  # noqa: N802
        """Do nothing; part of the interface."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take what the client of a WebSocket sends.

        With an event stream it is dropped: we read only to notice the end.
        """
        if self._peer is None:
            return
        if self._intake is None:
            if self._peer.is_pong(data):
                return
            self._intake = self._owner.intake(self._transport, self._hear)
        self._intake.take(data)

    def _hear(self, data: bytes) -> None:
        """Handle a part of the data from the client of a WebSocket."""
        if self._peer is None or self._intake is None:
            return
        if self._reason is not None:
            self._intake.stop()
            self.abandon()
            return
        self._intake.charge(len(data) / MIN_FRAME_SIZE)  # As if all frames were as small as can be.
        reply, reason = self._peer.receive(data)
        if reason is not None:
            self.close(reason, reply)
        elif reply:
            self.send(reply)

    def abandon(self) -> None:
        """Wait for the client no longer."""
        if self._transport is not None:
            self._transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        """Release everything: the peer has closed the connection, or we have."""
        self._transport = None
        self._pending = None
        if self._intake is not None:
            self._intake.stop()
            self._intake = None
        self._owner.backlog.forget(self)
        if self._drained is not None:
            self._drained.cancel()
        if self._reason is None:
            self._reason = CloseReason.CLIENT_GONE
        self._owner.closed(self, self._reason)
