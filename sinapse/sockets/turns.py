"""Fair turns of the reactor: a slice of what is ready in each, and what is preferred first.

Twisted's reactor handles all sockets that are ready before it looks again. When thousands of
clients connect, or leave, at once, that takes a second, and messages wait as long. With
:func:`be_fair` a turn handles some, and between two turns comes what :func:`prefer` has named.

It takes the place of the epoll object in Twisted's reactor, and of the loop over what is ready;
with other reactors nothing changes.
"""

import select
from collections.abc import Callable
from typing import Any

#: Sockets of a turn: some 10 ms, if each has a request.
SLICE = 64

#: Connections that are accepted in a turn, of each port: their requests follow at once.
ACCEPTS = 16


class FairPoller:
    """An epoll object that returns a slice of what is ready, the preferred first."""

    def __init__(self, poller: select.epoll) -> None:
        self._poller = poller
        #: Has the preferred ones once more: among thousands that are ready they would be in one of
        #: the next slices.
        self._preferred = select.epoll()
        self._numbers: set[int] = set()

    def prefer(self, number: int) -> None:
        """Return a descriptor, which is read from, before others from now on."""
        self._numbers.add(number)
        self._preferred.register(number, select.EPOLLIN)

    def forget(self, number: int) -> None:
        """Note that a descriptor is closed."""
        self._numbers.discard(number)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """Return descriptors and their events, in `timeout` seconds at the latest."""
        events = self._poller.poll(timeout, max(1, min(most, SLICE)))
        if len(events) > 1 and self._numbers:
            first = self._preferred.poll(0)
            if first:
                return [*first, *(each for each in events if each[0] not in self._numbers)]
        return events

    def register(self, number: int, flags: int) -> None:
        """Begin to look at a descriptor."""
        self._poller.register(number, flags)
        if number in self._numbers:
            self._preferred.register(number, flags)

    def modify(self, number: int, flags: int) -> None:
        """Look at different events of a descriptor."""
        self._poller.modify(number, flags)
        if number in self._numbers:
            self._preferred.modify(number, flags)

    def unregister(self, number: int) -> None:
        """Look at a descriptor no longer."""
        self._poller.unregister(number)
        if number in self._numbers:
            self._preferred.unregister(number)

    def close(self) -> None:
        """Close both."""
        self._preferred.close()
        self._poller.close()


def be_fair(reactor: Any) -> None:
    """Let a reactor with epoll handle a slice of what is ready in each turn."""
    former = getattr(reactor, "_poller", None)
    if not isinstance(former, select.epoll):
        return
    # There is no other way in.
    poller = reactor._poller = FairPoller(former)  # noqa: SLF001
    selectables, handle = reactor._selectables, reactor._doReadOrWrite  # noqa: SLF001

    def take_turn(seconds: float | None) -> None:
        # Twisted's own loop calls a dozen functions for each event, so that what is logged in it
        # names the connection; nothing of ours is logged in that way. `handle` logs what fails in
        # a read or a write, the reactor what fails in an end: what is left comes in the next turn.
        timeout = -1 if seconds is None else seconds
        for number, event in poller.poll(timeout, len(selectables)):
            if (selectable := selectables.get(number)) is not None:
                handle(selectable, number, event)

    reactor.doIteration = take_turn


def prefer(transport: Any, reactor: Any) -> Callable[[], None]:
    """Let a connection be read before others; returns what is to be called after its end."""
    poller = getattr(reactor, "_poller", None)
    number = transport.fileno()
    if not isinstance(poller, FairPoller) or number < 0:
        return lambda: None
    poller.prefer(number)
    return lambda: poller.forget(number)
