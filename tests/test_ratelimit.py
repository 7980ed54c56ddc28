"""How fast lines are logged and things may happen: none too many, and none unaccounted for."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sinapse.ratelimit import LINE_INTERVAL, LogLimit, TokenBucket

# Log lines


class Limited:
    """A limit, its clock, and the lines that it let through, with their times."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines: list[tuple[float, str]] = []
        self.log = LogLimit(
            lambda text: self.lines.append((self.clock.seconds(), text)), self.clock.seconds
        )

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]


@pytest.fixture
def limited() -> Limited:
    return Limited()


def test_the_first_line_comes_at_once_and_as_it_is(limited: Limited) -> None:
    limited.log("a {brace} and 100%")
    assert limited.texts == ["a {brace} and 100%"]


def test_nothing_more_comes_within_the_interval(limited: Limited) -> None:
    for _ in range(100):
        limited.log("again")
        limited.clock.advance(LINE_INTERVAL / 200)
    assert limited.texts == ["again"]


def test_the_next_line_says_how_many_were_kept_back(limited: Limited) -> None:
    for text in ("one", "two", "three"):
        limited.log(text)
    limited.clock.advance(LINE_INTERVAL)
    limited.log("four")
    limited.clock.advance(LINE_INTERVAL)
    limited.log("five")
    assert limited.texts == ["one", "four (and 2 more since the last such line)", "five"]


def test_the_interval_begins_with_the_line_that_was_let_through(limited: Limited) -> None:
    limited.log("one")
    limited.clock.advance(LINE_INTERVAL - 1)
    limited.log("kept back")
    limited.clock.advance(1)
    limited.log("two")
    assert [time for time, _ in limited.lines] == [0, LINE_INTERVAL]


@given(pauses=st.lists(st.integers(0, 3 * int(LINE_INTERVAL)), max_size=30))
@settings(deadline=None)
def test_every_line_is_written_or_counted_and_no_two_are_close(pauses: list[int]) -> None:
    limited = Limited()
    for pause in pauses:
        limited.clock.advance(pause)
        limited.log("line")
    limited.clock.advance(LINE_INTERVAL)
    limited.log("last")
    counts = [int(found[1]) for text in limited.texts if (found := re.search(r"and (\d+)", text))]
    assert len(limited.lines) + sum(counts) == len(pauses) + 1
    times = [time for time, _ in limited.lines]
    assert all(after - before >= LINE_INTERVAL for before, after in pairwise(times))


# What is taken from a bucket


@given(
    rate=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), max_size=30),
)
def test_never_more_pass_than_the_rate_allows(rate: int, steps: list[tuple[float, int]]) -> None:
    now = 0.0
    bucket = TokenBucket(rate, lambda: now)
    passed = 0
    for seconds, wanted in steps:
        now += seconds
        for _ in range(min(wanted, bucket.available())):
            bucket.take()
            passed += 1
        assert passed <= rate * (now + 1) + 1e-6


@given(rate=st.integers(1, 1000), burst=st.integers(1, 2000))
def test_who_waits_as_long_as_told_passes(rate: int, burst: int) -> None:
    now = 0.0
    bucket = TokenBucket(rate, lambda: now)
    for _ in range(burst):
        if not bucket.available():
            now += bucket.wait() + 1e-9
        assert bucket.available() >= 1
        bucket.take()


def test_a_clock_that_goes_back_takes_nothing() -> None:
    now = 10.0
    bucket = TokenBucket(2, lambda: now)
    now = 0.0
    assert bucket.available() == 2
