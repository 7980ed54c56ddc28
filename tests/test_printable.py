"""What a terminal is shown of what others have written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sinapse.printable import printable, printable_json


@given(text=st.text())
def test_nothing_of_it_is_a_command(text: str) -> None:
    assert all(each.isprintable() or each in "\n\t" for each in printable(text))


def test_it_can_be_seen_what_it_was() -> None:
    assert printable("a\x1b[2J\x9b\tb\ncé☃") == "a\\x1b[2J\\x9b\tb\ncé☃"


@given(value=st.dictionaries(st.text(), st.text() | st.none() | st.integers()))
def test_json_is_one_line_and_stays_what_it_is(value: object) -> None:
    line = printable_json(value)
    assert line.isprintable()
    assert json.loads(line) == value
