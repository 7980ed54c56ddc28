"""The sockets that are shared: bound and kept by the parent, accepted from by the workers."""

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from sinapse.sockets.gate import Gate
from sinapse.sockets.inherited import SharedSocket
from sinapse.sockets.listener import Listener


class HeldPort(Listener):
    """A ``--port`` in the parent: bound, and left for workers to accept from."""

    def __init__(self, description: str, reactor: Any) -> None:
        super().__init__(description, _Nobody(), reactor)

    @property
    def descriptor(self) -> int:
        """The listening socket; raises :class:`~sinapse.errors.StartError` if that is no such."""
        descriptor = self._held.descriptor
        if descriptor is None:
            raise self._error("this kind of endpoint cannot be shared by --workers")
        return descriptor

    def _endpoint(self, description: str, reactor: Any) -> IStreamServerEndpoint:
        self._held = _Held(super()._endpoint(description, reactor))
        return self._held


class InheritedPorts:
    """Makes the listeners of a worker: the n-th is that of the n-th of `descriptors`."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._descriptors: Iterator[int] = iter(descriptors)

    def __call__(
        self, description: str, factory: IProtocolFactory, reactor: Any, gate: Gate
    ) -> Listener:
        """Return the listener of the next ``--port``."""
        return _InheritedPort(description, factory, reactor, gate, next(self._descriptors))


class _InheritedPort(Listener):
    """A ``--port`` in a worker."""

    def __init__(
        self,
        description: str,
        factory: IProtocolFactory,
        reactor: Any,
        gate: Gate,
        descriptor: int,
    ) -> None:
        self._descriptor = descriptor
        super().__init__(description, factory, reactor, gate=gate)

    def _endpoint(self, description: str, reactor: Any) -> IStreamServerEndpoint:  # noqa: ARG002
        return SharedSocket(self._descriptor, reactor)

    def _clear_the_way(self) -> None:
        """Leave the path of a UNIX socket alone: it is in use, and rightly so."""


class _Nobody(Factory):
    """Never asked: the parent accepts no connection."""

    noisy = False


@implementer(IStreamServerEndpoint)
class _Held:
    """Binds as `endpoint` does, and accepts nothing."""

    descriptor: int | None = None

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._bound = endpoint

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Bind; the backlog fills until a worker accepts."""
        return self._bound.listen(factory).addCallback(self._hold)

    def _hold(self, port: Any) -> IListeningPort:
        if hasattr(port, "stopReading") and hasattr(port, "fileno"):
            port.stopReading()
            # A shutdown would be one for the workers, too, who are still about to stop.
            port._shouldShutdown = False  # noqa: SLF001
            self.descriptor = port.fileno()
        return port  # type: ignore[no-any-return]
