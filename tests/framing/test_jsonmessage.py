"""Messages as JSON: clients read what was published, and ids stand where they are sought."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from sinapse.framing import jsonmessage
from sinapse.framing.jsonmessage import ID, JSONList
from sinapse.protocol.message import Message

LIST = JSONList()

#: Any text, and what could be taken for an id or for the end of something.
TEXT = st.text() | st.sampled_from(['"id":"', '{"id":"1f-7"}', '\\"id":"', "],[", ",", "\u2028\n"])
MESSAGE = st.builds(Message, TEXT, st.none() | TEXT, st.none() | st.just("1f-7"))


@given(MESSAGE, st.none() | TEXT)
def test_what_a_message_has_is_there_and_nothing_else(
    message: Message, channel: str | None
) -> None:
    names = {"event": message.event, "data": message.data, "id": message.id, "channel": channel}
    expected = {name: value for name, value in names.items() if value is not None}
    assert json.loads(jsonmessage.encode(message, channel)) == expected


@given(MESSAGE, st.none() | TEXT)
@example(Message('"id":"', '"id":"'), '"id":"')
def test_an_id_is_found_by_what_it_stands_behind_and_nowhere_else(
    message: Message, channel: str | None
) -> None:
    """In its place ids of several Redis are put, without reading the JSON again."""
    made = jsonmessage.encode(message, channel)
    before, found, after = made.partition(ID)
    assert bool(found) == (message.id is not None)
    assert ID not in after
    if message.id is not None:
        whole = before + ID + after.replace(b"1f-7", b"1f-7.2a-9", 1)
        assert json.loads(whole) == {**json.loads(made), "id": "1f-7.2a-9"}


@given(MESSAGE, st.none() | TEXT)
def test_a_message_is_one_line(message: Message, channel: str | None) -> None:
    assert len(jsonmessage.encode(message, channel).splitlines()) == 1


@given(st.lists(st.binary(max_size=4), max_size=3))
def test_a_reset_names_the_channels_whatever_bytes_they_are(channels: list[bytes]) -> None:
    reset = json.loads(jsonmessage.reset("data-lost", channels, "1f-7"))
    data = json.loads(reset.pop("data"))
    assert reset == {"event": "reset", "id": "1f-7"}
    names = sorted(name.decode(errors="replace") for name in channels)
    assert data == {"reason": "data-lost", "channels": names}


FRAMES = st.one_of(
    st.lists(MESSAGE, max_size=3).map(lambda them: (LIST.encode(b"room:1", them), len(them))),
    st.just((LIST.position("1f-7"), 1)),
    st.just((LIST.opening("1f-7"), 1)),
    st.just((LIST.reset("not-retained", [b"room:1"], None), 1)),
)


@given(st.lists(FRAMES, max_size=5))
def test_whatever_is_sent_to_a_long_poll_is_one_list(frames: list[tuple[bytes, int]]) -> None:
    answer = json.loads(LIST.whole(frame for frame, _ in frames))
    assert isinstance(answer, list)
    assert len(answer) == sum(count for _, count in frames)
    assert all(isinstance(each, dict) for each in answer)
