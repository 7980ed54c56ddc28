"""Catching up: a channel that was granted to open streams before this node was subscribed to it.

This node does not receive what is published between the grant and the subscription. It is read from
the retained messages. To keep the order of ids across all channels of a stream, the streams of the
subject are held meanwhile: their live messages are kept, and merged with those that were read.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from sinapse.protocol.message import Message

Member = TypeVar("Member")


class Dispatched(NamedTuple):
    """A message on its way to streams."""

    counter: int | None
    """The counter of its id; None for a message that is not retained."""
    channel: bytes
    message: Message | None
    """None for a message that is longer than a stream may hold."""


class Gap:
    """The messages of one channel that this node has not received.

    They are those after `first`, up to the counter at which the channel was withdrawn again if it
    was, else up to where reading ends because everything later is received.
    """

    __slots__ = ("after", "channel", "entries", "first", "gone", "is_read", "last")

    def __init__(self, channel: bytes, first: int) -> None:
        self.channel = channel
        self.first = self.after = first
        self.last: int | None = None
        #: The counter up to which messages may be gone.
        self.gone = first
        self.is_read = False
        self.entries: list[Dispatched] = []

    def contains(self, entry: Dispatched) -> bool:
        """Whether a message is in the range that was read."""
        return (
            entry.channel == self.channel
            and entry.counter is not None
            and self.first < entry.counter <= self.after
            and (self.last is None or entry.counter <= self.last)
        )

    def begin_at(self, first: int) -> None:
        """Leave out the messages up to a counter."""
        self.first = first
        self.after, self.gone = max(first, self.after), max(first, self.gone)
        self.entries = [entry for entry in self.entries if (entry.counter or 0) > first]

    def take(self, entries: Sequence[Dispatched], after: int, *, more: bool, gone: int = 0) -> None:
        """Take the messages that were read up to the counter `after`, of all channels.

        Messages of this channel may be gone up to the counter `gone`.
        """
        start, self.after = self.after, max(after, self.after)
        self.gone = max(gone, self.gone)
        self.entries += [
            entry for entry in entries if self.contains(entry) and (entry.counter or 0) > start
        ]
        self.is_read = not more or (self.last is not None and after >= self.last)


class Hold(NamedTuple):
    """The state in which a stream began to be held."""

    messages: int
    """How many messages were held by then."""
    gaps: int
    """How many gaps there were."""
    position: int
    """The counter up to which it has everything."""


class CatchUp(Generic[Member]):
    """The held streams of one subject."""

    __slots__ = ("gaps", "granted", "held", "members")

    def __init__(self) -> None:
        self.held: list[Dispatched] = []
        self.members: dict[Member, Hold] = {}
        #: The counters at which channels were granted meanwhile: earlier messages are for none.
        self.granted: dict[bytes, int] = {}
        self.gaps: list[Gap] = []

    def hold(self, member: Member, position: int) -> None:
        """Hold a stream that has everything up to the counter `position`."""
        self.members[member] = Hold(len(self.held), len(self.gaps), position)

    def open_gap(self, channel: bytes, after: int) -> None:
        """Note that a channel was granted, at that counter."""
        self.gaps.append(Gap(channel, after))
        self.granted[channel] = after

    def close_gap(self, channel: bytes, last: int | None) -> None:
        """Note that a channel was withdrawn, at that counter if it is known.

        If it is not, the gap delivers nothing: which messages came after it is unknown.
        """
        self.granted.pop(channel, None)
        for gap in self.gaps:
            if gap.channel == channel and gap.last is None:
                gap.last = gap.first if last is None else last

    def granted_anew(self, channel: bytes, at: int) -> None:
        """Note that the right to a channel is a later one, of that counter.

        It was withdrawn and granted again while unheard, or an earlier right has ended beside this
        one. Earlier messages of its gap are not for these streams.
        """
        for gap in self.gaps:
            if gap.channel == channel and gap.last is None and at > gap.first:
                gap.begin_at(at)

    def open_gaps(self) -> set[bytes]:
        """Return the channels with gaps that go on."""
        return {gap.channel for gap in self.gaps if gap.last is None}

    def unread(self) -> list[Gap]:
        """Return the gaps that are not read to their end."""
        return [gap for gap in self.gaps if not gap.is_read]

    def reading_for(self, member: Member) -> set[bytes]:
        """Return the channels that are still to be read for a stream, if it is held."""
        hold = self.members.get(member)
        gaps = [] if hold is None else self.gaps[hold.gaps :]
        return {gap.channel for gap in gaps if gap.last is None and not gap.is_read}

    def messages_for(self, member: Member) -> list[Dispatched]:
        """Return all messages for a stream that is released, in the order of ids.

        A message without an id keeps its place behind the one that it was held after.
        """
        start, first_gap, _ = self.members[member]
        gaps = self.gaps[first_gap:]
        # Gaps overlap if a stream opened in the middle of one, and began its own.
        read = {entry.counter or 0: entry for gap in gaps for entry in gap.entries}
        merged = [(counter, 0, entry) for counter, entry in read.items()]
        latest = 0
        for place, entry in enumerate(self.held[start:], 1):
            latest = entry.counter or latest
            if entry.counter in read:
                continue  # It was received as well as read.
            merged.append((latest, place, entry))
        merged.sort(key=lambda item: item[:2])
        return [entry for _, _, entry in merged]

    def missing_for(self, member: Member) -> set[bytes]:
        """Return the channels of which a stream may lack a message.

        A message that is gone may have been received. Counters are shared by all channels: if every
        counter that may be gone is known, none is missing.
        """
        start, first_gap, _ = self.members[member]
        gaps = self.gaps[first_gap:]
        lacking = [gap for gap in gaps if gap.last is None and gap.gone > gap.first]
        if not lacking:
            return set()
        known = {entry.counter for entry in self.held[start:]}
        known.update(entry.counter for gap in gaps for entry in gap.entries)
        return {
            gap.channel
            for gap in lacking
            if not all(counter in known for counter in range(gap.first + 1, gap.gone + 1))
        }

    def drop(self, position: int) -> None:
        """Forget what was held and read: it belongs to lost data, and streams go on from here."""
        self.held.clear()
        self.gaps.clear()
        self.members = dict.fromkeys(self.members, Hold(0, 0, position))
