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
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.tls import TLSMemoryBIOProtocol
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
    yield Use("Twisted", "TLSMemoryBIOProtocol", dir(TLSMemoryBIOProtocol), ("_flushSendBIO",))
    begun = TLSMemoryBIOProtocol.makeConnection.__code__.co_names
    yield Use("Twisted", "TLSMemoryBIOProtocol", begun, ("_tlsConnection",))
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
