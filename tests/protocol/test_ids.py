"""Ids of retained messages, and those of streams in the midst of a past."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sinapse.protocol.ids import (
    MAX_DIGITS,
    EventID,
    Past,
    is_event_id,
    parse_counter,
    parse_id,
)

#: Bytes: the longest id of a message, and of a stream that gets the past of channels.
LONGEST = 31
LONGEST_OF_ALL = 48

epochs = st.text("0123456789abcdef", min_size=1, max_size=16)
counters = st.integers(0, 10**MAX_DIGITS - 1)
ids = st.builds(EventID, epochs, counters, st.none())
#: Ids of streams in the midst of a past too.
places = st.builds(EventID, epochs, counters, st.none() | st.builds(Past, counters, st.booleans()))
#: What somebody sends as an id: nonsense, or something that nearly is one.
texts = st.one_of(
    st.text(),
    st.from_regex(r"[0-9a-fA-F]{0,17}-[0-9]{0,15}"),
    st.from_regex(r"[0-9a-f]{1,3}-[0-9]{1,3}(-[0-9]{0,3}(-[0-9]{0,2})?)?"),
    st.lists(places.map(str) | st.text(max_size=3), max_size=6).map(".".join),
)


@given(ids)
def test_an_id_is_read_as_it_was_written(identifier: EventID) -> None:
    text = str(identifier)
    assert EventID.parse(text) == parse_id(text.encode()) == identifier
    assert is_event_id(text)
    # A browser sends it in a header field.
    assert len(text) <= LONGEST
    assert re.fullmatch(r"[0-9a-f-]+", text)


@given(texts)
def test_an_id_has_one_form(text: str) -> None:
    """So that two ids are the same message if, and only if, they are the same text."""
    read = EventID.parse(text)
    assert is_event_id(text) == (read is not None and read.past is None)
    assert read is None or str(read) == text


@given(places)
def test_an_id_says_how_far_a_stream_has_got_a_past(identifier: EventID) -> None:
    text = str(identifier)
    assert EventID.parse(text) == identifier
    assert parse_id(text.encode()) == (identifier if identifier.past is None else None)
    assert len(text) <= LONGEST_OF_ALL
    assert re.fullmatch(r"[0-9a-f-]+", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1f",
        "1f-",
        "-7",
        "1F-7",
        "1g-7",
        "1f-07",
        "1f-+7",
        "1f--7",
        "1f-7 ",
        "1f-7\n",
        " 1f-7",
        "1f-7.1f-8",
        f"{'f' * 17}-7",
        f"1f-{10**MAX_DIGITS}",
        # Digits, but of another script.
        "1f-\N{ARABIC-INDIC DIGIT SEVEN}",
    ],
)
def test_what_is_none(text: str) -> None:
    assert EventID.parse(text) is None
    assert not is_event_id(text)
    assert parse_id(text.encode()) is None


@pytest.mark.parametrize("value", [None, 7, b"1f-7", ["1f-7"], EventID("1f", 7)])
def test_only_text_is_the_text_of_an_id(value: object) -> None:
    assert not is_event_id(value)


@given(st.binary() | texts.map(str.encode))
@example(b"1f-\xff7")
def test_whatever_redis_says_is_an_id_or_none(payload: bytes) -> None:
    read = parse_id(payload)
    assert read is None or str(read).encode() == payload


@given(st.binary(max_size=20) | st.from_regex(rb"\A[0-9]{1,20}\Z"))
def test_whatever_redis_says_is_a_counter_or_none(digits: bytes) -> None:
    counter = parse_counter(digits)
    if re.fullmatch(rb"[0-9]{1,%d}" % MAX_DIGITS, digits):
        assert counter == int(digits)
    else:
        assert counter is None
