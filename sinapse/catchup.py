"""Catching up: a channel that was granted to open streams before this node was subscribed to it.

What is published between the grant and the subscription reaches no node. It is read from what is
retained, and to keep the order of ids across all channels of a stream, the streams of the subject
are held meanwhile: what is dispatched for them is kept as messages, and merged with what was read.
"""

from typing import Generic, NamedTuple, TypeVar

from sinapse.message import Message

Member = TypeVar("Member")


class Dispatched(NamedTuple):
    """A message on its way to streams."""

    counter: int | None
    """That of its id; None for a message that is not retained."""
    channel: bytes
    message: Message


class Wanted:
    """A channel whose messages after `after` are to be read; `at` is a place in what was held."""

    __slots__ = ("after", "at", "entries", "upto")

    def __init__(self, after: int, at: int) -> None:
        self.after = after
        self.at = at
        self.upto: int | None = None
        self.entries: list[Dispatched] = []


class CatchUp(Generic[Member]):
    """The held streams of one subject."""

    __slots__ = ("held", "members", "wanted")

    def __init__(self) -> None:
        self.held: list[Dispatched] = []
        #: Streams, and the place in `held` from which on each was held.
        self.members: dict[Member, int] = {}
        self.wanted: dict[bytes, Wanted] = {}

    def want(self, channel: bytes, after: int) -> None:
        """Ask for the messages of a channel that was granted now."""
        self.wanted[channel] = Wanted(after, len(self.held))

    def next_wanted(self) -> dict[bytes, int]:
        """Return the channels that are still to be read, with the counter to read after."""
        return {name: each.after for name, each in self.wanted.items() if each.upto is None}

    def take(
        self, asked: dict[bytes, Wanted], entries: list[Dispatched], after: int, *, more: bool
    ) -> None:
        """Take what was read for the channels that were `asked` for, up to the counter `after`."""
        for name, wanted in asked.items():
            # Removed meanwhile, it is forgotten; granted again, it begins anew.
            if self.wanted.get(name) is wanted:
                wanted.entries += [entry for entry in entries if entry.channel == name]
                wanted.after = max(after, wanted.after)
                wanted.upto = None if more else after

    def messages_for(self, member: Member) -> list[Dispatched]:
        """Return all that a stream gets when it is released, in the order of ids.

        A message without an id keeps its place behind the one that it was held after.
        """
        start = self.members[member]
        read = {name: each for name, each in self.wanted.items() if each.at >= start}
        merged: list[tuple[int, int, Dispatched]] = []
        for each in read.values():
            merged += [(entry.counter or 0, 0, entry) for entry in each.entries]
        latest = 0
        for place, entry in enumerate(self.held[start:], 1):
            if entry.counter is not None:
                wanted = read.get(entry.channel)
                if wanted is not None and entry.counter <= (wanted.upto or 0):
                    continue  # It was read as well.
                latest = entry.counter
            merged.append((latest, place, entry))
        merged.sort(key=lambda item: item[:2])
        return [entry for _, _, entry in merged]
