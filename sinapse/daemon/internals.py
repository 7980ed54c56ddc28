"""Private parts of libraries that we use, looked for before anything starts.

A version of a library may be installed that was never tested with ours. If it lacks such a name,
that would show only when a client comes, as a traceback for each.
"""

from collections.abc import Collection, Iterator
from importlib.metadata import version
from inspect import signature
from typing import NamedTuple

from h2.connection import H2Connection
from h2.frame_buffer import FrameBuffer
from OpenSSL._util import lib
from OpenSSL.SSL import Connection
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.scripts._twistd_unix import UnixAppLogger
from twisted.web.http import HTTPChannel
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.http11 import Request
from websockets.server import ServerProtocol

from sinapse.errors import StartError


class Use(NamedTuple):
    """What we use of a `library`: the `names` in `where`, of those that it `has`."""

    library: str
    where: str
    has: Collection[str]
    names: tuple[str, ...]


def uses() -> Iterator[Use]:
    """Yield every use; a new one in any module has to be added here."""
    yield Use("h2", "FrameBuffer", dir(FrameBuffer(server=True)), ("_data", "_headers_buffer"))
    yield Use("h2", "H2Connection", dir(H2Connection), ("_receive_goaway_frame",))
    yield Use("websockets", "http11.Request", signature(Request).parameters, ("method", "protocol"))
    yield Use("websockets", "ServerProtocol", vars(ServerProtocol()), ("extensions",))
    deflate = vars(PerMessageDeflate(True, True, 15, 15))
    yield Use("websockets", "PerMessageDeflate", deflate, ("local_max_window_bits",))
    made = FileDescriptor.__init__.__code__.co_names
    yield Use("Twisted", "FileDescriptor", made, ("_tempDataBuffer", "_tempDataLen"))
    names = ("_logConnectionLostMsg", "_preexistingSocket", "_shouldShutdown")
    yield Use("Twisted", "Port", dir(tcp.Port), names)
    yield Use(
        "Twisted",
        "TLSMemoryBIOProtocol",
        dir(TLSMemoryBIOProtocol),
        (
            "_flushSendBIO",
            "_handshakeDone",
            "_lostTLSConnection",
            "_shutdownTLS",
            "_tlsShutdownFinished",
        ),
    )
    begun = TLSMemoryBIOProtocol.makeConnection.__code__.co_names
    yield Use("Twisted", "TLSMemoryBIOProtocol", begun, ("_appSendBuffer", "_tlsConnection"))
    made = TLSMemoryBIOFactory.__init__.__code__.co_names
    yield Use("Twisted", "TLSMemoryBIOFactory", made, ("_creatorCallable",))
    made = Connection.__init__.__code__.co_names
    yield Use("pyOpenSSL", "SSL.Connection", made, ("_from_ssl", "_into_ssl", "_ssl"))
    yield Use(
        "pyOpenSSL",
        "_util.lib",
        dir(lib),
        (
            "BIO_new",
            "BIO_read",
            "BIO_s_mem",
            "ERR_clear_error",
            "SSL_ERROR_WANT_WRITE",
            "SSL_get_error",
            "SSL_set_bio",
            "SSL_set_fd",
            "SSL_write",
        ),
    )
    yield Use(
        "Twisted",
        "HTTPChannel",
        dir(HTTPChannel),
        (
            "_maybeChooseTransferDecoder",
            "_receivedHeaderCount",
            "_receivedHeaderSize",
            "_respondToBadRequestAndDisconnect",
            "_waitingForTransport",
        ),
    )
    begun = (*HTTPChannel.connectionMade.__code__.co_names, *HTTPChannel.__init__.__code__.co_names)
    yield Use("Twisted", "HTTPChannel", begun, ("_handlingRequest", "_networkProducer"))
    service = dir(StreamServerEndpointService)
    yield Use("Twisted", "StreamServerEndpointService", service, ("_raiseSynchronously",))
    yield Use("Twisted", "UnixAppLogger", dir(UnixAppLogger), ("_getLogObserver",))


def check() -> None:
    """Raise :class:`~sinapse.errors.StartError` if a library that is installed lacks a name."""
    for use in uses():
        for name in use.names:
            if name not in use.has:
                raise StartError(
                    f"sinapse: {use.library} {version(use.library)} has no {use.where}.{name},"
                    f" which is needed: pip install --upgrade sinapse-push {use.library}"
                )
