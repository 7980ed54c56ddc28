"""Last event IDs over several Redis: what each part says, also after the list has changed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.ids import MAX_DIGITS, UNKNOWN, EventID, Past
from sinapse.protocol.places import Place, is_place, join, parse, part_of, tag
from sinapse.protocol.sharding import Shards, numbered

A, B, C = EventID("a", 1), EventID("b", 2), EventID("c", 3)
CHANNELS = [f"room:{number}".encode() for number in range(200)]

epochs = st.text("0123456789abcdef", min_size=1, max_size=16)
counters = st.integers(0, 10**MAX_DIGITS - 1)
ids = st.builds(
    EventID, epochs, counters, st.none() | st.builds(Past, counters, st.booleans())
).filter(lambda each: each != UNKNOWN)
names = st.from_regex(r"\A(0|[1-9][0-9]{0,5}|[A-Za-z][A-Za-z0-9]{0,15})\Z")
#: Names of Redis, and the part of each.
parts = st.dictionaries(names, ids, min_size=1, max_size=5)
#: What somebody sends as an id: nonsense, or something that nearly is one.
texts = st.one_of(
    st.text(),
    st.lists(ids.map(str) | st.text(max_size=3), max_size=9).map(".".join),
    st.lists(
        st.tuples(names | st.text(max_size=3), ids.map(str) | st.text(max_size=3)).map("_".join),
        max_size=9,
    ).map(".".join),
)
shards = st.lists(names, unique=True, min_size=1, max_size=5).map(Shards)


@given(parts)
def test_an_id_is_read_as_it_was_written(them: dict[str, EventID]) -> None:
    for own in (Shards(them), numbered(len(them))):
        text = join(own, them.values())
        assert parse(text, own) == Place(tuple(them.values()))
        assert is_place(text)
        # A header field and a URL take it as it is, whatever encodes it.
        assert re.fullmatch(r"[A-Za-z0-9._-]+", text)


@given(st.lists(ids, min_size=1, max_size=5))
def test_without_names_it_is_the_parts_with_dots_between(them: list[EventID]) -> None:
    assert join(numbered(len(them)), them) == ".".join(map(str, them))
    assert {tag(numbered(len(them)), number) for number in range(len(them))} == {""}


@given(parts, st.data())
def test_the_order_of_the_list_does_not_matter(
    them: dict[str, EventID], data: st.DataObject
) -> None:
    order = Shards(data.draw(st.permutations(list(them))))
    read = parse(join(Shards(them), them.values()), order)
    assert read == Place(tuple(them[name] for name in order.names))


@given(texts, shards)
def test_it_has_a_part_for_each_redis_whatever_was_sent(text: str, own: Shards) -> None:
    place = parse(text, own)
    assert len(place.parts) == len(own)
    assert len(place.gone) <= 2 * len(own)
    again = parse(join(own, place.parts), own)
    assert again == Place(place.parts)
    for channel in CHANNELS[:5]:
        assert part_of(channel, text, own) in (*place.parts, UNKNOWN)
    is_place(text)


@given(st.lists(ids, min_size=1, max_size=5), st.data())
def test_parts_without_names_are_those_of_the_numbers(
    them: list[EventID], data: st.DataObject
) -> None:
    text = join(numbered(len(them)), them)
    own = Shards(data.draw(st.permutations([*map(str, range(len(them))), "d"])))
    known = dict(zip(map(str, range(len(them))), them, strict=True))
    assert parse(text, own) == Place(tuple(known.get(name, UNKNOWN) for name in own.names))


def test_without_names_what_can_be_known_is_known() -> None:
    two, three = numbered(2), numbered(3)
    assert parse("a-1", two) == Place((A, UNKNOWN))
    assert parse("a-1.b-2", three) == Place((A, B, UNKNOWN))
    assert parse("a-1.b-2.c-3", two) == Place((UNKNOWN, UNKNOWN))
    assert parse("a-1.x.b-2", three) == Place((A, UNKNOWN, B))
    assert parse("", two) == Place((UNKNOWN, UNKNOWN))
    assert parse("1_b-2.0_a-1", two) == Place((A, B))


@pytest.mark.parametrize(
    "text",
    [
        *("x_a-1.x_b-2", "x_a-1.b-2", "_a-1.y_b-2", "01_a-1", f"{'x' * 17}_a-1", "x_y_a-1"),
        *("é_a-1", "x-y_a-1", "x_a-1.", ".x_a-1", "x_a-1.y_b-2.z_c-3.u_a-1.v_a-1"),
    ],
)
def test_what_no_list_can_have_given_is_unknown_as_a_whole(text: str) -> None:
    assert parse(text, Shards("xy")) == Place((UNKNOWN, UNKNOWN))


def test_one_part_that_cannot_be_read_is_unknown() -> None:
    assert parse("y_nonsense.x_a-1", Shards("xy")) == Place((A, UNKNOWN))
    assert not is_place("y_nonsense.x_a-1")


@given(
    st.lists(names, unique=True, min_size=2, max_size=5),
    st.lists(names, unique=True, min_size=1, max_size=5),
)
def test_of_every_channel_it_is_known_whether_something_can_be_missing(
    before: list[str], after: list[str]
) -> None:
    """Where a channel is now is where it was, or its part lacks, or where it was is gone."""
    former, own = Shards(before), Shards(after)
    place = parse(join(former, [A] * len(before)), own)
    are_numbers = not former.are_named and not own.are_named
    is_readable = len(before) <= (1 if are_numbers else 2) * len(after)
    for channel in CHANNELS:
        was, now = former.names[former.of(channel)], own.names[own.of(channel)]
        is_whole = place.parts[own.of(channel)] == A and not place.has_lost(channel)
        if is_readable:
            assert is_whole == (was == now)
        else:
            assert not is_whole or was == now
        assert (part_of(channel, join(former, [A] * len(before)), own) == A) == is_whole
