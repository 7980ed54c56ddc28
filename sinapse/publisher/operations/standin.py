"""A stand-in for Redis, with which tests capture its requests.

It is the same for every kind of publisher and for all threads of the process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from sinapse.publisher.operations.operation import Operation


class StandIn(Protocol):
    """Returns results of operations without Redis; it is called from any thread."""

    def result(self, operation: Operation[Any]) -> Any:
        """Return the result of `operation`."""


class _Redis:
    """Stands where Redis itself has to be asked."""


#: Returns who stands in for Redis where nobody has begun to; None for nobody.
Find: TypeAlias = Callable[[], StandIn | None]

# The last one is the current one.
_standing_in: list[StandIn | _Redis] = []
_otherwise: list[Find] = []


def begin(stand_in: StandIn) -> None:
    """Let `stand_in` have all operations from now on, until :func:`end`."""
    _standing_in.append(stand_in)


def end(stand_in: StandIn) -> None:
    """Restore the stand-in that was there before, if any."""
    _standing_in.remove(stand_in)


@contextmanager
def nobody() -> Iterator[None]:
    """Ask Redis itself for the length of a block, whoever stood in for it before."""
    redis = _Redis()
    _standing_in.append(redis)
    try:
        yield
    finally:
        _standing_in.remove(redis)


def otherwise(find: Find | None) -> None:
    """Let `find` say who stands in for Redis where nobody has begun to; with None, nobody does."""
    _otherwise[:] = [] if find is None else [find]


def current() -> StandIn | None:
    """Return the stand-in for Redis, or None."""
    if _standing_in:
        last = _standing_in[-1]
        return None if isinstance(last, _Redis) else last
    return _otherwise[0]() if _otherwise else None


def results(operations: Sequence[Operation[Any]]) -> list[Any] | None:
    """Return the results of `operations`; None if there is no stand-in for Redis."""
    stand_in = current()
    return None if stand_in is None else [stand_in.result(each) for each in operations]
