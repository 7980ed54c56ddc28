"""How fast something may happen: lines of the log, and whatever else is taken from a bucket."""

from collections.abc import Callable

#: Seconds between two lines of one kind.
LINE_INTERVAL = 60.0


class LogLimit:
    """Lets the first line of a kind through, then one an interval, with the count between.

    `emit` takes the text; `seconds` is a clock.
    """

    def __init__(self, emit: Callable[[str], None], seconds: Callable[[], float]) -> None:
        self._emit = emit
        self._seconds = seconds
        self._next = float("-inf")
        self._kept_back = 0

    def __call__(self, text: str) -> None:
        """Log `text`, or count it."""
        now = self._seconds()
        if now < self._next:
            self._kept_back += 1
            return
        self._next = now + LINE_INTERVAL
        kept_back, self._kept_back = self._kept_back, 0
        self._emit(f"{text} (and {kept_back} more since the last such line)" if kept_back else text)


class TokenBucket:
    """Lets `rate` a second through, and as many at once as come together in a second.

    `seconds` is a clock.
    """

    def __init__(self, rate: float, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._seconds = seconds
        self._filled = self._most
        self._at = seconds()

    def available(self) -> int:
        """Return how many may pass now."""
        now = self._seconds()
        # A clock that goes back takes nothing away.
        self._filled = min(self._most, self._filled + max(0.0, now - self._at) * self._rate)
        self._at = now
        return int(self._filled)

    def take(self, count: float = 1) -> None:
        """Note that so many have passed; those that were too many are waited for."""
        self._filled -= count

    def wait(self) -> float:
        """Return the seconds until one may pass."""
        return 0.0 if self.available() >= 1 else (1 - self._filled) / self._rate
