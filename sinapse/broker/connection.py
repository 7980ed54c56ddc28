"""Staying connected with one Redis: one session after another."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sinapse.broker.lookup import Lookup
from sinapse.broker.sentinel import Sentinels
from sinapse.broker.session import Session
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import Names
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import Script
from sinapse.ratelimit import LogLimit

#: Seconds before the second attempt to connect, doubled each time, and the most. Short, because
#: all clients wait; random, because all nodes come back at once.
FIRST_DELAY = 0.1
MAX_DELAY = 2.0

#: Seconds that an embedded server may take to start before that is logged: it takes 0.1.
EMBEDDED_START = 2


class Connection(ABC, Service):
    """The sessions with the Redis at `url`."""

    _log = Logger()

    def __init__(self, url: RedisURL, counters: Counters, reactor: Any) -> None:
        self.counters = counters
        self.sentinels = Sentinels(url, reactor)
        self._url = url
        self._reactor = reactor
        #: Called when this Redis is there (True), or is lost.
        self.ready_watchers: list[Callable[[bool], None]] = []
        self.warn = LogLimit(self._warn, reactor.seconds)
        self._session: Session | None = None
        self._running: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []
        self._state = "not connected yet"

    @abstractmethod
    def begin_session(self) -> Session:
        """Return a new session."""

    def startService(self) -> None:  # noqa: N802
        """Connect, and stay connected."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:  # noqa: N802
        """Disconnect for good."""
        super().stopService()
        if self._running is not None:
            self._running.cancel()

    @property
    def names(self) -> Names:
        """The names that Sinapse uses in this Redis."""
        return self._url.names

    @property
    def ready(self) -> bool:
        """Whether it is connected, subscribed, reconciled and caught up."""
        return self._session is not None and self._session.is_ready

    @property
    def parts_ready(self) -> Mapping[str, bool]:
        """The same by the name of this Redis, which is the only one."""
        return {"0": self.ready}

    @property
    def state(self) -> str:
        """The state of the connection, in words."""
        return self._state

    async def when_ready(self, failures: int = 0) -> None:
        """Return when Redis is there, in a later turn of the reactor.

        `failures` is how often the caller has failed by now: on a connection whose end may not be
        known here yet, or because Redis refuses a command. Without a pause between the attempts, a
        caller would try and fail for ever.
        """
        await deferLater(self._reactor, _delay(failures - 1) if self.ready and failures else 0)
        while not self.ready:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """Return what `script` returns; raises :class:`~sinapse.errors.BrokerUnavailable`."""
        lookup = self._lookup()
        try:
            return await lookup.run(script, keys, arguments)
        except txredisapi.RedisError as error:
            if not isinstance(error, txredisapi.ConnectionError):
                self.complain(f"a script failed: {error}")
            raise BrokerUnavailable(str(error)) from error

    async def barrier(self) -> None:
        """Return when all that Redis had done before now has been handled, for new channels too.

        Raises :class:`~sinapse.errors.BrokerUnavailable`.
        """
        if self._session is None:
            raise BrokerUnavailable(self._state)
        try:
            await self._session.barrier()
        except txredisapi.RedisError as error:
            raise BrokerUnavailable(str(error)) from error

    def _lookup(self) -> Lookup:
        session = self._session
        if session is None or not session.is_ready:
            raise BrokerUnavailable(self._state)
        return random.choice(session.lookups)  # noqa: S311

    def complain(self, text: str) -> None:
        """Log a problem with this Redis, at a bounded rate."""
        self.warn(f"Redis {self._url}: {text}")

    def _warn(self, text: str) -> None:
        self._log.warn("{text}", text=text)

    def connected(self, node: RedisURL) -> None:
        """Note that the session is ready."""
        self.counters.redis_connects += 1
        # The log names the node only if Sentinels chose it.
        where = f" to {node.host}:{node.port}" if self._url.sentinels else ""
        self._note_state(f"connected{where}")
        self._tell_ready(True)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def lost(self) -> None:
        """Note that a session that was ready has ended."""
        self.counters.redis_losses += 1
        self._tell_ready(False)

    async def _stay_connected(self) -> None:
        failures = 0
        started = self._reactor.seconds()
        # An embedded Redis is starting too: for so long its absence is not logged.
        patience = EMBEDDED_START if self._url.embedded is not None else 0
        while True:
            self._session = self.begin_session()
            try:
                await self._session.run()
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # Whatever it was, Redis is tried again.
                if not self.running:  # Twisted says it in other words in the midst of connecting.
                    raise CancelledError from None
                if self._reactor.seconds() - started >= patience:
                    self._note_state(f"unavailable: {error or type(error).__name__}")
            was_ready = self.ready
            self._session = None
            if was_ready:
                self.lost()
                failures = 0
            await deferLater(self._reactor, _delay(failures))
            failures += 1

    def _tell_ready(self, is_ready: bool) -> None:
        for watcher in self.ready_watchers:
            watcher(is_ready)

    def _note_state(self, state: str) -> None:
        """Log a state when it changes: not once an attempt."""
        if state != self._state:
            self._state = state
            tell = self._log.info if state.startswith("connected") else self._log.warn
            tell("Redis {url}: {state}", url=str(self._url), state=state)


def _delay(failures: int) -> float:
    """Return seconds to wait after so many failures: longer each time, and at random."""
    longest: float = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
    return longest * random.uniform(0.5, 1)  # noqa: S311
