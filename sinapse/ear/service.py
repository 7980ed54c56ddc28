"""Accepts workers, and finds for each the connection to the Redis that it asks for."""

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.internet.protocol import Factory

from sinapse.ear.client import HEAR
from sinapse.ear.upstream import Upstream
from sinapse.ear.wire import Wire
from sinapse.protocol.redisurl import RedisURL


class Ear(Service):
    """Serves workers at `endpoint`, each with one of the Redis at `urls`."""

    def __init__(
        self, urls: Sequence[RedisURL], endpoint: IStreamServerEndpoint, reactor: Any
    ) -> None:
        self._urls = urls
        self._endpoint = endpoint
        self._reactor = reactor
        self._upstreams: dict[RedisURL, Upstream] = {}
        self._over: Deferred[None] = Deferred()

    def startService(self) -> None:  # noqa: N802
        """Begin to accept workers."""
        super().startService()
        self._endpoint.listen(_Wires(self))

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Serve on until :meth:`hasten`: workers that drain need us, or will in a moment."""
        super().stopService()
        return self._over

    def hasten(self) -> None:
        """End at once."""
        if not self._over.called:
            self._over.callback(None)

    def command(self, wire: Wire, words: Sequence[bytes]) -> None:
        """Carry out the first command of a worker: it says which Redis it wants, of which node."""
        try:
            verb, number, host, port = words
            url = self._urls[int(number)]
            node = url.node(host.decode(), int(port)) if url.sentinels else url
        except (ValueError, IndexError):
            wire.transport.abortConnection()
            return
        if verb != HEAR:
            wire.transport.abortConnection()
            return
        upstream = self._upstreams.get(node)
        if upstream is None:
            upstream = self._upstreams[node] = Upstream(node, self._ended, self._reactor)
            Deferred.fromCoroutine(upstream.connect())
        upstream.admit(wire)

    def _ended(self, upstream: Upstream) -> None:
        if self._upstreams.get(upstream.url) is upstream:
            del self._upstreams[upstream.url]


class _Wires(Factory):
    noisy = False

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    def buildProtocol(self, addr: IAddress | None) -> Wire:  # noqa: ARG002, N802
        return Wire(self._ear)
