"""Log lines that must not grow with traffic."""

from collections.abc import Callable

#: Seconds between two lines of one kind.
INTERVAL = 60.0


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
        self._next = now + INTERVAL
        kept_back, self._kept_back = self._kept_back, 0
        self._emit(f"{text} (and {kept_back} more since the last such line)" if kept_back else text)
