"""The gate: when connections are accepted, how many, how fast, and from which proxies.

If there is no room, connections wait in the kernel's queue, where they cost nothing. So the
descriptors never run out: some are left for Redis, and for answers to clients that cannot get a
stream.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from sinapse.counters import Counters
from sinapse.ratelimit import LogLimit, TokenBucket
from sinapse.sockets import descriptors
from sinapse.sockets.ending import Ending, unwritten
from sinapse.sockets.forwarded import UNIX, TrustedProxies
from sinapse.sockets.options import prepare
from sinapse.sockets.turns import ACCEPTS

#: Connections of an address beside its streams: for refused requests, and for other requests.
OTHER_CONNECTIONS_PER_ADDRESS = 32

#: Seconds between two checks whether there is room again: the limit may have been raised.
ROOM_CHECK_INTERVAL = 1.0


class _Counted:
    """A transport that tells the gate of its end, and has a deadline for it."""

    server: Any
    _ending: Ending | None = None

    def getHost(self) -> IAddress:  # noqa: N802
        """Return the address that is listened on: the socket's own is a question to the kernel."""
        address: IAddress = self.server.host
        return address

    def loseConnection(self) -> None:  # noqa: N802
        """Close when all bytes are written, or the client does not read them."""
        super().loseConnection()  # type: ignore[misc]  # That of the transport.
        if self._ending is None and unwritten(self):
            self._ending = Ending(self, self.server.gate.call_later)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """Let go of the descriptor, once, and tell the gate."""
        if self._ending is not None:
            self._ending.stop()
        is_first = hasattr(self, "socket")
        super().connectionLost(reason)  # type: ignore[misc]  # That of the transport.
        if is_first:
            self.server.gate.left(self)


class _TCPTransport(_Counted, tcp.Server):
    pass


class _UNIXTransport(_Counted, unix.Server):
    pass


class Gate:
    """Accepts connections to all ports of a node.

    `rate` is accepts a second, `per_address` streams of an address, both 0 for no limit; `most`
    returns how many connections there may be. No connection is accepted before it `is_open`.
    """

    _log = Logger()

    def __init__(
        self,
        counters: Counters,
        proxies: TrustedProxies,
        *,
        rate: int = 0,
        per_address: int = 0,
        most: Callable[[], int] = descriptors.connections,
        is_open: bool = True,
        reactor: Any,
    ) -> None:
        self._most = most
        self._is_open = is_open
        self._counters = counters
        self._proxies = proxies
        self._bucket = TokenBucket(rate, reactor.seconds) if rate else None
        self._per_address = per_address
        self._reactor = reactor
        self.call_later = reactor.callLater
        self._connections = 0
        self._by_address: Counter[str] = Counter()
        self._paused: set[tcp.Port] = set()
        self._look: IDelayedCall | None = None
        self._lacks_room = False
        #: So many streams were possible when that was asked last.
        self._streams = 0
        #: Closes a connection that nobody would miss; returns whether there was one.
        self.relieve: Callable[[], bool] = lambda: False
        self._warn = LogLimit(lambda text: self._log.warn("{text}", text=text), reactor.seconds)

    def open(self) -> None:
        """Accept connections from now on, first those that wait already."""
        self._is_open = True
        self._resume()

    def is_full(self) -> bool:
        """Whether there is no room for one more stream, only for an answer to its request."""
        if self._connections > self._streams:
            self._streams = descriptors.streams()
        return self._connections > self._streams and not self.relieve()

    def watched(
        self, endpoint: IStreamServerEndpoint, *, is_proxied: bool
    ) -> IStreamServerEndpoint:
        """Return `endpoint` behind this gate; one that `is_proxied` accepts only trusted proxies.

        Their first bytes say who a client is (the PROXY protocol).
        """
        return _Watched(endpoint, partial(self._watch, is_proxied=is_proxied))

    def left(self, transport: Any) -> None:
        """Take note that a connection has ended."""
        self._connections -= 1
        if self._per_address and (key := self._key(transport.getPeer())) is not None:
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]
        if self._lacks_room:
            self._lacks_room = False
            self._look_after(0)

    def enter(self, address: IAddress, *, is_proxied: bool) -> bool:
        """Accept a connection of `address`, or close it without an answer."""
        peer = _host(address)
        if is_proxied and not self._proxies.trusts(peer):
            return self._refuse("not a trusted proxy", f"{peer} is none of --trusted-proxies")
        if self._per_address and (key := self._proxies.counted(peer)) is not None:
            if self._by_address[key] >= self._per_address + OTHER_CONNECTIONS_PER_ADDRESS:
                return self._refuse("too many connections of this address", f"many from {peer}")
            self._by_address[key] += 1
        self._connections += 1
        if self._bucket is not None:
            self._bucket.take()
        return True

    def _refuse(self, reason: str, text: str) -> bool:
        self._counters.connections_refused[reason] += 1
        self._warn(f"connections are refused: {text}")
        return False

    def _key(self, address: IAddress) -> str | None:
        return self._proxies.counted(_host(address))

    def _watch(self, port: IListeningPort, *, is_proxied: bool) -> IListeningPort:
        """Have a port accept as much as there is room for."""
        if not isinstance(port, tcp.Port):
            return port  # Of an endpoint of somebody else's making.
        ours: Any = port
        ours.gate = self
        ours.host = port.getHost()
        prepare(ours.socket)
        ours.factory = _Guarded(ours.factory, partial(self.enter, is_proxied=is_proxied))
        ours.transport = _UNIXTransport if isinstance(port, unix.Port) else _TCPTransport
        ours.doRead = partial(self._accept, port, port.doRead)
        if not self._is_open:
            port.stopReading()
            self._paused.add(port)
        return port

    def _accept(self, port: tcp.Port, accept: Callable[[], None]) -> None:
        room = self._most() - self._connections
        if room < 1:
            self._lacks_room = True
            self._pause(port, ROOM_CHECK_INTERVAL, "descriptors")
            if not self.relieve():
                self._warn(f"no descriptors are left, {self._connections} connections: others wait")
            return
        if self._bucket is not None and (room := min(room, self._bucket.available())) < 1:
            self._pause(port, self._bucket.wait(), "rate")
            return
        port.numberAccepts = min(port.numberAccepts, room, ACCEPTS)
        accept()

    def _pause(self, port: tcp.Port, seconds: float, reason: str) -> None:
        self._counters.accepts_paused[reason] += 1
        self._paused.add(port)
        port.stopReading()
        self._look_after(seconds)

    def _look_after(self, seconds: float) -> None:
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._look = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._look = None
        paused, self._paused = self._paused, set()
        for port in paused:
            if port.connected and not port.disconnecting:
                port.startReading()


@implementer(IStreamServerEndpoint)
class _Watched:
    """An endpoint that passes its port to `watch`."""

    def __init__(
        self, endpoint: IStreamServerEndpoint, watch: Callable[[IListeningPort], IListeningPort]
    ) -> None:
        self._endpoint = endpoint
        self._watch = watch

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":  # noqa: N803
        """Bind."""
        return self._endpoint.listen(protocolFactory).addCallback(self._watch)


@implementer(IProtocolFactory)
class _Guarded:
    """A factory that makes protocols for connections that `enter` accepts."""

    def __init__(self, factory: IProtocolFactory, enter: Callable[[IAddress], bool]) -> None:
        self._factory = factory
        self._enter = enter
        self.doStart = factory.doStart
        self.doStop = factory.doStop

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # noqa: N802
        """Return the protocol of an accepted connection, None for one to be closed."""
        return self._factory.buildProtocol(addr) if self._enter(addr) else None


def _host(address: IAddress) -> str:
    return str(getattr(address, "host", UNIX))
