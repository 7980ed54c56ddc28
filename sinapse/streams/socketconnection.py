"""A stream over TCP or a UNIX socket, written directly to the descriptor."""

import os
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.sockets.direct import held
from sinapse.streams.connection import Connection, Owner
from sinapse.streams.pending import PendingFrames
from sinapse.streams.websocketpeer import WebSocketPeer

_write = os.write


class SocketConnection(Connection):
    """A live one is written to past its transport.

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
