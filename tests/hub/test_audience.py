"""Audiences: sets of streams, of which most stand by their descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.audience import Audience


@dataclass(eq=False)
class Stream:
    descriptor: int | None

    def send(self, frame: bytes) -> None:
        raise AssertionError(frame)


STREAMS = [Stream(number if number % 3 else None) for number in range(12)]

members = st.sets(st.sampled_from(STREAMS))


def audience_of(streams: set[Stream]) -> Audience[Stream]:
    found: Audience[Stream] = Audience()
    for each in streams:
        found.add(each)
    return found


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(STREAMS))))
def test_it_is_a_set(changes: list[tuple[bool, Stream]]) -> None:
    audience: Audience[Stream] = Audience()
    model: set[Stream] = set()
    for is_added, stream in changes:
        if is_added:
            audience.add(stream)
            model.add(stream)
        else:
            audience.discard(stream)
            model.discard(stream)
        assert set(audience) == model
        assert len(audience) == len(model)
        assert [each in audience for each in STREAMS] == [each in model for each in STREAMS]
        assert audience.direct == {
            each.descriptor: each for each in model if each.descriptor is not None
        }


@given(members, members)
def test_a_union_has_each_once_and_leaves_both_as_they_are(
    one: set[Stream], other: set[Stream]
) -> None:
    first, second = audience_of(one), audience_of(other)
    united = first.united(second)
    assert sorted(map(id, united)) == sorted(map(id, one | other))
    for each in STREAMS:
        united.discard(each)
        united.add(each)
    assert (set(first), set(second)) == (one, other)


@given(members, members)
def test_without_some_it_is_what_is_left(streams: set[Stream], gone: set[Stream]) -> None:
    assert audience_of(streams) - gone == streams - gone


def test_who_is_gone_does_not_take_the_place_of_who_has_the_descriptor_now() -> None:
    former, present = Stream(7), Stream(7)
    audience = audience_of({former})
    audience.add(present)
    audience.discard(former)
    assert former not in audience
    assert set(audience) == {present}
