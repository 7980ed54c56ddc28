"""A stand-in for Redis, with which tests capture its requests.

It is the same for every kind of publisher and for all threads of the process.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sinapse.publisher.operations.operation import Operation


class StandIn(Protocol):
    """Returns results of operations without Redis; it is called from any thread."""

    def result(self, operation: Operation[Any]) -> Any:
        """Return the result of `operation`."""


# The last one is the current one.
_standing_in: list[StandIn] = []


def begin(stand_in: StandIn) -> None:
    """Let `stand_in` have all operations from now on, until :func:`end`."""
    _standing_in.append(stand_in)


def end(stand_in: StandIn) -> None:
    """Restore the stand-in that was there before, if any."""
    _standing_in.remove(stand_in)


def current() -> StandIn | None:
    """Return the stand-in for Redis, or None."""
    return _standing_in[-1] if _standing_in else None


def results(operations: Sequence[Operation[Any]]) -> list[Any] | None:
    """Return the results of `operations`; None if there is no stand-in for Redis."""
    stand_in = current()
    return None if stand_in is None else [stand_in.result(each) for each in operations]
