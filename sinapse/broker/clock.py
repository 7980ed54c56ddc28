"""The clock of a Redis beside ours: how far ahead it is, as its answers tell."""

from collections import deque
from collections.abc import Callable

#: Answers that are remembered: those of half a minute. Clocks drift apart.
REMEMBERED = 8

#: Seconds by which two answers may contradict each other: what clocks drift apart in that time.
_DRIFT = 0.001


class RedisClock:
    """Knows how many seconds the clock of a Redis is ahead of a clock of this process.

    What is told in an answer was so at some moment between question and answer: half of that time
    is the error at most. So of the last answers the quickest counts. If an answer contradicts that,
    a clock was set, or a machine slept: the older ones are forgotten. `tell` is called with what is
    known, after each.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        #: How long each took, and how far ahead the clock was by it.
        self._answers: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)

    def answered(self, told: float, asked: float, now: float) -> None:
        """Note that Redis has told the time `told`; it was asked at `asked`, by our clock."""
        took, ahead = now - asked, told - (asked + now) / 2
        if self._answers:
            least, known = min(self._answers)
            if abs(ahead - known) > (took + least) / 2 + _DRIFT:
                self._answers.clear()
        self._answers.append((took, ahead))
        self._tell(min(self._answers)[1])
