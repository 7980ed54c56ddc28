"""Rights that have ended beside others: since when there was one without a break."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.former import NONE, unbroken, with_former

COUNTERS = st.integers(1, 30)
TIMES = st.lists(st.tuples(COUNTERS, COUNTERS).map(sorted).map(tuple), max_size=8)


@given(COUNTERS, TIMES)
def test_it_is_the_first_of_the_counters_between_which_none_is_without_a_right(
    at: int, times: list[tuple[int, int]]
) -> None:
    found = unbroken(at, times)
    # A message of a counter is for whom had a right that began before it, and had not ended.
    covered = {number for start, end in times for number in range(start + 1, end + 1)}
    assert all(number in covered for number in range(found + 1, at + 1))
    assert found not in covered or found == 0


def test_rights_are_added_to_those_that_are_known() -> None:
    first = with_former(NONE, [(b"a", 5, 9), (b"b", 3, 3)])
    assert dict(first) == {b"a": ((5, 9),), b"b": ((3, 3),)}
    assert dict(with_former(first, [(b"a", 20, 31)])) == {
        b"a": ((5, 9), (20, 31)),
        b"b": ((3, 3),),
    }
    assert dict(NONE) == {}


def test_one_that_begins_after_its_end_was_none() -> None:
    assert dict(with_former(NONE, [(b"a", 9, 5)])) == {}
