"""The connection of a worker, which need not read at once: what waits for it is bounded."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import hiredis
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Protocol as Connection
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.ear.interest import Client

#: Bytes that may wait for a worker: as many as Redis keeps for a subscriber by default
#: (client-output-buffer-limit pubsub). A worker reads nothing while it begins a session.
MOST_PENDING = 32 * 1024 * 1024

#: Bytes that are given to the transport at a time: it copies what is not written yet.
PIECE = 256 * 1024


class Commanded(Protocol):
    """What carries out the commands of a worker."""

    def command(self, wire: "Wire", words: Sequence[bytes]) -> None:
        """Carry out a command."""


@implementer(IPullProducer)
class Wire(Connection):
    """One connection of a worker; `commanded` carries out what it says.

    Everything in `lost` is called when it is lost.
    """

    _log = Logger()
    transport: Any

    #: What it is to its upstream, from when that is there.
    client: Client | None = None

    def __init__(self, commanded: Commanded) -> None:
        self.commanded = commanded
        self.lost: list[Callable[[Wire], object]] = []
        self._parser = hiredis.Reader()
        #: What waits because the worker does not read, and how many bytes that are.
        self._waiting: deque[bytes] = deque()
        self._pending = 0
        self._is_full = self._is_closing = False

    def connectionMade(self) -> None:  # noqa: N802
        """Take note of the descriptor, which is written to directly."""
        self._descriptor = self.transport.fileno()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Have commands carried out."""
        self._parser.feed(data)
        try:
            while not self._is_closing and (words := self._parser.gets()) is not False:
                if not isinstance(words, list) or not words:
                    self.transport.abortConnection()
                    return
                self.commanded.command(self, words)
        except hiredis.ProtocolError:
            self.transport.abortConnection()

    def send(self, parts: Sequence[bytes]) -> None:
        """Send what Redis would: now, or when the worker reads on."""
        if self._is_full:
            self._keep(parts)
            return
        data = b"".join(parts)
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        except OSError:  # It is lost, and we hear of it.
            return
        if written < len(data):
            self._is_full = True
            self._keep([data[written:]])
            # Asks for a piece at once, and for the next one when that is written.
            self.transport.registerProducer(self, False)

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._is_closing = True
        if not self._is_full:
            self.transport.loseConnection()

    def _keep(self, parts: Sequence[bytes]) -> None:
        self._waiting.extend(parts)
        self._pending += sum(map(len, parts))
        if self._pending > MOST_PENDING:
            self._log.warn(
                f"a worker does not read, and is cut off: {self._pending} bytes wait for it"
            )
            self._waiting.clear()
            self._pending = 0
            self.transport.abortConnection()

    def resumeProducing(self) -> None:  # noqa: N802
        """Give the transport the next piece; all that it had is written."""
        piece: list[bytes] = []
        size = 0
        while self._waiting and size < PIECE:
            piece.append(self._waiting.popleft())
            size += len(piece[-1])
        self._pending -= size
        if piece:
            self.transport.write(b"".join(piece))
            return
        self._is_full = False
        self.transport.unregisterProducer()
        if self._is_closing:
            self.transport.loseConnection()

    def stopProducing(self) -> None:  # noqa: N802
        """Keep nothing more: the connection is lost."""
        self._waiting.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802
        """Tell."""
        for each in self.lost:
            each(self)
