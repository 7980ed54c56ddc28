"""What both sides read in the environment."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from sinapse.environment import DAEMON_URL, is_on
from sinapse.settings import resolve


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "on", " on ", "2", "anything"])
def test_what_means_yes(text: str) -> None:
    assert is_on(text)


@pytest.mark.parametrize("text", ["", " ", "0", "false", "FALSE", "No", "off", " Off\n", "None"])
def test_what_means_no(text: str) -> None:
    assert not is_on(text)


def test_a_daemon_of_which_nothing_is_said_is_where_one_listens_that_was_told_nothing() -> None:
    assert resolve({}, {}).ports == (f"tcp:{urlsplit(DAEMON_URL).port}",)
