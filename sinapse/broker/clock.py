"""The clock of a Redis beside ours: how far ahead it is, as its answers tell."""

from collections import deque
from collections.abc import Callable

#: Answers that are remembered: those of half a minute. The clock of Redis may be set.
REMEMBERED = 8


class RedisClock:
    """Knows how many seconds the clock of a Redis is ahead of a clock of this process.

    What is told in an answer was so at some moment between question and answer: half of that time
    is the error at most. So of the last answers the quickest counts. `tell` is called with what is
    known, after each.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        #: How long each took, and how far ahead the clock was by it.
        self._answers: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)

    def answered(self, told: float, asked: float, now: float) -> None:
        """Note that Redis has told the time `told`; it was asked at `asked`, by our clock."""
        self._answers.append((now - asked, told - (asked + now) / 2))
        self._tell(min(self._answers)[1])
