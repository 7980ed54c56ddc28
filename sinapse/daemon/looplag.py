"""Whether the event loop is late: everything waits while one callback runs."""

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from sinapse.counters import Histogram

#: Seconds between two looks: some 10 µs each.
LOOK_INTERVAL = 0.5


class LoopLag(Service):
    """Counts in `lags` how late something came that was due; `seconds` is a clock."""

    def __init__(
        self, lags: Histogram, reactor: Any, seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._lags = lags
        self._seconds = seconds
        self._reactor = reactor
        self._next: IDelayedCall | None = None

    def startService(self) -> None:  # noqa: N802
        """Begin to look."""
        super().startService()
        self._wait()

    def stopService(self) -> None:  # noqa: N802
        """Look no more."""
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _wait(self) -> None:
        self._next = self._reactor.callLater(LOOK_INTERVAL, self._look, self._seconds())

    def _look(self, since: float) -> None:
        self._lags.observe(max(0.0, self._seconds() - since - LOOK_INTERVAL))
        self._wait()
