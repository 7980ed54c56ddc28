"""Drain: the order in which all streams are ended, evenly over some seconds. No clock.

It is random, so that streams that opened together do not end, and come back, together.
"""

import random
from collections.abc import Iterable
from typing import Generic, TypeVar

Stream = TypeVar("Stream")


class Drain(Generic[Stream]):
    """The order in which `streams` are ended within `seconds` from `now` on."""

    def __init__(self, streams: Iterable[Stream], seconds: float, now: float) -> None:
        self._waiting = list(streams)
        random.shuffle(self._waiting)
        self._count = len(self._waiting)
        self._seconds = seconds
        self._begun = now
        self._postponed: list[Stream] = []

    def is_over(self, now: float) -> bool:
        """Whether the seconds are over."""
        return now - self._begun >= self._seconds

    def due(self, now: float) -> list[Stream]:
        """Return the streams whose turn has come since the last call; at the end, all others."""
        if self.is_over(now):
            due, self._waiting = self._waiting, []
        else:
            # The first one goes at once, and all are an equal time apart.
            gone = 1 + int(self._count * (now - self._begun) / self._seconds)
            keep = max(0, self._count - gone)
            due, self._waiting = self._waiting[keep:], self._waiting[:keep]
        postponed, self._postponed = self._postponed, []
        return postponed + due

    def postpone(self, stream: Stream) -> None:
        """Return `stream` again the next time."""
        self._postponed.append(stream)
