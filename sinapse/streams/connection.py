"""One open stream as an I/O object: live or behind, and bounded.

A stream is *live* while everything sent to it has been written, and *behind* while frames wait;
all streams share these, and their bytes are counted. A stream over its limit is a slow consumer and
is closed: the browser comes back, with its last event ID. So a slow stream never costs more than
the limit, and never delays others.

:func:`take_over` moves the transport of a request to a connection and cuts the request and its
channel off, so that an idle stream costs its connection, its transport and its socket only.
"""

import os
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import interfaces, tcp
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.sockets.direct import held
from sinapse.streams.backlog import Backlog
from sinapse.streams.pending import PendingFrames
from sinapse.streams.stream import Stream
from sinapse.streams.websocketpeer import MIN_FRAME_SIZE, WebSocketPeer
from sinapse.web.intake import Intake

_write = os.write


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


class SocketConnection(Connection):
    """A stream over TCP or a UNIX socket, written directly to the descriptor.

    ``transport.write`` costs two epoll_ctl calls and a second pass for each frame,
    ``writeSomeData`` touches three more objects, whose cache lines are the rest of the cost of a
    delivery. Only bytes that do not fit into the socket go through the transport.

    While the stream is live and open, others may write whole frames to the descriptor
    (:mod:`sinapse.sockets.direct`); else it is held. The descriptor is never that of a different
    connection: the transport closes it and calls :meth:`connectionLost` with nothing in between,
    and after that the stream is in no audience.
    """

    __slots__ = ("_writing", "descriptor")

    def __init__(
        self,
        owner: Owner,
        framing: EventStream | WebSocket,
        token: bytes,
        peer: WebSocketPeer | None = None,
    ) -> None:
        super().__init__(owner, framing, token, peer)
        self.descriptor: int | None = None
        #: How many of the pending bytes the transport holds.
        self._writing = 0

    def makeConnection(self, transport: Any) -> None:  # noqa: D102, N802
        self._transport = transport
        descriptor = transport.fileno()
        self.descriptor = None if descriptor < 0 else descriptor
        transport.protocol = self

    def send(self, frame: bytes) -> None:  # noqa: D102
        if self._pending is not None:
            self._queue(frame)
            return
        if self._reason is not None or self.descriptor is None:
            return
        try:
            written = _write(self.descriptor, frame)
        except BlockingIOError:
            written = 0
        except OSError:
            # Reset by the peer. abortConnection calls connectionLost in a later turn of the
            # reactor, when the hub has left the loop that it is in now.
            self._hold()
            self._transport.abortConnection()
            return
        self.quiet = False
        if written != len(frame):
            self.wrote(frame, written)

    def wrote(self, frame: bytes, size: int) -> None:
        """Fall behind: of a frame so many bytes are written."""
        self._fall_behind(memoryview(frame)[size:])

    def _hold(self) -> None:
        if self.descriptor is not None:
            held.add(self.descriptor)

    def _fall_behind(self, rest: memoryview) -> None:
        self._hold()
        self._pending = PendingFrames()
        self._writing = 0
        self._queue(rest)
        if self._reason is None:
            # The transport asks a pull producer for more: now, and after each written buffer.
            self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:  # noqa: D102, N802
        pending = self._pending
        if pending is None or self._reason is not None:
            return
        self._written(pending, self._writing)
        if pending.frames:
            data = pending.take()
            self._writing = len(data)
            self._transport.write(data)
        else:
            self._transport.unregisterProducer()
            self._be_live()

    def _be_live(self) -> None:
        super()._be_live()
        if self._reason is None and self.descriptor is not None:
            held.discard(self.descriptor)

    def close(self, reason: CloseReason, last: bytes | None = None) -> None:  # noqa: D102
        if self._reason is None:
            self._hold()
        super().close(reason, last)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: D102, N802
        super().connectionLost(reason)
        if self.descriptor is not None:
            held.discard(self.descriptor)


class TransportConnection(Connection):
    """A stream over any other transport, TLS and HTTP/2: by ``write`` and the producer calls.

    The queue has the same limit; the transport itself holds at most one write more.
    """

    __slots__ = ("_paused",)

    def __init__(
        self,
        owner: Owner,
        framing: EventStream | WebSocket,
        token: bytes,
        peer: WebSocketPeer | None = None,
    ) -> None:
        super().__init__(owner, framing, token, peer)
        self._paused = False

    def makeConnection(self, transport: Any) -> None:  # noqa: D102, N802
        self._transport = transport
        transport.wrappedProtocol = self
        transport.registerProducer(self, True)

    def send(self, frame: bytes) -> None:  # noqa: D102
        if self._pending is not None:
            self._queue(frame)
        elif self._transport is not None and self._reason is None:
            self.quiet = False
            self._transport.write(frame)

    def pauseProducing(self) -> None:  # noqa: D102, N802
        self._paused = True
        if self._pending is None:
            self._pending = PendingFrames()

    def resumeProducing(self) -> None:  # noqa: D102, N802
        self._paused = False
        while (pending := self._pending) is not None and pending.frames and not self._paused:
            data = pending.take()
            self._written(pending, len(data))
            self._transport.write(data)
        if not self._paused:
            self._be_live()

    def close(self, reason: CloseReason, last: bytes | None = None) -> None:  # noqa: D102
        if self._reason is None and self._transport is not None:
            # A transport with a producer would wait for its end.
            self._transport.unregisterProducer()
        super().close(reason, last)


def take_over(
    request: Request,
    owner: Owner,
    framing: EventStream | WebSocket,
    token: bytes,
    peer: WebSocketPeer | None = None,
) -> Connection:
    """Make a connection from the transport of `request`, which nothing may use afterwards.

    The request must be complete, and have no answer yet.
    """
    parts: Any = request
    transport = parts.channel.hand_over()
    request.notifications.clear()
    parts.channel = parts.transport = parts.content = None
    plain = isinstance(transport, tcp.Connection) and not transport.TLS
    kind = SocketConnection if plain else TransportConnection
    connection: Connection = kind(owner, framing, token, peer)
    connection.makeConnection(transport)
    return connection
