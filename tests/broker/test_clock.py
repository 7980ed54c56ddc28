"""The clock of a Redis beside ours: its answers take time, and tell the truth all the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.broker.clock import REMEMBERED, RedisClock

seconds = st.floats(0, 5)


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(seconds, seconds, seconds), min_size=1, max_size=3 * REMEMBERED),
)
def test_the_error_is_half_of_the_quickest_of_the_last_answers(
    ahead: float, ways: list[tuple[float, float, float]]
) -> None:
    told: list[float] = []
    clock = RedisClock(told.append)
    now = 0.0
    for pause, there, back in ways:
        asked = now + pause
        now = asked + there + back
        clock.answered(asked + there + ahead, asked, now)
    assert len(told) == len(ways)
    quickest = min(there + back for _, there, back in ways[-REMEMBERED:])
    assert abs(told[-1] - ahead) <= quickest / 2 + 1e-6


@pytest.mark.parametrize("step", [3600.0, -3600.0, 1.5, -1.5])
def test_a_clock_that_is_set_is_believed_with_the_next_answer(step: float) -> None:
    told: list[float] = []
    clock = RedisClock(told.append)
    clock.answered(100.0, 0.0, 0.0)
    for number in range(1, 4):
        clock.answered(number + 100.5, number, number + 1)
    for number in range(4, 7):
        clock.answered(number + 100.5 + step, number, number + 1)
    assert told == [100.0] * 4 + [pytest.approx(100.0 + step)] * 3
