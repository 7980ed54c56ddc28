"""What becomes of the bytes of an event stream, by the letter of the standard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sinapse.listening.parser import Message, MessageTooLong, Parser
from tests.support.eventsource import Event, EventSourceParser

ENOUGH = 10_000

#: What means something, in one place or another, and what only looks like it.
PIECES = st.one_of(
    st.sampled_from(
        [
            *(b"data", b"event", b"id", b"retry", b"by", b"Data", b":", b": ", b" ", b"\n", b"\r"),
            *(b"\r\n", b"\n\n", b"\0", b"7", b"70", b"\xef\xbb\xbf", b"\xe2\x98\x83", b"\xe2\x98"),
            *(b"\x83", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b\x0c\x1c", b"server", b"data:"),
        ]
    ),
    st.binary(max_size=3),
)
STREAM = st.lists(PIECES, max_size=40).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return `stream` in pieces that end at `places`, some of them empty."""
    ends = [*sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def heard(parser: Parser, pieces: list[bytes]) -> Iterator[Event]:
    """Yield what is handed out, with the id to resume after at that moment."""
    for piece in pieces:
        for each in parser.feed(piece):
            yield Event(each.event or "message", each.data, parser.last_event_id)


@given(stream=STREAM, places=st.lists(st.integers(0, 10_000), max_size=10))
@example(stream=b"data: a\r\rdata: b\r\n\r\n", places=[9, 18])
@example(stream=b"\xef\xbb\xbfdata: \xe2\x98\x83\n\n", places=[1, 2, 10])
@example(stream=b"id: 1\n\nid: 2\0\ndata: a\n\ndata: b\n\nid\n\n", places=[])
@settings(max_examples=500, deadline=None)
def test_it_hands_out_what_the_standard_says_however_it_comes(
    stream: bytes, places: list[int]
) -> None:
    strict = EventSourceParser()
    expected = strict.feed(stream)
    parser = Parser("", ENOUGH)
    assert [*heard(parser, cut(stream, places))] == expected
    assert parser.last_event_id == strict.last_event_id
    told = strict.reconnection_time
    assert parser.retry == (None if told is None else told / 1000)


def test_a_message_says_what_it_has_itself() -> None:
    parser = Parser("", ENOUGH)
    stream = (
        b"id: 1\nevent: chat\ndata: [1,\ndata: 2]\n\n:\n\nby: server\nevent: reset\ndata: {}\n\n"
    )
    first, second = parser.feed(stream)
    assert first == Message("[1,\n2]", "chat", "1", None)
    assert first.json() == [1, 2]
    assert second == Message("{}", "reset", None, "server")


def test_the_id_of_before_counts_until_there_is_another() -> None:
    parser = Parser("7", ENOUGH)
    assert [*heard(parser, [b"data: a\n\n", b"id: 8\n\n", b"data: b\n\n"])] == [
        Event("message", "a", "7"),
        Event("message", "b", "8"),
    ]


def test_the_id_is_that_of_what_was_handed_out_and_not_of_what_has_come() -> None:
    parser = Parser("", ENOUGH)
    messages = parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    assert next(messages).data == "a"
    assert parser.last_event_id == "1"


def test_a_reconnection_time_of_any_length_is_none_that_breaks_it() -> None:
    parser = Parser("", ENOUGH)
    assert list(parser.feed(b"retry: " + b"9" * 5000 + b"\n")) == []
    assert parser.retry == float("inf")


@pytest.mark.parametrize(
    "long",
    [
        b"data: " + b"x" * 20 + b"\n\n",
        b"data: xxxxxx\n" * 3,
        b"data\n" * 20,
        b"id: " + b"x" * 20,
        b": a comment that never ends",
    ],
)
def test_what_is_too_long_is_not_taken_and_what_came_before_is(long: bytes) -> None:
    for pieces in ([b"data: a\n\n" + long], [b"data: a\n\n", *cut(long, list(range(len(long))))]):
        parser = Parser("", 15)
        seen: list[Event] = []
        with pytest.raises(MessageTooLong):
            seen.extend(heard(parser, pieces))
        assert [each.data for each in seen] == ["a"]


def test_the_longest_is_taken_time_and_again() -> None:
    parser = Parser("", 15)
    stream = b": comment\n\ndata: xxxxxxx\nid: 123456789\ndata: xxxxxx\n\n" * 5
    assert len(list(parser.feed(stream))) == 5
