"""The pages on operations and security: what they say has a test, which is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from sinapse.settings import OPTIONS
from tests.support import eventually, running_redis
from tests.support.daemon import ROOT, running_daemon

PAGE = (ROOT / "docs" / "operations.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| ([RH]\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)\(", path.read_text())
}


def test_every_failure_is_there() -> None:
    ends = {"R": 23, "H": 20}
    expected = [f"{letter}{n + 1}" for letter, end in ends.items() for n in range(end)]
    assert [number for number, _ in ROWS] == expected


@pytest.mark.parametrize(("number", "tests"), ROWS, ids=[number for number, _ in ROWS])
def test_its_tests_are_there(number: str, tests: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", tests))
    assert named, number
    assert named <= TESTS


@pytest.mark.parametrize("page", [PAGE, SECURITY], ids=["operations", "security"])
def test_every_test_that_is_named_is_there(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named
    assert named <= TESTS


def test_every_protection_is_tested() -> None:
    """Each paragraph on what is done has a row in the table of tests."""
    _, _, done = SECURITY.partition("## What is done about it")
    done, _, rest = done.partition("## What is not defended")
    subjects = re.findall(r"^- \*\*([^*]+?)\.?\*\*", done, re.MULTILINE)
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", rest, re.MULTILINE)[1:])
    rows.pop("---", None)
    assert list(rows) == subjects
    assert all("`test_" in tests for tests in rows.values())


def test_the_limits_on_the_page_are_options() -> None:
    names = set(re.findall(r"`(--[a-z0-9-]+)", PAGE))
    assert names <= {f"--{option.name}" for option in OPTIONS}


def test_a_redis_without_room_is_asked_again(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        with server.client() as client:
            client.config_set("maxclients", 4)
        taken = [redis.Redis(port=server.port, host="127.0.0.1") for _ in range(3)]
        for each in taken:
            each.ping()
        with running_daemon(tmp_path, server.url, ready=False) as daemon:
            eventually(lambda: "max number of clients reached" in daemon.log)
            assert daemon.get("/ready").status == 503
            for each in taken:
                each.close()
            eventually(lambda: daemon.get("/ready").status == 200)
            # A line for the state, not one for each attempt.
            assert daemon.log.count("max number of clients reached") <= 2
            assert "Traceback" not in daemon.log
