"""Which node the Sentinels call the master.

They are asked before every command, and not only when a connection fails: after a planned
failover the former master accepts commands for ten seconds, and then forgets them.
"""

import time
from collections.abc import Generator
from typing import Any

from sinapse.publisher.operations.operation import Command

#: Seconds before the Sentinels are asked again after none of them answered.
SENTINELS_RETRY_DELAY = 1.0

Address = tuple[str, int]


class Unknown(Exception):
    """No Sentinel knows where the master is."""


class Master:
    """Where the master is that `count` Sentinels call `name`."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._first = 0
        self._known: Address | None = None
        self._asked_again = float("-inf")

    def find(self) -> Generator[tuple[int, Command], Any, Address]:
        """Yield which Sentinel to ask what, take its answer or None, and return the address.

        When no Sentinel answers, it is the one that was known last. Raises :class:`Unknown`.
        """
        if time.monotonic() >= self._asked_again:
            for _ in range(self._count):
                first = self._first
                answer = yield first, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                if answer is not None:
                    self._known = answer[0].decode(), int(answer[1])
                    return self._known
                self._first = (first + 1) % self._count
            self._asked_again = time.monotonic() + SENTINELS_RETRY_DELAY
        if self._known is None:
            raise Unknown(f"no Sentinel knows where {self._name} is")
        return self._known

    def doubt(self) -> None:
        """Ask a different Sentinel first: the last answer led to no master."""
        self._first = (self._first + 1) % self._count
