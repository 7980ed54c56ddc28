"""Hubs as tests keep them: without a broker."""

from collections.abc import Callable
from typing import TypeVar

from sinapse.counters import Counters
from sinapse.errors import CloseReason
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Subject

Kept = TypeVar("Kept", bound=Hub)


class Keeper:
    """Ends the streams of who may listen to nothing, and passes on what a test wants to know."""

    hub: Hub

    def __init__(
        self,
        interest_changed: Callable[[bytes], None] = lambda _channel: None,
        catch_up_needed: Callable[[Subject], None] = lambda _subject: None,
        turn_needed: Callable[[], None] = lambda: None,
    ) -> None:
        self.interest_changed = interest_changed
        self.catch_up_needed = catch_up_needed
        self.turn_needed = turn_needed
        self.exceeded: list[tuple[bytes, int]] = []

    def emptied(self, subject: Subject) -> None:
        self.hub.end_all(subject, CloseReason.NO_CHANNELS)

    def too_many_channels(self, subject: bytes, count: int) -> None:
        self.exceeded.append((subject, count))


def kept(keeper: Keeper, counters: Counters, kind: type[Kept]) -> Kept:
    """Return a hub that belongs to `keeper`."""
    hub = kind(counters, keeper)
    keeper.hub = hub
    return hub
