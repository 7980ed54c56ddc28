"""Runs: what their processes tell Redis, and what anybody may ask of them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sinapse.protocol.keys import HORIZON, RUN_CHANNELS, plain, run_channel
from sinapse.protocol.message import Message, pack, pack_retained
from sinapse.protocol.names import Names
from sinapse.protocol.runs import ENDINGS, LEASE, MESSAGES, RunState
from sinapse.protocol.scripts import BEGIN_RUN, HOLD_RUNS, STOP_RUN, TELL_RUN
from sinapse.publisher.operations.operation import Operation, Request, T, call

#: Bytes of a name: it is sent with every message.
MAX_NAME_BYTES = 128

#: Characters of an id that is looked for: those of runs have 22.
_MAX_ID_LENGTH = 64

#: What no run has as its id.
_NO_ID = "-"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What Redis knows of a run.

    `subject` is the id of whom it was begun for. `begun` is when, and `seen` when its process gave
    the last sign of life: seconds since 1970, by the clock of Redis.
    """

    id: str
    name: str
    subject: str
    state: RunState
    begun: float
    seen: float


class _OfRun(Operation[T]):
    """An operation about one run, in the Redis that has its channel."""

    __slots__ = ("run",)

    def __init__(self, run: str) -> None:
        self.run: str = run

    @property
    def spread_by(self) -> str:
        """The channel of the run."""
        return run_channel(self.run)

    @abstractmethod
    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""


class BeginRun(_OfRun[None]):
    """Notes that a run has begun; `about` is the data of its end, `retain` is milliseconds."""

    __slots__ = ("about", "name", "retain", "subject")

    def __init__(self, run: str, name: str, subject: str, about: str, retain: int) -> None:
        super().__init__(run)
        self.name: str = name
        self.subject: str = subject
        self.about: str = about
        self.retain: int = retain

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(
            names,
            BEGIN_RUN,
            (names.run_key(self.run), names.runs),
            (
                self.run,
                self.name,
                self.subject,
                pack(Message(self.about)),
                str(self.retain),
                str(LEASE),
            ),
        )

    def result(self, answer: Any) -> None:
        """Return nothing."""


class TellRun(_OfRun["RunState | None"]):
    """Message `number` of a run, which is in `state` after it.

    The result is `state` if it was published, now or by an earlier attempt; else the state of a run
    that was over before, and None if Redis does not know the run.
    """

    __slots__ = ("message", "number", "state")

    def __init__(self, run: str, number: int, message: Message, state: RunState) -> None:
        super().__init__(run)
        self.number: int = number
        self.message: Message = message
        self.state: RunState = state

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        channel = run_channel(self.run)
        return call(
            names,
            TELL_RUN,
            (*names.of_runs, names.run_key(self.run), names.retained_key(channel)),
            (
                self.run,
                channel,
                pack_retained(self.message),
                str(self.number),
                self.state,
                str(LEASE),
                str(MESSAGES),
                names.nodes,
                str(HORIZON),
            ),
        )

    def result(self, answer: int | bytes) -> RunState | None:
        """Return the state after it."""
        return self.state if isinstance(answer, int) else _state(answer)


class HoldRuns(Operation["list[RunState | None]"]):
    """Signs of life of runs in one Redis; the result is the state of each, None if not known."""

    __slots__ = ("runs",)

    def __init__(self, runs: Sequence[str]) -> None:
        self.runs: Sequence[str] = runs

    @property
    def spread_by(self) -> str:
        """The channel of any of them."""
        return run_channel(self.runs[0])

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        prefixes = names.run_key(""), RUN_CHANNELS, names.retained_key("")
        return call(
            names, HOLD_RUNS, (names.runs,), (*prefixes, str(LEASE), str(HORIZON), *self.runs)
        )

    def result(self, answer: Sequence[bytes]) -> list[RunState | None]:
        """Return the states."""
        return [_state(each) for each in answer]


class StopRun(_OfRun[bool]):
    """Stops a run; the result is whether it was running."""

    __slots__ = ()

    def elsewhere(self, _place: int) -> "StopRun":
        """Return the same: it may have begun there."""
        return StopRun(self.run)

    def joined(self, result: bool, other: bool) -> bool:
        """Return whether it was running anywhere."""
        return result or other

    def __init__(self, run: object) -> None:
        super().__init__(_checked_id(run))

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(
            names,
            STOP_RUN,
            names.of_runs,
            (
                *(names.run_key(""), RUN_CHANNELS, names.retained_key("")),
                *(str(MESSAGES), names.nodes, str(HORIZON), str(LEASE)),
                *(self.run, RunState.STOPPED, ENDINGS[RunState.STOPPED]),
            ),
        )

    def result(self, answer: int) -> bool:
        """Return whether it was running."""
        return bool(answer)


class GetRun(_OfRun["RunStatus | None"]):
    """What Redis knows of a run; None if it knows none of that id, or no longer."""

    __slots__ = ()

    def elsewhere(self, _place: int) -> "GetRun":
        """Return the same: it may have begun there."""
        return GetRun(self.run)

    def joined(self, result: "RunStatus | None", other: "RunStatus | None") -> "RunStatus | None":
        """Return what one of them knows."""
        return result or other

    def __init__(self, run: object) -> None:
        super().__init__(_checked_id(run))

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        fields = ("name", "subject", "state", "begun", "seen")
        return Request(("HMGET", names.run_key(self.run), *fields))

    def result(self, answer: Sequence[bytes | None]) -> RunStatus | None:
        """Return it."""
        state = _state(answer[2])
        if state is None:
            return None
        name, subject, _, begun, seen = (each.decode(errors="replace") for each in answer if each)
        return RunStatus(self.run, name, subject, state, int(begun) / 1000, int(seen) / 1000)


def run_name(name: object) -> str:
    """Return `name` if a run can have it; raises ``ValueError``."""
    if not isinstance(name, str):
        raise ValueError(f"the name of a run is a str, not {type(name).__name__}")  # noqa: TRY004
    name = plain(name)
    if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"the name of a run is 1 to {MAX_NAME_BYTES} bytes of printable text: {name[:80]!r}"
        )
    return name


def _checked_id(run: object) -> str:
    """Return an id to look for; raises ``ValueError`` for what is no text.

    A text that no run can have as its id comes from strangers: it is unknown, as any other.
    """
    if not isinstance(run, str):
        raise ValueError(f"the id of a run is a str, not {type(run).__name__}")  # noqa: TRY004
    run = plain(run)
    if not 1 <= len(run) <= _MAX_ID_LENGTH or not run.isascii() or not run.isprintable():
        return _NO_ID
    return run


def _state(text: bytes | None) -> RunState | None:
    try:
        return RunState((text or b"").decode())
    except ValueError:
        return None
