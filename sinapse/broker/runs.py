"""Runs whose process has died: one Redis is looked at for them, and their streams are told."""

import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

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


class RunSweeper(Service):
    """Looks for runs in one Redis that have given no sign of life in time."""

    _log = Logger()

    def __init__(self, broker: RedisBroker[Any], reactor: Any) -> None:
        self._broker = broker
        self._reactor = reactor
        self._running: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802
        """Begin to look."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._stay())
        self._running.addErrback(self._failed)

    def stopService(self) -> None:  # noqa: N802
        """Stop: another node looks."""
        super().stopService()
        if self._running is not None:
            self._running.cancel()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("looking for lost runs failed", failure=failure)

    async def _stay(self) -> None:
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
