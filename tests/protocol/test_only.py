"""Narrow tokens: which channels are in their part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.only import Only

NAMES = st.text(st.sampled_from("ab*:é"), min_size=1, max_size=4)


def test_names_are_exact_and_prefixes_are_not() -> None:
    only = Only(b"room:1\npage:*")
    assert only.allows(b"room:1")
    assert not only.allows(b"room:12")
    assert only.allows(b"page:")
    assert only.allows(b"page:7")
    assert not only.allows(b"page")


def test_a_star_elsewhere_is_a_part_of_the_name() -> None:
    only = Only(b"a*b")
    assert only.allows(b"a*b")
    assert not only.allows(b"axb")


@given(st.lists(NAMES, min_size=1, max_size=4), NAMES)
def test_a_channel_is_allowed_by_a_line_of_it_and_by_nothing_else(
    lines: list[str], channel: str
) -> None:
    allowed = Only("\n".join(lines).encode()).allows(channel.encode())
    assert allowed == any(
        channel.startswith(line[:-1]) if line.endswith("*") else channel == line for line in lines
    )
