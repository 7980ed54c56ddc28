"""Fixtures: a hub without a broker."""

from __future__ import annotations

import pytest

from tests.support.hubs import Table


@pytest.fixture
def table() -> Table:
    return Table()
