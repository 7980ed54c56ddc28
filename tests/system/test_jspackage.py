"""The JavaScript client by itself: its tests in Node, and the copy of it that the chat uses."""

from __future__ import annotations

import pytest

from tests.support.daemon import ROOT
from tests.support.npm import CLIENT, build_client, npm

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_its_own_tests_pass() -> None:
    build_client()
    npm(CLIENT, "test")


def test_the_chat_has_the_client_as_it_is_built_here() -> None:
    shipped = ROOT / "example" / "static" / "sinapse.js"
    assert shipped.read_text() == (build_client() / "index.js").read_text(), "make client"
