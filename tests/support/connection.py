"""A stream as an I/O object, with both its ends; the reactor's turns are the test's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.streams.backlog import Backlog
from sinapse.streams.connection import Connection
from sinapse.streams.socketconnection import SocketConnection
from sinapse.streams.websocketpeer import WebSocketPeer
from sinapse.web.intake import Intake

#: Bytes that may wait for the stream.
LIMIT = 1024 * 1024

SERVER: Any = None  # The transport keeps the port that accepted it, and never looks at it.

PLAIN = EventStream(chunked=False)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return listener.accept()[0], theirs


class Peer:
    """One connection with both its ends, and a reactor that turns when told to."""

    max_pending = LIMIT

    def __init__(self, framing: EventStream | WebSocket = PLAIN, *, over_tcp: bool = False) -> None:
        ours, self.theirs = tcp_pair() if over_tcp else socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.theirs.setblocking(False)
        self.reactor = MemoryReactorClock()
        self.ends: list[CloseReason] = []
        self.backlog = Backlog()
        client = WebSocketPeer() if isinstance(framing, WebSocket) else None
        self.connection = SocketConnection(self, framing, b"token", client)
        self.transport = tcp.Server(
            ours, self.connection, ("127.0.0.1", 1), SERVER, 0, self.reactor
        )
        self.connection.makeConnection(self.transport)

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        assert connection is self.connection
        self.ends.append(reason)

    def closing(self, connection: Connection) -> None:
        self.reactor.callLater(2, connection.abandon)

    def intake(self, transport: Any, handle: Callable[[bytes], None]) -> Intake:
        return Intake(transport, handle, self.reactor)

    def turn(self) -> None:
        """Let the reactor do what is due."""
        if self.transport in self.reactor.getWriters():
            result = self.transport.doWrite()
            if result is not None:
                self.reactor.removeWriter(self.transport)
                self.transport.connectionLost(Failure(result))
        self.reactor.advance(0)

    def read(self, size: int = 1 << 20) -> bytes:
        """Return what has arrived, up to `size` bytes."""
        try:
            return self.theirs.recv(size)
        except BlockingIOError:
            return b""

    def read_all(self) -> bytes:
        """Turn and read until nothing comes any more."""
        received = b""
        quiet = 0
        while quiet < 3:
            self.turn()
            data = self.read()
            received += data
            quiet = 0 if data else quiet + 1
        return received

    def end(self) -> None:
        self.theirs.close()
        if not self.ends:
            self.transport.connectionLost(Failure(ConnectionDone()))
