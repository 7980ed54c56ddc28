"""Names of devices: what a browser says that it is, as far as that can be shown."""

from __future__ import annotations

import pytest

from sinapse.publisher.frameworks.device import name_of
from sinapse.publisher.operations.sessions import MAX_DEVICE, OpenSession

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, FIREFOX),
        (" a\x1b[2J\tb\x00\x9b ", "a[2Jb"),
        ("x" * 5000, "x" * MAX_DEVICE),
        ("\x00 \n", None),
        ("", None),
        (None, None),
    ],
)
def test_whatever_a_browser_says_can_be_a_name(user_agent: str | None, name: str | None) -> None:
    assert name_of(user_agent) == name
    assert OpenSession("1", name).device == name
