"""The names that Sinapse uses in Redis, and the prefix that is before them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sinapse.errors import InvalidPrefix
from sinapse.protocol.keys import ADD, REMOVE, RESERVED, REVOKE, parse_control
from sinapse.protocol.names import PLAIN, Names, checked_prefix, names_under, prefix_fault
from tests.support.prefixes import ALPHABET, PREFIXES


def every(names: Names) -> dict[str, str]:
    """Return all names, by what they are called."""
    found = {name: value for name, value in vars(names).items() if isinstance(value, str)}
    del found["prefix"]
    for name in vars(Names):
        if name.endswith("_key") or name in ("control_channel", "pubsub"):
            method = getattr(names, name)
            count = method.__code__.co_argcount - 1
            found[name] = method(*("a", "b")[:count])
    return found


def test_keys_are_those_of_the_origin() -> None:
    assert PLAIN.token_key("T") == "sinapse:tokens:T"
    assert PLAIN.current_token_key("User", "1") == "sinapse:User:1"
    assert PLAIN.channels_key("1") == "sinapse:channels:1"
    assert PLAIN.control_channel("1", ADD) == "sinapse:channels:1:add"
    assert PLAIN.control_channel("1", REMOVE) == "sinapse:channels:1:remove"
    assert PLAIN.control_channel("1", REVOKE) == "sinapse:channels:1:revoke"
    assert PLAIN.pubsub("room:1") == "room:1"


@given(PREFIXES)
def test_every_name_is_that_of_no_prefix_with_the_prefix_before_it(prefix: str) -> None:
    plain = every(PLAIN)
    assert len(plain) > 30
    assert every(Names(prefix)) == {name: prefix + value for name, value in plain.items()}


@given(PREFIXES, PREFIXES | st.just(""))
def test_keys_of_two_prefixes_are_never_the_same(one: str, other: str) -> None:
    assume(one != other)
    longer, shorter = sorted((one, other), key=len, reverse=True)
    # Whatever follows in it, the key of one is no key of the other.
    assert not (longer + RESERVED).startswith(shorter + RESERVED)
    assert not (shorter + RESERVED).startswith(longer + RESERVED)


@given(PREFIXES)
def test_without_its_prefix_a_control_channel_is_read_as_it_was_written(prefix: str) -> None:
    name = names_under(prefix).control_channel("a:b", ADD)
    assert parse_control(name.removeprefix(prefix).encode()) == (b"a:b", ADD)


def test_there_is_one_of_each_prefix() -> None:
    assert names_under("staging:") is names_under("staging:")
    assert names_under("") is PLAIN
    assert repr(names_under("staging:")) == "<Names under 'staging:'>"


@given(PREFIXES)
def test_what_can_be_a_prefix(prefix: str) -> None:
    assert checked_prefix(prefix) == prefix
    assert prefix_fault(prefix) is None


@pytest.mark.parametrize("word", ["", "off", "none", "None", " OFF "])
def test_words_for_none(word: str) -> None:
    assert checked_prefix(word) == ""
    assert prefix_fault(word) is not None


@pytest.mark.parametrize(
    "prefix",
    [
        *("a{b", "a}b", "a*", "a?", "a[b", "a]", "a\\", 'a"', "a'"),
        *(" ", "a b", "a\n", "\n", "a\t", "\0", "a\x7f", "é:", "日本:", "\ud800"),
        *("a" * 65, "sinapse:", "sinapse:staging:", "a:sinapse:"),
        *(None, 1, b"a:", ["a:"]),
    ],
)
def test_what_can_be_none(prefix: Any) -> None:
    with pytest.raises(InvalidPrefix, match=r"\A(prefix is|prefix .*: must) [ -~]+\Z"):
        checked_prefix(prefix)


@given(st.characters())
def test_a_character_may_be_in_it_or_not(character: str) -> None:
    if character in ALPHABET:
        assert checked_prefix(character) == character
    else:
        with pytest.raises(InvalidPrefix, match="printable ASCII"):
            checked_prefix(character)


@pytest.mark.parametrize("prefix", ["", "staging:"])
def test_keys_of_another_type_are_named_and_no_token_is(prefix: str) -> None:
    refusal = "WRONGTYPE Operation against a key"
    own = f"{prefix}sinapse:"
    keys: list[str | bytes] = [
        f"{own}User:1",
        f"{own}tokens:secret".encode(),
        f"{own}revoked:secret",
        f"{own}a\x1b".encode(),
    ]
    arguments = ["room:1", f"{own}grants:", f"{own}channels:1:add", 1]
    names = names_under(prefix)
    text = names.of_another_type(refusal, keys, arguments)
    assert text.startswith("WRONGTYPE: ")
    shown = f"{own}User:1, {own}tokens:…, {own}revoked:…, '{own}a\\x1b', {own}grants:…"
    assert text.endswith(f": {shown}")
    assert "secret" not in text
    assert re.search("OOM", names.of_another_type("OOM command not allowed", keys))


def test_of_an_inbox_the_lists_are_named_that_publishing_changes() -> None:
    text = PLAIN.of_another_type("WRONGTYPE …", ["sinapse:retained:inbox@a:1"])
    keys = "sinapse:channels:a:1, sinapse:grants:a:1, sinapse:retained:inbox@a:1"
    assert text.endswith(f": {keys}")
