"""What becomes of runs while messages are captured."""

import time
from dataclasses import dataclass
from typing import Any

from sinapse.protocol.keys import run_channel
from sinapse.protocol.message import Message
from sinapse.protocol.runs import ENDINGS, RunState
from sinapse.publisher.operations.runs import (
    BeginRun,
    GetRun,
    HoldRuns,
    RunStatus,
    StopRun,
    TellRun,
)
from sinapse.testing.messages import Messages, Publication


@dataclass
class _Run:
    begun: BeginRun
    at: float
    seen: float
    state: RunState = RunState.RUNNING


class Runs:
    """The runs of a stand-in for Redis; what they tell is added to `messages`."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._runs: dict[str, _Run] = {}

    def result(self, operation: BeginRun | TellRun | HoldRuns | StopRun | GetRun) -> Any:
        """Return what comes of `operation`."""
        if isinstance(operation, TellRun):
            return self._told(operation)
        now = time.time()
        if isinstance(operation, BeginRun):
            self._runs[operation.run] = _Run(operation, now, now)
            return None
        if isinstance(operation, HoldRuns):
            found = [self._runs.get(each) for each in operation.runs]
            return [None if run is None else run.state for run in found]
        run = self._runs.get(operation.run)
        if isinstance(operation, GetRun):
            return None if run is None else _status(run)
        if run is None or run.state is not RunState.RUNNING:
            return False
        self._tell(run, Message(run.begun.about, ENDINGS[RunState.STOPPED]))
        run.state = RunState.STOPPED
        return True

    def _told(self, operation: TellRun) -> RunState | None:
        run = self._runs.get(operation.run)
        if run is None or run.state is not RunState.RUNNING:
            return None if run is None else run.state
        self._tell(run, operation.message)
        run.state, run.seen = operation.state, time.time()
        return run.state

    def _tell(self, run: _Run, message: Message) -> None:
        channel, retain = run_channel(run.begun.run), run.begun.retain / 1000
        publication = Publication(channel, message.data, message.event, retain, None)
        self._messages.append(publication)


def _status(run: _Run) -> RunStatus:
    begun = run.begun
    return RunStatus(begun.run, begun.name, begun.subject, run.state, run.at, run.seen)
