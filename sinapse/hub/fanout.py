"""A fan-out to many streams, in slices, so that other work does not wait until the last is served.

Each stream still gets its messages in the order of publication: if its turn has not come yet, it
gets what waits for it before anything else.
"""

from collections import deque
from collections.abc import Callable

from sinapse.counters import Lap, Stopwatch
from sinapse.hub.subscribers import Subscriber

#: Deliveries before other work has a turn: some 60 ms at 7 µs each.
SLICE_SIZE = 8000

#: Fan-outs that may wait. With more, it is better to leave messages with Redis: those that are read
#: together are encoded and written together.
MAX_WAITING = 2


class FanOuts:
    """Fan-outs under way. `slice_size` is the number of deliveries made at once.

    `turn_needed` is called when there is more to do: it must call :meth:`go_on` in a later turn.
    """

    def __init__(
        self, stopwatch: Stopwatch, turn_needed: Callable[[], None], slice_size: int = SLICE_SIZE
    ) -> None:
        self.slice_size = slice_size
        self._stopwatch = stopwatch
        self._turn_needed = turn_needed
        self._waiting: deque[tuple[dict[Subscriber, list[bytes]], Lap]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be begun for now."""
        return len(self._waiting) >= MAX_WAITING

    def begin(self, outbox: dict[Subscriber, list[bytes]], lap: Lap) -> bool:
        """Send each subscriber its frames in one: a slice at once if nothing waits, the rest later.

        The caller must not use `outbox` any more. Returns whether all has been sent; if not, the
        stopwatch stops `lap` at the end.
        """
        is_first = not self._waiting
        if len(outbox) > self.slice_size:
            self._waiting.append((outbox, lap))
            if is_first:
                self.go_on()
            return False
        for subscriber, frames in outbox.items():
            if not is_first:
                self.finish(subscriber)
            subscriber.send(b"".join(frames))
        return True

    def go_on(self) -> None:
        """Send the next slice."""
        if not self._waiting:
            return
        outbox, lap = self._waiting[0]
        for _ in range(min(self.slice_size, len(outbox))):
            subscriber, frames = outbox.popitem()
            subscriber.send(b"".join(frames))
        if not outbox:
            self._waiting.popleft()
            # One flush may have several: it ends with the last of them.
            if not any(other is lap for _, other in self._waiting):
                self._stopwatch.stop(lap)
        if self._waiting:
            self._turn_needed()

    def finish(self, subscriber: Subscriber) -> None:
        """Send one subscriber everything that waits for it."""
        for outbox, _ in self._waiting:
            if (frames := outbox.pop(subscriber, None)) is not None:
                subscriber.send(b"".join(frames))

    def forget(self, subscriber: Subscriber) -> None:
        """Send nothing more to a subscriber."""
        for outbox, _ in self._waiting:
            outbox.pop(subscriber, None)
