"""Which of several Redis has what, and ids that have a part for each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.framing.eventstream import EventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.partial import partial_framing
from sinapse.framing.websocket import WebSocket
from sinapse.protocol.ids import UNKNOWN, EventID, Place
from sinapse.protocol.message import Message
from sinapse.protocol.sharding import shard_of

NAMES = [f"room:{number}".encode() for number in range(3000)]

FRAMINGS = {
    "chunked": EventStream(chunked=True),
    "identity": EventStream(chunked=False),
    "channel event": EventStream(chunked=True, channel_event=True),
    "websocket": WebSocket(),
    "long poll": JSONList(),
}
EVERY_FRAMING = pytest.mark.parametrize("whole", FRAMINGS.values(), ids=FRAMINGS.keys())

event_ids = st.builds(EventID, st.sampled_from(["1f", "ab12"]), st.integers(0, 10**13))
#: What could be taken for the place of an id, if anything could.
texts = st.text() | st.sampled_from(['"id":"', "\nid: 1f-7\n", "\rid: 1f-7\r", '{"id":"1f-7"}', ""])
events = st.none() | st.sampled_from(["id", 'id":"', "id: 1", "typing"])


def test_each_has_its_part_of_the_names() -> None:
    counts = Counter(shard_of(name, 3) for name in NAMES)
    assert set(counts) == {0, 1, 2}
    assert all(800 < count < 1200 for count in counts.values())
    assert {shard_of(name, 1) for name in NAMES} == {0}


def test_another_one_takes_its_part_and_moves_nothing_else() -> None:
    moved = [(shard_of(name, 3), shard_of(name, 4)) for name in NAMES]
    assert all(after in (before, 3) for before, after in moved)
    assert 600 < sum(after == 3 for _, after in moved) < 900


def test_where_a_name_is_does_not_change_from_release_to_release() -> None:
    assert [shard_of(name, 3) for name in NAMES[:12]] == [0, 0, 1, 2, 1, 1, 2, 0, 2, 0, 0, 1]


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


@EVERY_FRAMING
@given(
    contents=st.lists(st.tuples(texts, events, st.none() | event_ids), min_size=1, max_size=4),
    begin=st.lists(event_ids, min_size=3, max_size=3),
    shard=st.integers(0, 2),
)
def test_a_frame_that_is_completed_is_the_frame_of_messages_with_whole_ids(
    whole: EventStream | WebSocket | JSONList,
    contents: list[tuple[str, str | None, EventID | None]],
    begin: list[EventID],
    shard: int,
) -> None:
    place = [str(each) for each in begin]
    partial, expected = [], []
    for data, event, identifier in contents:
        partial.append(Message(data, event, identifier and str(identifier)))
        if identifier is None:
            expected.append(Message(data, event))
        else:
            place[shard] = str(identifier)
            expected.append(Message(data, event, ".".join(place)))
    framing = partial_framing(whole)
    ids = [str(each).encode() for each in begin]
    frame = framing.complete(framing.encode(b"room:1", partial), ids, shard)
    assert frame == whole.encode(b"room:1", expected)
    assert [each.decode() for each in ids] == place


@EVERY_FRAMING
def test_resets_and_positions_have_whole_ids(whole: EventStream | WebSocket | JSONList) -> None:
    framing = partial_framing(whole)
    for make in (
        lambda its, text: its.position(text),
        lambda its, text: its.reset("data-lost", [b"room:1"], text),
    ):
        ids = [b"a-1", b"b-2"]
        frame = framing.complete(make(framing, "c-3"), ids, 1)
        assert frame == make(whole, "a-1.c-3")
        assert ids == [b"a-1", b"c-3"]
    reset = framing.reset("not-retained", [b"room:1"], None)
    assert framing.complete(reset, ids, 1) == whole.reset("not-retained", [b"room:1"], None)
