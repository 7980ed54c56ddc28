"""The payload of a message: exact bytes, every form that is understood, nothing else."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sinapse.errors import InvalidPayload
from sinapse.protocol.message import Message, pack, unpack

text = st.text(st.characters(exclude_categories=["Cs"]))
names = st.none() | st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True)
events = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1
)

LONG = "x" * 70_000

#: What any writer may send, and what it means.
READ = {
    "fixstr": (b"\xa5hello", Message("hello")),
    "empty": (b"\xa0", Message("")),
    "str 8": (b"\xd9\x05hello", Message("hello")),
    "str 16, raw 16 of old": (b"\xda\x00\x05hello", Message("hello")),
    "str 32, raw 32 of old": (b"\xdb\x00\x00\x00\x05hello", Message("hello")),
    "bin 8": (b"\xc4\x05hello", Message("hello")),
    "bin 16": (b"\xc5\x00\x05hello", Message("hello")),
    "bin 32": (b"\xc6\x00\x00\x00\x05hello", Message("hello")),
    "UTF-8": (b"\xa5" + "日é".encode(), Message("日é")),
    "with event": (b"\x92\xa3msg\xa5hello", Message("hello", "msg")),
    "with event, array 16": (b"\xdc\x00\x02\xa3msg\xa5hello", Message("hello", "msg")),
    "with event, array 32": (b"\xdd\x00\x00\x00\x02\xa3msg\xa5hello", Message("hello", "msg")),
    "with event as bin": (b"\x92\xc4\x03msg\xc4\x05hello", Message("hello", "msg")),
    "nil event": (b"\x92\xc0\xa5hello", Message("hello")),
    "empty event": (b"\x92\xa0\xa5hello", Message("hello")),
    "a third element": (b"\x93\xa3msg\xa5hello\x2a", Message("hello", "msg")),
    "any third element": (b"\x93\xc0\xa5hello\x81\xa1a\xc3", Message("hello")),
    "event with line breaks": (b"\x92\xa8a\r\nid: 1\xa5hello", Message("hello", "aid: 1")),
    "event of line breaks only": (b"\x92\xa3\r\n\0\xa5hello", Message("hello")),
    "data with line breaks": (b"\xa4a\r\nb", Message("a\r\nb")),
}

REFUSED = {
    "nothing": b"",
    "cut short": b"\xa5hell",
    "an array cut short": b"\x92\xa3msg",
    "trailing bytes": b"\xa5hello!",
    "a number": b"\x2a",
    "nil": b"\xc0",
    "a map": b"\x81\xa1a\xa1b",
    "a map with a list as key": b"\x81\x91\x01\x01",
    "an empty array": b"\x90",
    "one element": b"\x91\xa5hello",
    "a number as data": b"\x92\xa3msg\x2a",
    "a number as event": b"\x92\x2a\xa5hello",
    "nil as data": b"\x92\xa3msg\xc0",
    "an extension": b"\xd4\x01\x00",
    "a timestamp beyond all years": b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
    "the byte never used": b"\xc1",
    "not UTF-8": b"\xa2\xff\xfe",
    "bin that is not UTF-8": b"\xc4\x02\xff\xfe",
    "a surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "a huge array announced": b"\xdd\xff\xff\xff\xff",
    "a huge string announced": b"\xdb\xff\xff\xff\xff",
    "nested without end": b"\x91" * 100_000,
}


@pytest.mark.parametrize(("payload", "message"), READ.values(), ids=READ)
def test_what_is_read(payload: bytes, message: Message) -> None:
    assert unpack(payload) == message


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED)
def test_what_is_no_message(payload: bytes) -> None:
    with pytest.raises(InvalidPayload) as raised:
        unpack(payload)
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (Message("hello"), b"\xa5hello"),
        (Message("hello", "msg"), b"\x92\xa3msg\xa5hello"),
        (Message(""), b"\xa0"),
        (Message("é"), b"\xa2\xc3\xa9"),
        (Message("x" * 31), b"\xbf" + b"x" * 31),
        (Message("x" * 32), b"\xda\x00\x20" + b"x" * 32),
        (Message("x" * 65535), b"\xda\xff\xff" + b"x" * 65535),
        (Message("x" * 65536), b"\xdb\x00\x01\x00\x00" + b"x" * 65536),
        (Message("hi", but="a"), b"\x94\xc0\xa2hi\xc0\x81\xa3but\xa1a"),
    ],
)
def test_the_exact_bytes_that_are_written(message: Message, payload: bytes) -> None:
    assert pack(message) == payload


@given(text, events, names)
@example(LONG, "event", None)
@example("", None, "x" * 64)
def test_what_was_packed_is_unpacked(data: str, event: str | None, but: str | None) -> None:
    message = Message(data, event, None, but)
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("extras", [None, [], {}, {"but": None}, {"but": "a b"}, {"but": ["a"]}, 1])
def test_a_name_that_is_none_is_passed_over(extras: object) -> None:
    assert unpack(msgpack.packb([None, "a", None, extras])) == Message("a")


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        ("1767225600123456", 1767225600.123456),
        *((text, None) for text in ("", "1767225600", "-767225600123456", "1767225600.12345")),
        *((text, None) for text in ("²" * 16, "17672256001234567")),
        *((None, None), (1767225600123456, None), ([], None), ({}, None)),
    ],
)
def test_the_time_of_its_publication_is_microseconds_or_not_known(
    at: object, seconds: float | None
) -> None:
    message = unpack(msgpack.packb([None, "a", "f-1", {"at": at}]))
    assert message == Message("a", None, "f-1", at=seconds)


def test_what_is_not_known_yet_is_passed_over() -> None:
    payload = msgpack.packb([None, "a", "f-1", {"but": "b", "traceparent": "c"}, "d"])
    assert unpack(payload) == Message("a", None, "f-1", "b")


@given(text, events)
def test_what_was_packed_is_understood_by_a_plain_reader(data: str, event: str | None) -> None:
    assert msgpack.unpackb(pack(Message(data, event))) == (data if event is None else [event, data])


@pytest.mark.parametrize("size", range(32, 256))
def test_strings_that_would_fit_str_8_are_written_as_old_readers_know_them(size: int) -> None:
    head = bytes([0xDA, 0, size])
    assert pack(Message("x" * size)) == head + b"x" * size
    assert pack(Message("", "x" * size)) == b"\x92" + head + b"x" * size + b"\xa0"


@given(st.binary())
@example(b"\xdf" + b"\xff" * 8)
def test_any_bytes_are_a_message_or_an_invalid_payload(payload: bytes) -> None:
    try:
        message = unpack(payload)
    except InvalidPayload:
        return
    assert isinstance(message.data, str)
    assert message.event is None or (message.event and not set(message.event) & set("\r\n\0"))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text()
        | st.binary()
        | st.datetimes(timezones=st.timezones()),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers(0, 99), inner),
    )
)
def test_any_messagepack_is_a_message_or_an_invalid_payload(value: Any) -> None:
    try:
        payload = msgpack.packb(value, datetime=True)
    except (UnicodeEncodeError, ValueError, OverflowError):
        return
    try:
        unpack(payload)
    except InvalidPayload:
        return
    assert isinstance(value, str | bytes | list)
