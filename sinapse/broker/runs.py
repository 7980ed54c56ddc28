"""Runs whose process has died: one Redis is looked at for them, and their streams are told."""

import random
from typing import Any

from twisted.internet.task import deferLater

from sinapse.broker.background import BackgroundService
from sinapse.broker.broker import RedisBroker
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import (
    CHECKPOINTS,
    EPOCHS,
    HORIZON,
    LAST,
    NODES,
    REPLAY,
    RETENTION,
    RUN_CHANNELS,
    RUNS,
    retained_key,
    run_key,
)
from sinapse.protocol.runs import ENDINGS, LEASE, MESSAGES, RunState
from sinapse.protocol.scripts import SWEEP_RUNS

#: Seconds between two looks, on average. A look is one script, which finds no key while there are
#: no runs; the first node that finds one does what is to be done.
LOOK_INTERVAL = 1.0

#: Runs that one step ends: a millisecond or two of Redis.
RUNS_PER_STEP = 20

_KEYS = (RETENTION, EPOCHS, LAST, CHECKPOINTS, REPLAY, RUNS)
_ARGUMENTS = (
    *(run_key(""), RUN_CHANNELS, retained_key("")),
    *(MESSAGES, NODES, HORIZON, LEASE),
    *(RUNS_PER_STEP, RunState.LOST, ENDINGS[RunState.LOST]),
)


class RunSweeper(BackgroundService):
    """Looks for runs in one Redis that have given no sign of life in time."""

    def __init__(self, broker: RedisBroker[Any], reactor: Any) -> None:
        self._broker = broker
        self._reactor = reactor

    async def stay(self) -> None:
        """Look about once a second, while Redis is there."""
        while True:
            await self._broker.when_ready()
            # Where Redis was away, it was so for the processes of runs too: they have as long to
            # come back as a sign of life holds.
            await deferLater(self._reactor, LEASE / 1000)
            while self._broker.ready:
                await self._sweep()
                await deferLater(self._reactor, LOOK_INTERVAL * random.uniform(0.75, 1.25))  # noqa: S311

    async def _sweep(self) -> None:
        try:
            while await self._broker.run(SWEEP_RUNS, _KEYS, _ARGUMENTS) == RUNS_PER_STEP:
                pass
        except BrokerUnavailable:
            return
