"""When Redis is asked to end grants: at the first end of all, and no more often than it must be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sinapse.broker.ends import MAX_WAIT, RETRY_DELAY, STEP_PAUSE, Ends
from sinapse.errors import BrokerUnavailable


class Ending:
    """A Redis with grants that end, and when it was asked, in milliseconds."""

    def __init__(self, *ends: int) -> None:
        self.clock = Clock()
        self.pending = sorted(ends)
        self.asked: list[int] = []
        self.ended: dict[int, int] = {}
        self.is_away = False
        self.most = 200
        self.ends = Ends(self._end_grants, self.clock)

    @property
    def now(self) -> int:
        return round(self.clock.seconds() * 1000)

    async def _end_grants(self, most: int) -> int:
        self.asked.append(self.now)
        if self.is_away:
            raise BrokerUnavailable("it is away")
        over = [end for end in self.pending if end <= self.now][: min(most, self.most)]
        self.ended.update(dict.fromkeys(over, self.now))
        self.pending = self.pending[len(over) :]
        return max(0, self.pending[0] - self.now) if self.pending else -1

    def add(self, lasts: int) -> None:
        """Add a grant, and tell of it as the script does."""
        end = self.now + lasts
        self.pending = sorted([*self.pending, end])
        if self.pending[0] == end:
            self.ends.announced(str(lasts).encode())

    def pass_(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.clock.advance(0.001)


def test_redis_is_asked_at_once_and_at_the_next_end() -> None:
    it = Ending(50, 80)
    it.ends.connected()
    it.pass_(100)
    assert it.ended == {50: 50, 80: 80}
    assert it.asked == [1, 50, 80]


def test_without_any_end_it_is_not_asked_again() -> None:
    it = Ending()
    it.ends.connected()
    it.pass_(50)
    assert it.asked == [1]
    assert it.clock.getDelayedCalls() == []


def test_an_earlier_end_that_is_announced_is_the_next() -> None:
    it = Ending(90)
    it.ends.connected()
    it.pass_(10)
    it.add(60)
    it.add(20)
    it.add(70)
    it.pass_(90)
    assert it.ended == {30: 30, 70: 70, 80: 80, 90: 90}
    assert len(it.clock.getDelayedCalls()) == 0


def test_what_ends_together_is_asked_for_together() -> None:
    it = Ending(*range(20, 30))
    it.ends.connected()
    it.pass_(50)
    assert len(it.ended) == 10
    assert all(later - earlier >= STEP_PAUSE * 1000 for earlier, later in pairwise(it.asked))


def test_more_than_can_be_ended_at_once_are_ended_one_after_the_other() -> None:
    it = Ending(*[20] * 10)
    it.most = 2
    it.ends.connected()
    it.pass_(60)
    assert it.pending == []


def test_after_a_refusal_it_is_asked_again() -> None:
    it = Ending(20)
    it.ends.connected()
    it.pass_(10)
    it.is_away = True
    it.pass_(100)
    it.is_away = False
    it.pass_(round(RETRY_DELAY * 1000))
    assert it.pending == []


def test_without_a_connection_nothing_is_asked() -> None:
    it = Ending(20)
    it.ends.connected()
    it.pass_(10)
    it.ends.disconnected()
    it.ends.announced(b"5")
    assert it.clock.getDelayedCalls() == []
    it.pass_(50)
    it.ends.connected()
    it.pass_(1)
    assert it.pending == []


def test_no_timer_is_longer_than_an_hour() -> None:
    it = Ending()
    it.ends.connected()
    it.pass_(1)
    it.ends.announced(b"10000000000000")
    [timer] = it.clock.getDelayedCalls()
    assert timer.getTime() == it.clock.seconds() + MAX_WAIT


def test_what_is_no_time_is_ignored() -> None:
    it = Ending()
    it.ends.connected()
    it.pass_(1)
    for value in (b"", b"soon", b"-5", b"1e3", b"9" * 30, b"\xff"):
        it.ends.announced(value)
    assert it.clock.getDelayedCalls() == []


@given(
    st.lists(st.integers(1, 60), max_size=5),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60)), max_size=12),
)
def test_none_ends_early_and_none_late(before: list[int], later: list[tuple[int, int]]) -> None:
    it = Ending(*before)
    it.ends.connected()
    for pause, lasts in later:
        it.pass_(pause)
        it.add(lasts)
    it.pass_(70)
    assert it.pending == []
    # A turn of the clock for the end itself, and the pause between two questions.
    assert all(0 <= ended - end <= STEP_PAUSE * 1000 + 1 for end, ended in it.ended.items())
    assert len(it.clock.getDelayedCalls()) == 0
