"""Somebody who stands in for Redis: how tests capture what would be asked of it.

It is the same for every kind of publisher and for all threads of the process.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sinapse.publisher.operations.operation import Operation


class StandIn(Protocol):
    """Knows what comes of operations without asking anybody. It is called from any thread."""

    def result(self, operation: Operation[Any]) -> Any:
        """Return what comes of `operation`."""


# The last one stands in.
_standing_in: list[StandIn] = []


def begin(stand_in: StandIn) -> None:
    """Let `stand_in` have all operations from now on, until :func:`end`."""
    _standing_in.append(stand_in)


def end(stand_in: StandIn) -> None:
    """Let whoever was there before have them again."""
    _standing_in.remove(stand_in)


def current() -> StandIn | None:
    """Return who stands in for Redis, if anybody does."""
    return _standing_in[-1] if _standing_in else None


def results(operations: Sequence[Operation[Any]]) -> list[Any] | None:
    """Return what comes of `operations`; None if Redis has to be asked."""
    stand_in = current()
    return None if stand_in is None else [stand_in.result(each) for each in operations]
