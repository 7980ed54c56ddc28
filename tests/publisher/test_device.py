"""Names of devices: what a browser says that it is, as far as that can be shown."""

from __future__ import annotations

from typing import Any

import pytest

from sinapse.publisher.frameworks.device import KEY, Device, name_of
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


@pytest.mark.parametrize(
    "kept",
    [
        *(None, {}, [], 5, "x"),
        {"subject": "1", "id": "0" * 32},
        {"subject": "1", "id": "zz", "token": "t"},
        {"subject": "", "id": "0" * 32, "token": "t"},
        {"subject": "1\n", "id": "0" * 32, "token": "t"},
        {"subject": "1", "id": "0" * 32, "token": None},
    ],
)
def test_what_is_kept_and_is_not_ours_is_nothing(kept: Any) -> None:
    """It may be of another version: a page and a log-out go on without it."""
    assert Device({KEY: kept}).held is None


def test_what_is_kept_is_the_session() -> None:
    kept = {"subject": "1", "id": "0" * 32, "token": "t"}
    held = Device({KEY: kept}).held
    assert held is not None
    assert held._asdict() == kept
