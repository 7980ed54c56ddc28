"""Redis Sentinel: which node is the master.

The answer of a Sentinel is checked, since it may be out of date. As long as a master is used, we
are subscribed to a Sentinel: after a planned failover the former master goes on for ten seconds as
if nothing had happened, so that a connection to it proves nothing.
"""

import contextlib
from collections import deque
from typing import Any

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.error import AlreadyCalled
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from sinapse.protocol.redisurl import RedisURL
from sinapse.txredis.dial import dial
from sinapse.txredis.link import Link

#: Seconds for which to listen to one Sentinel before the next: it may hang, or be cut off.
LISTENING_TIME = 10

#: Seconds before the next Sentinel is tried when one fails.
RETRY_DELAY = 0.5

#: The events of a Sentinel, and where in them the name of the master and its new address are. The
#: Sentinel that leads a failover publishes the promotion seconds before the switch.
SWITCHES = {b"+switch-master": (0, 3), b"+promoted-slave": (5, 2)}

Address = tuple[str, int]


class Sentinels:
    """Finds the master of `url`; without Sentinels in it, that is `url` itself."""

    def __init__(self, url: RedisURL, reactor: Any) -> None:
        self._url = url
        self._reactor = reactor
        # The first one is that whose answer was right the last time.
        self._order = deque(url.sentinel(*address) for address in url.sentinels)

    async def locate(self) -> RedisURL:
        """Return the URL of the master; raises ``txredisapi.ConnectionError`` with the reasons."""
        if not self._order:
            return self._url
        failed: dict[RedisURL, str] = {}
        for _ in range(len(self._order)):
            asked = self._order[0]
            try:
                node = self._url.node(*await self._ask(asked))
                if node not in failed:
                    asked = node
                    await self._check(node)
                    return node
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # Whatever it was, the next one may do.
                failed[asked] = f"{asked.host}:{asked.port}: {error or type(error).__name__}"
            self._order.rotate(-1)
        # In a stable order: the text is logged when it changes.
        raise txredisapi.ConnectionError(
            f"no Sentinel knows where {self._url.master} is: {'; '.join(sorted(failed.values()))}"
        )

    async def until_moved(self, node: RedisURL) -> str:
        """Return where the master is, in words, once it is not `node` any more."""
        if not self._order:
            await Deferred()
        while True:
            try:
                master = await self._listen(self._order[0], node)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001  # Whatever it was, the next one may do.
                await deferLater(self._reactor, RETRY_DELAY)
            else:
                if master is not None:
                    return f"the master is now {master.host}:{master.port}"
            self._order.rotate(-1)

    async def _ask(self, sentinel: RedisURL) -> Address:
        listener = await dial(_Listener, sentinel, self._reactor)
        try:
            return await listener.ask(self._url.master)
        finally:
            listener.transport.abortConnection()

    async def _check(self, node: RedisURL) -> None:
        """Raise ``txredisapi.ConnectionError`` if `node` is no master."""
        link = await dial(Link, node, self._reactor)
        try:
            is_master = await link.is_master()
        finally:
            link.transport.abortConnection()
        if not is_master:
            raise txredisapi.ConnectionError("it is no master")

    async def _listen(self, sentinel: RedisURL, node: RedisURL) -> RedisURL | None:
        """Return the master if it moves during the turn of `sentinel`."""
        listener = await dial(_Listener, sentinel, self._reactor)
        end = self._reactor.callLater(LISTENING_TIME, listener.transport.abortConnection)
        try:
            listener.listen(self._url.master)
            while True:
                address = await listener.addresses.get()
                if address is None:
                    return None
                master = self._url.node(*address)
                if master != node:
                    await self._check(master)
                    return master
        finally:
            with contextlib.suppress(AlreadyCalled):
                end.cancel()
            listener.transport.abortConnection()


class _Listener(txredisapi.SubscriberProtocol):  # type: ignore[misc]  # untyped
    """One connection to a Sentinel."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._master = b""
        #: Where the master is, and where it moves to; None when the connection is lost.
        self.addresses: DeferredQueue[Address | None] = DeferredQueue()

    async def ask(self, master: str) -> Address:
        """Return the address of `master`."""
        answer: Any = await self.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
        if answer is None:
            raise txredisapi.ConnectionError(f"it knows no master of the name {master}")
        return answer[0].decode(), int(answer[1])

    def listen(self, master: str) -> None:
        """Put into `addresses` where `master` is, then where it moves to."""
        self._master = master.encode()
        # Both are sent together, so that nothing happens between them.
        asked = Deferred.fromCoroutine(self.ask(master))
        asked.addCallbacks(self.addresses.put, lambda _: self.transport.abortConnection())
        self.subscribe([*SWITCHES]).addErrback(lambda _: self.transport.abortConnection())

    def messageReceived(self, pattern: None, channel: bytes, message: bytes) -> None:  # noqa: ARG002, N802
        """Handle an event."""
        name, address = SWITCHES[channel]
        words = message.split(b" ")
        if words[name] == self._master:
            self.addresses.put((words[address].decode(), int(words[address + 1])))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """End the wait for an address."""
        super().connectionLost(reason)
        self.addresses.put(None)
