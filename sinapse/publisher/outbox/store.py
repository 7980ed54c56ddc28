"""The outbox of a database, whatever asks that: Django, SQLAlchemy."""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from sinapse.publisher.outbox.delivery import Outcome
from sinapse.publisher.outbox.notices import Notices
from sinapse.publisher.outbox.rows import Row

#: Of the lock that a relay has, and of the notice that wakes it, in a database that has such.
LOCK = "sinapse_outbox"

_log = logging.getLogger(__name__)


class Statistics(NamedTuple):
    """What is in an outbox."""

    waiting: int
    oldest: float
    """Seconds for which the oldest of these waits; 0 if there is none."""
    set_aside: int


class Store(Protocol):
    """The outbox of one database. What its database refuses it raises as that does."""

    name: str
    """What logs and metrics call it."""

    def alone(self) -> AbstractContextManager[bool]:
        """Keep other relays from the work, for a block, and say whether that has succeeded.

        It only saves work: two that send at the same time send nothing twice.
        """

    def waiting(self, count: int, but: Collection[str] = ()) -> Sequence[Row]:
        """Return the first rows, but those of some channels; none that are set aside."""

    def remove(self, ids: Sequence[int]) -> None:
        """Remove rows that have been sent."""

    def set_aside(self, refused: Mapping[int, str]) -> None:
        """Note that rows can never be sent, and why."""

    def statistics(self) -> Statistics:
        """Return what is there."""

    def notices(self) -> Notices | None:
        """Return what tells that something may be there; None if the database cannot do that."""

    def close(self) -> None:
        """Give up what it listens with; a later call of :meth:`notices` begins anew."""

    def settle(self, outcome: Outcome) -> None:
        """Remove what was sent; set aside what never can be, with a line in the log."""
        if outcome.sent:
            self.remove(outcome.sent)
        for place, reason in outcome.refused.items():
            _log.error("Outbox %s: message %d is set aside: %s", self.name, place, reason)
        if outcome.refused:
            self.set_aside(outcome.refused)


def in_a_line(error: Exception) -> str:
    """Return the first line of what a database says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
