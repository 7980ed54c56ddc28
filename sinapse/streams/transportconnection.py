"""A stream over any other transport, TLS and HTTP/2, by ``write`` and the producer calls."""

from typing import Any

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.streams.connection import Connection, Owner
from sinapse.streams.pending import PendingFrames
from sinapse.streams.websocketpeer import WebSocketPeer


class TransportConnection(Connection):
    """A live one is written to through its transport.

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
