"""Probes: whether the connected Redis answers, delivers, and is still the master."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from sinapse.broker.clock import RedisClock
from sinapse.broker.lookup import Lookup
from sinapse.counters import Histogram
from sinapse.protocol.keys import NODES
from sinapse.protocol.sharding import State

#: Seconds between two probes of the connections, and for the answer to one: within twice that the
#: node leaves a Redis that does not answer, does not deliver or is no longer the master.
PROBE_INTERVAL = 4

#: Turns of the reactor that an interval takes at least, and that a probe may be late: when
#: thousands connect at once a turn takes seconds, and it is this node that has not read yet.
PROBE_TURNS = 16
PROBE_GRACE = 4


class Probes:
    """Messages that this node publishes for itself on one connection, and expects on another.

    `seconds` counts how long they take, in Redis and in the queues of this node. `clock` is told
    the time of Redis.
    """

    def __init__(self, reactor: Any, seconds: Histogram, clock: RedisClock) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._clock = clock
        self._sent_at: float | None = None
        self._sent = self._heard = 0
        #: Where they are published: only this node is subscribed.
        self.channel = f"{NODES}:{secrets.token_hex(8)}".encode()

    def knowing(self, since: int) -> bytes:
        """Return what this node is subscribed to when it acts by `since`: so others know that.

        It says so itself also where an ear has the connection for several nodes.
        """
        return self.channel + b":%d" % since

    def in_state(self, state: State) -> bytes:
        """Return what this node is subscribed to if Redis joins or leaves by its list."""
        return self.channel + b":" + state.encode()

    def heard(self) -> None:
        """Note that one has arrived."""
        self._heard += 1
        if self._sent_at is not None:
            self._seconds.observe(time.perf_counter() - self._sent_at)
            self._sent_at = None

    def start(
        self,
        lookups: list[Lookup],
        epoch: str,
        give_up: Callable[[str], None],
        since: Callable[[int], None],
    ) -> LoopingCall:
        """Begin; on a failure, `give_up` is called with the reason, at least once.

        `since` is called with the counter since which Redis has its share of the channels.

        Every connection of `lookups` must answer, and be to a master with the data of `epoch`.
        """
        self._sent = self._heard = 0  # Without the mark that was heard before.
        turns = 0

        def wait() -> None:
            nonlocal turns
            turns += 1
            if self._heard < self._sent:
                if turns >= PROBE_TURNS + PROBE_GRACE:
                    give_up("connected, but it does not deliver")
            elif turns >= PROBE_TURNS:
                turns = 0
                Deferred.fromCoroutine(self._probe(lookups, epoch, since)).addErrback(
                    lambda failure: give_up(failure.getErrorMessage())
                )

        probes = LoopingCall(wait)
        probes.clock = self._reactor
        probes.start(PROBE_INTERVAL / PROBE_TURNS, now=False)
        return probes

    async def _probe(self, lookups: list[Lookup], epoch: str, since: Callable[[int], None]) -> None:
        self._sent += 1
        for lookup in lookups:
            since(await lookup.check(epoch))
        await lookups[0].tell_time(self._clock)
        self._sent_at = time.perf_counter()
        # With the last id, so that this node knows its position even if its channels are quiet.
        await lookups[0].mark(self.channel)
