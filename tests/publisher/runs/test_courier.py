"""What is carried for all runs of a process: when, and what the answers mean for each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sinapse.errors import BrokerUnavailable, RunLost, RunStopped
from sinapse.protocol.runs import RunState
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.runs import HoldRuns, TellRun
from sinapse.publisher.runs.buffer import BATCH_WINDOW, Buffer
from sinapse.publisher.runs.courier import SIGN_INTERVAL, Courier

START = 100.0


class Carried:
    """A courier with some runs, and a clock that the test sets."""

    def __init__(self, *runs: str) -> None:
        self.woken = 0
        self.now = START
        self.courier = Courier(self._wake)
        self.buffers = {run: Buffer(run, "answer", 2**20) for run in runs}
        for buffer in self.buffers.values():
            self.courier.add(buffer, START)

    def _wake(self) -> None:
        self.woken += 1

    def put(self, run: str, piece: object) -> None:
        buffer = self.buffers[run]
        if buffer.put(*buffer.written(piece)):
            self.courier.look_at(buffer)

    def operations(self, now: float) -> list[Operation[Any]]:
        self.now = now
        return self.courier.operations(now)

    def settle(self, *results: Any) -> None:
        self.courier.settle(results, self.now)


def shown(operations: list[Operation[Any]]) -> list[Any]:
    """Return the pieces of each run that is told of, and the runs that give a sign of life."""
    found: list[Any] = []
    for operation in operations:
        if isinstance(operation, TellRun):
            pieces = json.loads(operation.message.data).get("pieces", operation.message.event)
            found.append((operation.run, pieces))
        elif isinstance(operation, HoldRuns):
            found.append([*operation.runs])
    return found


RUNNING = RunState.RUNNING


def test_the_first_piece_goes_at_once_and_those_that_follow_together() -> None:
    carried = Carried("a")
    carried.put("a", 1)
    assert carried.woken == 1
    assert carried.courier.wait(START) == 0
    assert shown(carried.operations(START)) == [("a", [1])]
    carried.settle(RUNNING)
    carried.put("a", 2)
    carried.put("a", 3)
    assert BATCH_WINDOW / 2 <= carried.courier.wait(START) <= BATCH_WINDOW + 1e-9
    assert shown(carried.operations(START + 0.001)) == []
    assert shown(carried.operations(START + BATCH_WINDOW)) == [("a", [2, 3])]


def test_what_is_due_of_all_runs_goes_together_and_each_run_once() -> None:
    carried = Carried("a", "b", "c")
    for run in "aabbb":
        carried.put(run, run)
    assert shown(carried.operations(START)) == [("a", ["a", "a"]), ("b", ["b", "b", "b"])]


def test_runs_that_tell_nothing_give_a_sign_together() -> None:
    carried = Carried("a", "b", "c")
    assert carried.courier.wait(START) == SIGN_INTERVAL
    carried.put("b", 1)
    now = START + SIGN_INTERVAL
    assert shown(carried.operations(now)) == [("b", [1]), ["a", "c"]]
    carried.settle(RUNNING, [RUNNING, RUNNING])
    assert carried.courier.wait(now) == SIGN_INTERVAL


def test_the_answer_to_a_sign_says_that_a_run_is_over() -> None:
    carried = Carried("a", "b", "c")
    carried.operations(START + SIGN_INTERVAL)
    carried.settle([RunState.STOPPED, None, RUNNING])
    assert isinstance(carried.buffers["a"].outcome, RunStopped)
    assert isinstance(carried.buffers["b"].outcome, RunLost)
    assert carried.buffers["c"].outcome is None
    assert len(carried.courier) == 1


def test_a_sign_without_an_answer_ends_nothing() -> None:
    carried = Carried("a")
    for number in range(1, 100):
        assert shown(carried.operations(START + number * SIGN_INTERVAL)) == [["a"]]
        carried.settle(BrokerUnavailable("away"))
    assert not carried.buffers["a"].is_over


def test_a_failure_of_one_is_not_that_of_others() -> None:
    carried = Carried("a", "b")
    carried.put("a", 1)
    carried.put("b", 1)
    carried.operations(START)
    carried.settle(BrokerUnavailable("refused"), RUNNING)
    carried.put("a", 2)
    carried.put("b", 2)
    assert shown(carried.operations(START + BATCH_WINDOW)) == [("b", [2])]
    carried.settle(RUNNING)
    # The same message again, and then what came meanwhile.
    assert shown(carried.operations(START + 0.2)) == [("a", [1])]
    carried.settle(RUNNING)
    assert shown(carried.operations(START + 0.3)) == [("a", [2])]


def test_the_end_follows_the_last_piece() -> None:
    carried = Carried("a")
    buffer = carried.buffers["a"]
    carried.put("a", 1)
    carried.operations(START)
    carried.put("a", 2)
    buffer.end()
    carried.courier.look_at(buffer)
    carried.settle(RUNNING)
    for expected, answer in ((("a", [2]), RUNNING), (("a", "end"), RunState.ENDED)):
        assert shown(carried.operations(START)) == [expected]
        carried.settle(answer)
    assert buffer.state is RunState.ENDED
    assert not carried.courier


@pytest.mark.parametrize("count", [1, 1000])
def test_pieces_that_change_nothing_leave_nothing_behind(count: int) -> None:
    carried = Carried("a")
    for number in range(count):
        carried.put("a", number)
    assert len(carried.courier._due) == 1
    assert carried.woken == 1
