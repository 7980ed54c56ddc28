"""Listening sockets that systemd, or the parent of a worker, has bound.

They outlive this process. Twisted removes the path of a UNIX socket that it has adopted, and
changes its mode; this module does neither.
"""

import socket
from typing import Any

from twisted.internet import unix
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from zope.interface import implementer


@implementer(IStreamServerEndpoint)
class SharedSocket:
    """The listening socket `descriptor`, which is ours from now on."""

    def __init__(self, descriptor: int, reactor: IReactorCore) -> None:
        self._descriptor = descriptor
        self._reactor: Any = reactor

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Accept connections, along with others; raises ``OSError`` if that is no socket."""
        bound = socket.socket(fileno=self._descriptor)
        bound.setblocking(False)
        if bound.family == socket.AF_UNIX:
            port = _SharedPort(bound, factory, self._reactor)
            port.startListening()
        else:
            port = self._reactor.adoptStreamPort(bound.fileno(), bound.family, factory)
            bound.close()  # Twisted has a duplicate.
        return succeed(port)


class _SharedPort(unix.Port):
    """The port of a UNIX socket whose path Twisted takes for one that is in no folder."""

    #: A shutdown would be one for all who have the socket.
    _shouldShutdown = False  # noqa: N815

    def __init__(self, bound: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(b"\0shared", factory, reactor=reactor)
        self._preexistingSocket = bound

    def _logConnectionLostMsg(self) -> None:  # noqa: N802
        """Keep quiet: it would write the NUL."""
