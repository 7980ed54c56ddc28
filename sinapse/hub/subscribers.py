"""Subscribers, the subjects that they belong to, their groups, and channels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Protocol

from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.audience import Audience
from sinapse.hub.catchup import CatchUp, Dispatched
from sinapse.hub.former import NONE, Former, clipped, unbroken, with_former
from sinapse.hub.register import part_key
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message
from sinapse.protocol.only import Only


class Encoding(Protocol):
    """How messages become bytes."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return `messages` of `channel`."""

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return what says that messages of `channels` are missing."""

    def position(self, identifier: str) -> bytes:
        """Return what says where to resume from, and nothing else."""


class Framing(Encoding, Protocol):
    """How they become bytes for one kind of stream: each result is a frame, as it is written."""

    @property
    def plain(self) -> Encoding:
        """What gives bodies in place of frames, for :meth:`frame`."""

    def frame(self, body: bytes) -> bytes:
        """Return one frame of a body, or of several that are joined."""


def encode(framing: Encoding, entry: Dispatched, epoch: str, place: EventID | None = None) -> bytes:
    """Return a message in its framing, or a reset in place of one that is too long.

    With `place` a stream goes on from there after it, in place of the message's own id.
    """
    message = entry.message
    if message is None:
        identifier = str(place or EventID(epoch, entry.counter or 0))
        return framing.reset(ResetReason.NOT_RETAINED, [entry.channel], identifier)
    if place is not None:
        message = message._replace(id=str(place))
    return framing.encode(entry.channel, [message])


def body_for(
    subscriber: "Subscriber", entry: Dispatched, epoch: str, place: EventID | None = None
) -> bytes:
    """Return the body of a message for a stream: only its id if the stream is its sender's."""
    framing = subscriber.framing.plain
    message = entry.message
    if message is None or message.but is None or message.but != subscriber.name:
        return encode(framing, entry, epoch, place)
    identifier = message.id if place is None else str(place)
    return b"" if message.id is None or identifier is None else framing.position(identifier)


class Subscriber(Protocol):
    """An open stream, as the hub sees it.

    Its methods must not call the hub before they return: the hub is in a loop.
    """

    token: bytes
    name: str | None
    """What its client calls it."""
    subject: "Subject | None"

    @property
    def descriptor(self) -> int | None:
        """Its socket, if frames can be written straight to that; it is the same for ever."""

    @property
    def framing(self) -> Framing:
        """The framing of its messages."""

    def send(self, frame: bytes) -> None:
        """Write `frame`, now or as soon as the stream has caught up."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""


class Listeners:
    """Open streams that hear the same."""

    __slots__ = ("audiences", "holding", "written")

    def __init__(self) -> None:
        #: Open subscribers by framing, so that the loop over them has no branch.
        self.audiences: dict[Framing, Audience[Subscriber]] = {}
        #: How many messages the node had counted when something was last written to all of them.
        self.written = 0
        #: Subjects for whom its messages are held.
        self.holding: set[Subject] = set()

    def listen(self, subscriber: Subscriber) -> None:
        """Put an open subscriber into the audience of its framing."""
        audience = self.audiences.get(subscriber.framing)
        if audience is None:
            audience = self.audiences[subscriber.framing] = Audience()
        audience.add(subscriber)
        self.written = 0  # Not to this one.

    def has_written_to(self, subscriber: Subscriber, since: int) -> bool:
        """Whether something was written to a subscriber after so many messages of the node."""
        return self.written > since and subscriber in self.audiences.get(subscriber.framing, ())

    def stop_listening(self, subscriber: Subscriber) -> None:
        """Remove a subscriber from its audience, if it is there."""
        audience = self.audiences.get(subscriber.framing)
        if audience is not None:
            audience.discard(subscriber)
            if not audience:
                del self.audiences[subscriber.framing]


class Group(Listeners):
    """What the members of a group may listen to now: a list of channels that is kept once.

    As with a subject, there is one more for each part of it that tokens are for.
    """

    __slots__ = (
        *("channels", "former", "holders", "id", "key", "knows_former"),
        *("members", "only", "unheard", "unheard_ends"),
    )

    def __init__(self, identifier: bytes, only: Only | None = None) -> None:
        super().__init__()
        self.id = identifier
        self.only = only
        self.key: bytes = part_key(identifier, only)
        #: Its channels, and the counter at which each was added; 0 if that is not known.
        self.channels: dict[bytes, int] = {}
        #: Those that it had, and when.
        self.former: Former = NONE
        #: Whether these are all: not if the group has come with its first member, whom no others
        #: concern.
        self.knows_former = False
        #: Those of them that were lost unheard, by what Redis said when the node came back last.
        self.unheard_ends: AbstractSet[bytes] = frozenset()
        #: The members with open streams.
        self.members: dict[Subject, None] = {}
        #: How many members and joins need it; without any it is dropped.
        self.holders = 0
        #: Those of its channels to which the node was not subscribed when they were added.
        self.unheard: set[bytes] = set()

    def admits(self, channel: bytes) -> bool:
        """Whether a channel of the list is for these members."""
        return self.only is None or self.only.allows(channel)

    def learn(self, former: Former | None) -> None:
        """Take what it had by what Redis says; None if that has not been said."""
        if former is not None and not self.knows_former:
            self.knows_former = True
            known = self.former.items()
            ended = [(name, start, end) for name, times in known for start, end in times]
            self.former = with_former(former, ended)

    def times(self, since: int, last: int | None) -> Iterator[tuple[bytes, int, int]]:
        """Yield what a member has had that was one up to the counter `last`, and when."""
        for name, times in self.former.items():
            for start, end in clipped(times, since, last):
                yield name, start, end
        if last is not None:
            for name, added in self.channels.items():
                yield name, max(since, added), last


#: Subjects without groups share it.
_NO_GROUPS: Mapping[Group, int] = MappingProxyType({})


class Subject:
    """A user with open streams on this node, and the channels that it may listen to now.

    It may while a channel is on its own list, or on that of a group that it is in. Streams of a
    token that is for a part of these are apart, as if a subject had no more than that.
    """

    __slots__ = (
        *("catch_up", "channels", "former", "groups", "id", "key", "only"),
        *("replaying", "since", "subscribers"),
    )

    def __init__(self, identifier: bytes, only: Only | None = None) -> None:
        self.id = identifier
        self.only = only
        #: Its place in the table.
        self.key: bytes = part_key(identifier, only)
        #: Its own list.
        self.channels: set[bytes] = set()
        #: Its groups, and the counter since which it is in each; 0 if that is not known.
        self.groups: Mapping[Group, int] = _NO_GROUPS
        #: The oldest first.
        self.subscribers: dict[Subscriber, None] = {}
        #: The subscribers that get nothing yet. Hardly ever any: all subjects share one empty
        #: frozenset, where a set of its own would take 216 bytes for each.
        self.replaying: frozenset[Subscriber] = frozenset()
        self.catch_up: CatchUp[Subscriber] | None = None
        #: While earlier messages are read for it: the counters at which channels were granted, as
        #: far as they are known. No message up to there is for this subject.
        self.since: dict[bytes, int] | None = None
        #: Meanwhile, rights that have ended beside others; but for those by groups that it is in.
        self.former: Former = NONE

    def admits(self, channel: bytes) -> bool:
        """Whether a channel of a list is for its streams."""
        return self.only is None or self.only.allows(channel)

    @property
    def hears_nothing(self) -> bool:
        """Whether there is no channel that it may listen to."""
        return not self.channels and not any(group.channels for group in self.groups)

    def hears(self, channel: bytes) -> bool:
        """Whether it may listen to a channel."""
        return channel in self.channels or any(channel in each.channels for each in self.groups)

    def heard(self) -> AbstractSet[bytes]:
        """Return all channels that it may listen to."""
        if not self.groups:
            return self.channels
        return self.channels.union(*(group.channels for group in self.groups))

    def heard_of(self, names: AbstractSet[bytes]) -> set[bytes]:
        """Return those of some channels that it may listen to."""
        found = self.channels & names
        for group in self.groups:
            found |= group.channels.keys() & names
        return found

    def granted_at(self, channel: bytes) -> int | None:
        """Return the counter since which it may listen to a channel; None if it may not.

        It is 0 if that is not known. If it may by several lists, the earliest counts: by a group,
        since it is in that and that has the channel. If an earlier one has ended beside it, that
        counts.
        """
        at = None
        if channel in self.channels:
            at = 0 if self.since is None else self.since.get(channel, 0)
        for group, joined in self.groups.items():
            added = group.channels.get(channel)
            if added is not None:
                by_group = max(joined, added)
                at = by_group if at is None else min(at, by_group)
        return at and unbroken(at, self._times_of(channel))

    def _times_of(self, channel: bytes) -> Iterator[tuple[int, int]]:
        """Yield when there were rights to a channel that have ended."""
        yield from self.former.get(channel, ())
        for group, joined in self.groups.items():
            if channel in group.former:
                yield from clipped(group.former[channel], joined)

    def forget_grants(self) -> None:
        """Forget since when it may listen: nothing is read for it any more."""
        self.since, self.former = None, NONE

    def may_have(self, entry: Dispatched, pasts: Mapping[bytes, int]) -> bool:
        """Whether a message that was read is for this subject: later than the grant.

        Of the channels in `pasts` earlier ones are too, if the grant is still that of that counter.
        """
        since = self.granted_at(entry.channel)
        if since is None:
            return False
        return entry.counter is None or entry.counter > since or pasts.get(entry.channel) == since

    def listening(self) -> list[Subscriber]:
        """Return the subscribers that are in the audiences of its channels and groups."""
        held = self.catch_up.members if self.catch_up is not None else ()
        return [
            each for each in self.subscribers if each not in self.replaying and each not in held
        ]

    def enter(self, group: Group, at: int) -> None:
        """Note that it is in a group since that counter."""
        self.groups = {**self.groups, group: at}
        group.members[self] = None

    def exit(self, group: Group) -> None:
        """Note that it is not in a group any more."""
        self.groups = {each: at for each, at in self.groups.items() if each is not group}
        if not self.groups:
            self.groups = _NO_GROUPS
        group.members.pop(self, None)


class Channel(Listeners):
    """A channel that a subject here may listen to."""

    __slots__ = ("groups", "holders", "is_subscribed", "messages", "name")

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.name = name
        #: How many subjects, groups and joins need it; without any it is dropped.
        self.holders = 0
        #: The groups whose members listen beside those who may by their own lists.
        self.groups: tuple[Group, ...] = ()
        #: Redis has confirmed the subscription: from then on no message is missed.
        self.is_subscribed = False
        #: How many messages came since a subject here may listen.
        self.messages = 0

    def note_written(self, messages: int) -> None:
        """Note that something was written to all who listen, when so many messages had come."""
        self.written = messages
        for group in self.groups:
            group.written = messages

    def all_audiences(self) -> Mapping[Framing, Audience[Subscriber]]:
        """Return its audiences and those of its groups, with each subscriber once."""
        if not self.groups:
            return self.audiences
        found = [each.audiences for each in (self, *self.groups) if each.audiences]
        if len(found) == 1:
            return found[0]
        united: dict[Framing, Audience[Subscriber]] = {}
        for audiences in found:
            for framing, audience in audiences.items():
                others = united.get(framing)
                united[framing] = audience if others is None else others.united(audience)
        return united

    def all_holding(self) -> AbstractSet[Subject]:
        """Return the subjects for whom its messages are held, of its groups too."""
        if not self.groups:
            return self.holding
        return self.holding.union(*(group.holding for group in self.groups))
