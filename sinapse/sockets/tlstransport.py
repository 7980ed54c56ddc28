"""TLS over a socket, as a transport: encrypted bytes are written directly to the descriptor.

TLS itself is Twisted's: OpenSSL encrypts into memory, and Twisted gives the result to the transport
of the socket. Through the buffer of that transport, each write would cost two calls of epoll_ctl
and wait for the next turn of the reactor: a third of the cost of a delivery.
"""

import os
from typing import Any

from OpenSSL.SSL import WantReadError
from twisted.internet import tcp
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from sinapse.sockets.ending import Ending

#: Bytes taken from OpenSSL at once: more than it makes of one record, which has 16 KiB of text.
READ_SIZE = 32 * 1024

_write = os.write


class TLSTransport(TLSMemoryBIOProtocol):
    """One connection.

    Only what does not fit goes by the transport's buffer, and what cannot be written at all: so
    producers are paused and resumed there, and the end of the connection is noticed there, in a
    turn of its own.
    """

    factory: "TLSFactory"
    transport: Any  # No interface has all that is needed.
    _ending: Ending | None = None
    #: None if what is below is no socket, such as the wrapper that reads the PROXY protocol.
    _socket: tcp.Connection | None = None

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Begin to shake hands."""
        if isinstance(transport, tcp.Connection):
            self._socket = transport
        super().makeConnection(transport)

    def _flushSendBIO(self) -> None:  # noqa: N802
        """Write the encrypted bytes; no other method does."""
        try:
            data = self._tlsConnection.bio_read(READ_SIZE)
        except WantReadError:
            return
        socket = self._socket
        # The descriptor is the transport's until it is connected no longer. What waits in its
        # buffer goes first.
        if (
            socket is not None
            and socket.connected
            and not socket.dataBuffer
            and not socket._tempDataBuffer  # noqa: SLF001
        ):
            try:
                written = _write(socket.fileno(), data)
            except OSError:  # It is full, or broken.
                written = 0
            if written == len(data):
                return
            data = data[written:]
        self.transport.write(data)

    # Twisted waits for the client to say that it has heard the last word, for however long.

    def loseConnection(self) -> None:  # noqa: N802
        """Say that this was all, and close when the client has agreed, or has had time to."""
        super().loseConnection()
        self._see_to_the_end()

    def loseWriteConnection(self) -> None:  # noqa: N802
        """Close: what the client says meanwhile is still read."""
        self.loseConnection()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:  # noqa: N802
        super()._tlsShutdownFinished(reason)
        self._see_to_the_end()

    def _see_to_the_end(self) -> None:
        if self._ending is None and self.connected:
            self._ending = Ending(self.transport, self.factory.reactor.callLater)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Let go of the connection."""
        super().connectionLost(reason)
        if self._ending is not None:
            self._ending.stop()


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS between the protocols of a factory and their transports.

    By default Twisted gathers small writes until the next turn of the reactor. A stream is written
    to once a turn anyway, and gathering would be a tenth of what a delivery costs.
    """

    protocol = TLSTransport

    def __init__(
        self, creator: IOpenSSLServerConnectionCreator, factory: IProtocolFactory, reactor: Any
    ) -> None:
        super().__init__(creator, False, factory, reactor)
        self.reactor = reactor
