"""TLS over a socket, as a transport: encrypted bytes are written directly to the descriptor.

TLS itself is Twisted's: OpenSSL reads from memory and writes into memory, and Twisted carries the
bytes from and to the transport of the socket. Through the buffer of that transport, each write
would cost two calls of epoll_ctl and wait for the next turn of the reactor: a third of the cost of
a delivery.

While a connection is only written to it is *straight*: OpenSSL has the socket itself. That saves
two copies, and two thirds of what Python does: two fifths of a delivery, and the 1.9 KiB of buffers
that an idle stream would keep. When the client says something, when a write does not fit, and at
the end, OpenSSL gets its memory back, and everything is as before.
"""

import os
from typing import Any, TypeGuard

from OpenSSL._util import ffi, lib
from twisted.internet import tcp
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from sinapse.sockets.ending import Ending

#: Bytes taken from OpenSSL at once: more than it makes of one record, which has 16 KiB of text.
READ_SIZE = 32 * 1024

_write = os.write
_encrypt = lib.SSL_write

# Where bytes are on their way from OpenSSL to the socket: each connection needs it for a moment.
_buffer = ffi.new("char[]", READ_SIZE)
_encrypted = memoryview(ffi.buffer(_buffer))


class TLSTransport(TLSMemoryBIOProtocol):
    """One connection.

    Only what does not fit goes by the transport's buffer, and what cannot be written at all: so
    producers are paused and resumed there, and the end of the connection is noticed there, in a
    turn of its own.
    """

    factory: "TLSFactory"
    transport: Any  # No interface has all that is needed.
    _appSendBuffer: list[bytes]  # noqa: N815
    _ending: Ending | None = None
    #: None if what is below is no socket, such as the wrapper that reads the PROXY protocol.
    _socket: tcp.Connection | None = None
    #: OpenSSL's connection while that has the socket itself.
    _straight: Any = None
    #: Not everything that was received is decrypted: it is in OpenSSL's memory.
    _is_reading = False

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Wait for the client to begin the handshake.

        Twisted's method would also ask OpenSSL for bytes before there is a client's word, and
        declare each interface of the transport alone: a twentieth of the cost of a connection.
        """
        if isinstance(transport, tcp.Connection):
            self._socket = transport
        self._tlsConnection = self.factory._creatorCallable(self)  # noqa: SLF001
        self._appSendBuffer = []
        ProtocolWrapper.makeConnection(self, transport)

    # Writing

    def write(self, data: bytes) -> None:
        """Encrypt, and write: now, or what does not fit as soon as there is room."""
        ssl = self._straight or self._straighten()
        if ssl is None:
            super().write(data)
        elif data and (result := _encrypt(ssl, data, len(data))) != len(data):
            self._write_the_rest(ssl, data, result)

    def _straighten(self) -> Any:
        """Give OpenSSL the socket, if nothing is on its way in either direction; return it then."""
        socket = self._socket
        if (
            self._is_reading
            or not self._handshakeDone
            or self._lostTLSConnection
            or self.disconnecting
            or self._appSendBuffer
            or not _is_free(socket)
        ):
            return None
        connection = self._tlsConnection
        ssl = connection._ssl  # noqa: SLF001
        if not lib.SSL_set_fd(ssl, socket.fileno()):
            lib.ERR_clear_error()
            return None
        # OpenSSL has freed them.
        connection._into_ssl = connection._from_ssl = None  # noqa: SLF001
        self._straight = ssl
        return ssl

    def _turn_back(self) -> None:
        """Give OpenSSL its memory again; what it keeps of a record stays as it is."""
        ssl, self._straight = self._straight, None
        if ssl is None:
            return
        connection = self._tlsConnection
        connection._into_ssl = lib.BIO_new(lib.BIO_s_mem())  # noqa: SLF001
        connection._from_ssl = lib.BIO_new(lib.BIO_s_mem())  # noqa: SLF001
        lib.SSL_set_bio(ssl, connection._into_ssl, connection._from_ssl)  # noqa: SLF001

    def _write_the_rest(self, ssl: Any, data: bytes, result: int) -> None:
        """Go on after a write of `data` that the socket has not taken, or not whole."""
        is_full = result <= 0 and lib.SSL_get_error(ssl, result) == lib.SSL_ERROR_WANT_WRITE
        self._turn_back()
        if is_full:
            # The same again: OpenSSL goes on in the midst of the record that it has begun.
            result = _encrypt(ssl, data, len(data))
            self._flushSendBIO()
        if result > 0:  # It has taken a part.
            super().write(data[result:])
            return
        # The client is gone; the transport tells so in a later turn.
        lib.ERR_clear_error()
        self._lostTLSConnection = True
        self.transport.abortConnection()

    def _flushSendBIO(self) -> None:  # noqa: N802
        """Write the encrypted bytes that are in OpenSSL's memory."""
        memory = self._tlsConnection._from_ssl  # noqa: SLF001
        # Called thus it raises nothing if there are none, as mostly, and copies nothing.
        while (size := lib.BIO_read(memory, _buffer, READ_SIZE)) > 0:
            written = 0
            if _is_free(socket := self._socket):
                try:
                    written = _write(socket.fileno(), _encrypted[:size])
                except OSError:  # It is full, or broken.
                    written = 0
            if written != size:
                self.transport.write(bytes(_encrypted[written:size]))

    # Everything else is done in memory.

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Decrypt, and hand on."""
        self._turn_back()
        self._is_reading = True
        try:
            super().dataReceived(data)
        finally:
            self._is_reading = False

    def _shutdownTLS(self) -> None:  # noqa: N802
        self._turn_back()
        super()._shutdownTLS()

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
        self._turn_back()
        super().connectionLost(reason)
        if self._ending is not None:
            self._ending.stop()


def _is_free(socket: tcp.Connection | None) -> TypeGuard[tcp.Connection]:
    """Whether bytes can be written to the descriptor of `socket`: nothing waits before them.

    The descriptor is the transport's until it is connected no longer.
    """
    return (
        socket is not None
        and bool(socket.connected)
        and not socket.dataBuffer
        and not socket._tempDataBuffer  # noqa: SLF001
    )


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

    def registerProtocol(self, p: TLSTransport) -> None:  # noqa: N802
        """Keep no list of connections: nobody asks for one."""

    def unregisterProtocol(self, p: TLSTransport) -> None:  # noqa: N802
        """Do nothing, as it is in no list."""
