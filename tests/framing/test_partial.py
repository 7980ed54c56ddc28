"""Frames for streams over several Redis, completed with the parts of the id from all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.framing.eventstream import EventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.partial import partial_framing
from sinapse.framing.websocket import WebSocket
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message

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
