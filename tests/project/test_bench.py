"""Programs of bench/ that cannot be seen to rot: small runs of them."""

from __future__ import annotations

import importlib
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import PYTHON
from tests.support.daemon import ROOT

BENCH = ROOT / "bench"

#: Seconds: a bound.
LONGEST = 50


def simulated(*options: str) -> str:
    """Simulate a moment of a small load, which must end well; return what it says."""
    small = ["--nodes", "4", "--streams", "100", "--seconds", "0.4"]
    done = subprocess.run(
        [PYTHON, str(BENCH / "simulate.py"), *small, "--speed", "200", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def test_a_simulated_load_gives_a_figure_beside_each_that_is_computed() -> None:
    said = simulated("--load", "notices", "--idle", "0.1", "--processes", "1")
    rows = {name: cells for name, *cells in map(_cells, said.splitlines()) if cells}
    assert rows.keys() >= {"messages/s", "deliveries/s", "Redis, of a core", "memory of Redis"}
    assert rows["messages/s"][1] == "353"
    assert all(re.fullmatch(r"[\d.]+", row[2]) for name, row in rows.items() if "/s" in name)
    assert "Each stream got exactly what it should." in said


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_simulated_nodes_come_back_and_have_everything_when_redis_is_killed() -> None:
    said = simulated("--load", "rooms", "--kill", "0.1", "--processes", "2")
    assert re.search(r"had caught up: the first [\d.]+ s after that", said)
    assert "Each stream got exactly what it should." in said


@pytest.fixture
def population(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(BENCH)
    known = set(sys.modules)
    yield importlib.import_module("population")
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("numbers", "is_right"),
    [
        pytest.param([0, 1, 2], True, id="everything"),
        pytest.param([0, 2], False, id="one is lost"),
        pytest.param([0, 1], False, id="the last is lost"),
        pytest.param([0, 1, 1, 2], False, id="one is doubled"),
        pytest.param([1, 0, 2], False, id="the order is wrong"),
        pytest.param([0, 1, 2, 3], False, id="one too many"),
    ],
)
def test_the_simulation_knows_what_a_stream_must_have_got(
    population: Any, numbers: list[int], is_right: bool
) -> None:
    people = _people(population)
    for _ in range(3):
        people.message("all")
    received = population.Received()
    for number in numbers:
        received.add("all", number)
    assert (received.ranges == people.expected(0)) is is_right


def test_of_a_channel_added_and_removed_a_simulated_user_must_have_got_what_came_between(
    population: Any,
) -> None:
    people = _people(population)
    user, channel, is_added = people.change(may_remove=True)
    assert is_added
    people.message(channel)
    assert people.change(may_remove=True) == (user, channel, False)
    people.message(channel)
    assert people.expected(user) == {channel: [[0, 1]]}


def _people(population: Any) -> Any:
    scaling = importlib.import_module("scaling")
    scores = scaling.WORKLOADS[-1]
    return population.Population(scaling.Traffic(scores, 2), random.Random(1))
