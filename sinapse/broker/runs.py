"""Runs whose process has died: one Redis is looked at for them, and their streams are told."""

import random
from typing import Any

from twisted.internet.task import deferLater

from sinapse.broker.background import BackgroundService
from sinapse.broker.broker import RedisBroker
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import HORIZON, RUN_CHANNELS
from sinapse.protocol.runs import ENDINGS, LEASE, MESSAGES, RunState
from sinapse.protocol.scripts import SWEEP_RUNS

#: Seconds between two looks, on average. A look is one script, which finds no key while there are
#: no runs; the first node that finds one does what is to be done.
LOOK_INTERVAL = 1.0

#: Runs that one step ends: a millisecond or two of Redis.
RUNS_PER_STEP = 20

#: Seconds by which a look is late if Redis, or this node, has stood still: then the processes of
#: runs may have been cut off as well.
STANDSTILL = 3.0


class RunSweeper(BackgroundService):
    """Looks for runs in one Redis that have given no sign of life in time."""

    def __init__(self, broker: RedisBroker[Any], reactor: Any) -> None:
        self._broker = broker
        self._reactor = reactor
        names = broker.names
        self._keys = names.of_runs
        self._arguments = (
            *(names.run_key(""), RUN_CHANNELS, names.retained_key("")),
            *(MESSAGES, names.nodes, HORIZON, LEASE),
            *(RUNS_PER_STEP, RunState.LOST, ENDINGS[RunState.LOST]),
        )

    async def stay(self) -> None:
        """Look about once a second, while Redis is there."""
        while True:
            await self._broker.when_ready()
            # Where Redis was away, it was so for the processes of runs too: they have as long to
            # come back as a sign of life holds.
            await deferLater(self._reactor, LEASE / 1000)
            seen = pause = 0.0
            while self._broker.ready:
                former, seen = seen, await self._sweep(seen)
                is_late = former > 0 and seen - former > pause + STANDSTILL
                pause = LOOK_INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311
                if is_late:
                    pause = LEASE / 1000
                await deferLater(self._reactor, pause)

    async def _sweep(self, upto: float) -> float:
        """End runs whose sign of life has not held up to a time of Redis; return what it is now.

        Both are in seconds.
        """
        seen, count = upto, RUNS_PER_STEP
        arguments: list[str | int] = [*self._arguments, int(upto * 1000)]
        try:
            while count == RUNS_PER_STEP:
                count, now = await self._broker.run(SWEEP_RUNS, self._keys, arguments)
                seen = int(now) / 1000
        except BrokerUnavailable:
            return upto
        return seen
