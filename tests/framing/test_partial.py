"""Frames for streams over several Redis, completed with the parts of the id from all of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from sinapse.framing import deflate
from sinapse.framing.eventstream import EventStream, JSONEventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.partial import partial_framing
from sinapse.framing.websocket import WebSocket
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message

#: Bytes from which one is compressed.
LEAST = 60

FRAMINGS = {
    "chunked": EventStream(chunked=True),
    "identity": EventStream(chunked=False),
    "channel event": EventStream(chunked=True, channel_event=True),
    "json": JSONEventStream(chunked=True, channel_event=True),
    "websocket": WebSocket(),
    "long poll": JSONList(),
}
#: Those that compress, and what they give without it.
COMPRESSED = {
    "event stream": (EventStream(chunked=False, compress=LEAST), EventStream(chunked=False)),
    "websocket": (WebSocket(compress=LEAST), WebSocket()),
}
EVERY_FRAMING = pytest.mark.parametrize("whole", FRAMINGS.values(), ids=FRAMINGS.keys())

event_ids = st.builds(EventID, st.sampled_from(["1f", "ab12"]), st.integers(0, 10**13))
#: What could be taken for the place of an id, if anything could.
texts = st.text() | st.sampled_from(['"id":"', "\nid: 1f-7\n", "\rid: 1f-7\r", '{"id":"1f-7"}', ""])
ids = st.none() | event_ids.map(str)
events = st.none() | st.sampled_from(["id", 'id":"', "id: 1", "typing"])


@EVERY_FRAMING
@given(
    contents=st.lists(st.tuples(texts, events, st.none() | event_ids), min_size=1, max_size=4),
    begin=st.lists(event_ids, min_size=3, max_size=3),
    shard=st.integers(0, 2),
    tags=st.sampled_from([("", "", ""), ("a_", "b_", "16_")]),
)
def test_a_frame_that_is_completed_is_the_frame_of_messages_with_whole_ids(
    whole: EventStream | WebSocket | JSONList,
    contents: list[tuple[str, str | None, EventID | None]],
    begin: list[EventID],
    shard: int,
    tags: tuple[str, str, str],
) -> None:
    place = [f"{tag}{each}" for tag, each in zip(tags, begin, strict=True)]
    ids = [each.encode() for each in place]
    partial, expected = [], []
    for data, event, identifier in contents:
        partial.append(Message(data, event, identifier and str(identifier)))
        if identifier is None:
            expected.append(Message(data, event))
        else:
            place[shard] = f"{tags[shard]}{identifier}"
            expected.append(Message(data, event, ".".join(place)))
    framing = partial_framing(whole, tags[shard])
    assert framing.plain is framing
    frame = framing.complete(framing.encode(b"room:1", partial), ids, shard)
    assert frame == whole.encode(b"room:1", expected)
    assert [each.decode() for each in ids] == place


@pytest.mark.parametrize(("whole", "plain"), COMPRESSED.values(), ids=COMPRESSED.keys())
@given(
    messages=st.lists(st.builds(Message, texts | st.text(min_size=LEAST), events, ids), min_size=1),
    shard=st.integers(0, 1),
)
def test_one_that_is_compressed_has_the_same_in_it(
    whole: EventStream | WebSocket,
    plain: EventStream | WebSocket,
    messages: list[Message],
    shard: int,
) -> None:
    frames = []
    for each in (whole, plain):
        framing = partial_framing(each)
        frames.append(
            framing.complete(framing.encode(b"room:1", messages), [b"1f-1", b"2f-2"], shard)
        )
    compressed, expected = frames
    if isinstance(whole, EventStream):
        assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed) == expected
    else:
        assert texts_of(compressed, [PerMessageDeflate(True, True, 15, 15)]) == texts_of(expected)


def texts_of(frames: bytes, extensions: Sequence[Extension] = ()) -> list[bytes]:
    """Return the messages of a WebSocket."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.extensions = list(extensions)
    client.receive_data(frames)
    assert client.parser_exc is None
    return [bytes(each.data) for each in client.events_received() if isinstance(each, Frame)]


@pytest.mark.parametrize("whole", [each for each, _ in COMPRESSED.values()], ids=COMPRESSED.keys())
def test_what_is_long_is_compressed_once_for_streams_with_any_ids(
    whole: EventStream | WebSocket,
) -> None:
    framing = partial_framing(whole)
    text = "<li>and so on</li>" * 1000
    partial = framing.encode(b"room:1", [Message(text, None, "1f-7")])
    deflate._compress_or_find.cache_clear()
    sizes = [
        len(framing.complete(partial, [b"1f-1", b"2f-%d" % number], 0)) for number in range(50)
    ]
    assert deflate._compress_or_find.cache_info().misses == 1
    assert max(sizes) < len(text) / 50


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


@EVERY_FRAMING
def test_of_redis_with_names_they_say_whose_each_part_is(
    whole: EventStream | WebSocket | JSONList,
) -> None:
    framing = partial_framing(whole, "y_")
    ids = [b"x_a-1", b"y_b-2"]
    frame = framing.complete(framing.frame(framing.position("c-3")), ids, 1)
    assert frame == whole.position("x_a-1.y_c-3")
    frame = framing.complete(framing.reset("data-lost", [b"room:1"], "d-4"), ids, 1)
    assert frame == whole.reset("data-lost", [b"room:1"], "x_a-1.y_d-4")
    assert ids == [b"x_a-1", b"y_d-4"]
    reset = framing.reset("not-retained", [b"room:1"], None)
    assert framing.complete(reset, ids, 1) == whole.reset("not-retained", [b"room:1"], None)
