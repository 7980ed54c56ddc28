"""What signals mean to a daemon.

The first SIGTERM ends it in good order; a second one, or SIGINT, at once. SIGHUP, which ends a
program whose terminal is gone, has certificates read again.
"""

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

_Stop = Callable[[int, FrameType | None], object]


class Signals:
    """Calls `hasten` when there is no more time, and `renew` for SIGHUP, both in the reactor."""

    def __init__(
        self, reactor: Any, *, hasten: Callable[[], object], renew: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._hasten = hasten
        self._renew = renew
        self._is_ending = False

    def watch(self) -> None:
        """Begin. Twisted's own handlers are kept: by them, twistd knows what it was ended by."""
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._renew))
        # The reactor sets its own when it starts.
        self._reactor.callWhenRunning(self._watch_ends)

    def _watch_ends(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            stop = signal.getsignal(number)
            if callable(stop):
                signal.signal(number, partial(self._end, stop))

    def _end(self, stop: _Stop, number: int, frame: FrameType | None) -> None:
        is_first, self._is_ending = not self._is_ending, True
        if is_first:
            stop(number, frame)
        if number == signal.SIGINT or not is_first:
            self._reactor.callFromThread(self._hasten)
