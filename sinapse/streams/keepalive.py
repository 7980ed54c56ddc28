"""Keep-alive: bytes for quiet streams, so that no proxy takes them for dead.

The streams are in a ring of buckets. Each tick visits one of them, so the work is spread evenly
over time, however many streams opened at once. Each interval has two rounds of the ring, and a
stream gets a keep-alive if nothing was written to it since the last visit. The keep-alive counts as
written: an idle stream gets one in each interval, and no stream is ever silent for longer. Once in
a longer time, every stream can be refreshed, quiet or not.

What is written to a whole audience touches none of its streams: that is asked for here.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Buckets: at the default interval of 15 s a tick each 0.25 s, and 1/30 of the streams a tick.
BUCKETS = 30


class Stream(Protocol):
    """An open stream that can be kept alive."""

    quiet: bool

    def keep_alive(self) -> None:
        """Write something without a meaning, and be no longer quiet."""


class KeepAlive:
    """The ring.

    `interval` is in seconds; every `life` seconds `refresh` is called with each stream. `now`
    returns how many messages there have been, and `has_written_to` whether one of those after so
    many was written to a stream.
    """

    _log = Logger()

    def __init__(
        self,
        interval: float,
        clock: IReactorTime,
        refresh: Callable[[Any], None] | None = None,
        life: float = 0,
        *,
        now: Callable[[], int] = lambda: 0,
        has_written_to: Callable[[Any, int], bool] = lambda _stream, _since: False,
    ) -> None:
        self._ring: list[set[Stream]] = [set() for _ in range(BUCKETS)]
        #: How many messages there had been when a bucket was visited.
        self._messages = [0] * BUCKETS
        self._now = now
        self._has_written_to = has_written_to
        self._filling = 0
        self._visiting = 0
        self._seconds = interval / 2 / BUCKETS
        self._refresh = refresh
        #: Rounds of the ring in a life; the buckets are refreshed one after another in that time.
        self._rounds = max(1, round(life / (interval / 2)))
        self._round = 0
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock

    def start(self) -> None:
        """Begin to visit the streams."""
        self._ticks.start(self._seconds, now=False)

    def stop(self) -> None:
        """Stop the visits."""
        if self._ticks.running:
            self._ticks.stop()

    def add(self, stream: Stream) -> int:
        """Put a stream into the ring; returns its bucket, for `discard`."""
        self._filling = (self._filling + 1) % BUCKETS
        self._ring[self._filling].add(stream)
        return self._filling

    def discard(self, stream: Stream, bucket: int) -> None:
        """Remove a stream from the ring."""
        self._ring[bucket].discard(stream)

    def _tick(self) -> None:
        self._visiting = (self._visiting + 1) % BUCKETS
        self._round += not self._visiting
        shift = self._visiting * self._rounds // BUCKETS
        is_due = self._refresh is not None and (self._round + shift) % self._rounds == 0
        since, now = self._messages[self._visiting], self._now()
        self._messages[self._visiting] = now
        for stream in list(self._ring[self._visiting]):
            try:
                if is_due and self._refresh is not None:
                    self._refresh(stream)
                if stream.quiet and not (now > since and self._has_written_to(stream, since)):
                    stream.keep_alive()
                else:
                    stream.quiet = True
            except Exception:  # noqa: BLE001  # A LoopingCall that raises stops for good.
                self._log.failure("keep-alive failed")
