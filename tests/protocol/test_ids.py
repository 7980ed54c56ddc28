"""Ids of retained messages, and those that have a part for each of several Redis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.ids import UNKNOWN, EventID, Place

event_ids = st.builds(EventID, st.sampled_from(["1f", "ab12"]), st.integers(0, 10**13))


@given(st.lists(event_ids, min_size=1, max_size=5))
def test_a_place_is_read_as_it_was_written(ids: list[EventID]) -> None:
    place = Place(ids)
    assert Place.parse(str(place), len(ids)) == place


def test_of_another_number_of_parts_what_can_be_known_is_known() -> None:
    a, b = EventID("a", 1), EventID("b", 2)
    assert Place.parse("a-1", 2) == (a, UNKNOWN)
    assert Place.parse("a-1.b-2", 3) == (a, b, UNKNOWN)
    assert Place.parse("a-1.b-2.c-3", 2) == (UNKNOWN, UNKNOWN)
    assert Place.parse("a-1.x.b-2", 3) == (a, UNKNOWN, b)
    assert Place.parse("", 2) == (UNKNOWN, UNKNOWN)
