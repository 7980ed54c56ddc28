"""The JavaScript client by itself: its tests in Node, and the copy of it that is in the package."""

from __future__ import annotations

import pytest

from sinapse.publisher.frameworks import script
from tests.support.npm import CLIENT, build_client, npm

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_its_own_tests_pass() -> None:
    build_client()
    npm(CLIENT, "test")


def test_the_package_has_the_client_as_it_is_built_here() -> None:
    shipped = script.FOLDER / script.NAME
    assert shipped.read_text() == (build_client() / "index.js").read_text(), "make client"
