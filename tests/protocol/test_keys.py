"""Names in Redis: what they are, and what is none."""

from __future__ import annotations

import enum
import re
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import InvalidChannel, InvalidSubject
from sinapse.protocol import keys
from sinapse.publisher.operations.content import checked
from sinapse.publisher.operations.retention import checked_message_id

#: Anything that may stand in a name, colons included.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100)

BROKEN = {
    "empty": "",
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "NUL": "a\0b",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "lone surrogate": "a\ud800b",
    "513 bytes": "a" * 513,
    "513 bytes in 257 characters": "é" * 256 + "a",
}


def test_a_token_is_64_bytes_in_url_safe_base64_without_padding() -> None:
    tokens = {keys.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{86}", token) for token in tokens)


@given(names, st.sampled_from([keys.ADD, keys.REMOVE, keys.REVOKE]))
def test_a_control_channel_is_read_as_it_was_written(subject: str, action: str) -> None:
    name = keys.control_name(subject, action).encode()
    assert keys.parse_control(name) == (subject.encode(), action)
    assert not keys.is_channel(name)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"room:1",
        b"room:1:add",
        b"sinapse:channels:",
        b"sinapse:channels:1",
        b"sinapse:tokens:a:b",
    ],
)
def test_other_names_are_no_control_channels(name: Any) -> None:
    assert keys.parse_control(name) is None


@given(st.binary(max_size=60))
def test_any_bytes_can_be_tried_as_a_control_channel(name: Any) -> None:
    parsed = keys.parse_control(b"sinapse:channels:" + name)
    assert (parsed is None) == (b":" not in name)


@given(names.filter(lambda name: not name.startswith(keys.RESERVED)))
def test_a_channel_that_can_be_published_to_can_be_subscribed_to(name: Any) -> None:
    assert keys.channel_name(name) == name
    assert keys.is_channel(name.encode())


@pytest.mark.parametrize("name", ["a", "room:1", "日本", "with space", "a" * 512, "é" * 256])
def test_channel_names(name: Any) -> None:
    assert keys.channel_name(name) == name


def test_an_object_may_stand_for_its_channel() -> None:
    assert keys.channel_name(SimpleNamespace(sinapse_channel="room:1")) == "room:1"


@pytest.mark.parametrize("name", BROKEN.values(), ids=BROKEN)
def test_broken_names_are_neither_channel_nor_subject_nor_kind(name: Any) -> None:
    with pytest.raises(InvalidChannel):
        keys.channel_name(name)
    with pytest.raises(InvalidChannel):
        keys.channel_name(SimpleNamespace(sinapse_channel=name))
    with pytest.raises(InvalidSubject):
        keys.subject_id(name)
    with pytest.raises(InvalidSubject):
        keys.kind_name(name)


@pytest.mark.parametrize(
    "name", [None, 1, b"room:1", object(), ["room:1"], SimpleNamespace(sinapse_channel=None)]
)
def test_other_things_are_no_channels(name: Any) -> None:
    with pytest.raises(InvalidChannel):
        keys.channel_name(name)


@pytest.mark.parametrize("name", ["sinapse:", "sinapse:channels:1:add", "sinapse:room"])
def test_the_own_names_are_no_channels(name: Any) -> None:
    with pytest.raises(InvalidChannel, match="reserved"):
        keys.channel_name(name)
    assert not keys.is_channel(name.encode())


def test_names_that_only_resemble_the_own_ones_are_channels() -> None:
    for name in ("sinapse", "Sinapse:1", "sinapses:1"):
        assert keys.channel_name(name) == name
        assert keys.is_channel(name.encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        ("1", "1"),
        (0, "0"),
        ("a:b", "a:b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("é" * 256, "é" * 256),
    ],
)
def test_subject_ids(value: Any, expected: str) -> None:
    assert keys.subject_id(value) == expected


@pytest.mark.parametrize("value", [None, b"1", True, False, "1".strip, SimpleNamespace])
def test_what_is_no_subject_id(value: Any) -> None:
    with pytest.raises(InvalidSubject):
        keys.subject_id(value)


@pytest.mark.parametrize("kind", ["User", "Admin-User", "Équipe", "user_tokens"])
def test_kinds(kind: Any) -> None:
    assert keys.kind_name(kind) == kind


@pytest.mark.parametrize(
    "kind",
    [
        *("tokens", "channels", "channels:1", "tokens:"),
        *("User:admin", "Admin::User", ":", None, 1, str),
    ],
)
def test_what_is_no_kind(kind: Any) -> None:
    with pytest.raises(InvalidSubject):
        keys.kind_name(kind)


class Text(str, enum.Enum):  # noqa: UP042  # A StrEnum shows its text.
    NEWS = "news"


class Number(int, enum.Enum):
    ADA = 7


def test_of_a_subclass_it_is_the_text_that_counts() -> None:
    assert str(Text.NEWS) != "news"
    for read in (keys.channel_name, keys.kind_name, keys.subject_id, checked_message_id):
        assert type(read(Text.NEWS)) is str
        assert read(Text.NEWS) == "news"
    assert keys.subject_id(Number.ADA) == "7"
    message = checked(Text.NEWS, Text.NEWS, 100)
    assert [type(each) for each in message[:2]] == [str, str]
    assert message[:2] == ("news", "news")


def test_no_error_quotes_more_than_a_line() -> None:
    with pytest.raises(InvalidChannel) as raised:
        keys.channel_name("a\n" + "b" * 100_000)
    assert len(str(raised.value)) < 200
