"""Subscribers, the subjects that they belong to, and the audiences of channels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.catchup import CatchUp, Dispatched
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message
from sinapse.protocol.only import Only


class Framing(Protocol):
    """How messages become bytes for one kind of stream."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return one frame with `messages` of `channel`."""

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return a frame that says that messages of `channels` are missing."""

    def position(self, identifier: str) -> bytes:
        """Return a frame that says where to resume from, and nothing else."""


def encode(framing: Framing, entry: Dispatched, epoch: str, place: EventID | None = None) -> bytes:
    """Return the frame of a message, or a reset in place of one that is too long.

    With `place` a stream goes on from there after it, in place of the message's own id.
    """
    message = entry.message
    if message is None:
        identifier = str(place or EventID(epoch, entry.counter or 0))
        return framing.reset(ResetReason.NOT_RETAINED, [entry.channel], identifier)
    if place is not None:
        message = message._replace(id=str(place))
    return framing.encode(entry.channel, [message])


def encode_for(
    subscriber: "Subscriber", entry: Dispatched, epoch: str, place: EventID | None = None
) -> bytes:
    """Return the frame of a message for a stream: only its id if the stream is its sender's."""
    message = entry.message
    if message is None or message.but is None or message.but != subscriber.name:
        return encode(subscriber.framing, entry, epoch, place)
    identifier = message.id if place is None else str(place)
    return (
        b"" if message.id is None or identifier is None else subscriber.framing.position(identifier)
    )


class Subscriber(Protocol):
    """An open stream, as the hub sees it.

    Its methods must not call the hub before they return: the hub is in a loop.
    """

    token: bytes
    name: str | None
    """What its client calls it."""
    subject: "Subject | None"

    @property
    def framing(self) -> Framing:
        """The framing of its messages."""

    def send(self, frame: bytes) -> None:
        """Write `frame`, now or as soon as the stream has caught up."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""


class Subject:
    """A user with open streams on this node, and the channels that it may listen to now.

    Streams of a token that is for a part of these are apart, as if a subject had no more than that.
    """

    __slots__ = ("catch_up", "channels", "id", "key", "only", "replaying", "since", "subscribers")

    def __init__(self, identifier: bytes, only: Only | None = None) -> None:
        self.id = identifier
        self.only = only
        #: Its place in the table.
        self.key: bytes = subject_key(identifier, only)
        self.channels: set[bytes] = set()
        #: The oldest first.
        self.subscribers: dict[Subscriber, None] = {}
        #: The subscribers that get nothing yet. Hardly ever any: all subjects share one empty
        #: frozenset, where a set of its own would take 216 bytes for each.
        self.replaying: frozenset[Subscriber] = frozenset()
        self.catch_up: CatchUp[Subscriber] | None = None
        #: While earlier messages are read for it: the counters at which channels were granted, as
        #: far as they are known. No message up to there is for this subject.
        self.since: dict[bytes, int] | None = None

    def admits(self, channel: bytes) -> bool:
        """Whether a channel of the list is for its streams."""
        return self.only is None or self.only.allows(channel)

    def may_have(self, entry: Dispatched, pasts: Mapping[bytes, int]) -> bool:
        """Whether a message that was read is for this subject: later than the grant.

        Of the channels in `pasts` earlier ones are too, if the grant is still that of that counter.
        """
        if entry.channel not in self.channels:
            return False
        since = 0 if self.since is None else self.since.get(entry.channel, 0)
        return entry.counter is None or entry.counter > since or pasts.get(entry.channel) == since

    def listening(self) -> list[Subscriber]:
        """Return the subscribers that are in the audiences of its channels."""
        held = self.catch_up.members if self.catch_up is not None else ()
        return [
            each for each in self.subscribers if each not in self.replaying and each not in held
        ]


def subject_key(identifier: bytes, only: Only | None) -> bytes:
    """Return the place of a subject in the table: its id, if its streams hear all of its list."""
    return identifier if only is None else b"\n".join((identifier, only.text))


class Channel:
    """A channel that a subject here may listen to."""

    __slots__ = ("audiences", "holders", "holding", "is_subscribed", "messages", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        #: How many subjects and joins need it; without any it is dropped.
        self.holders = 0
        #: Open subscribers by framing, so that the loop over them has no branch.
        self.audiences: dict[Framing, set[Subscriber]] = {}
        #: Subjects for whom its messages are held.
        self.holding: set[Subject] = set()
        #: Redis has confirmed the subscription: from then on no message is missed.
        self.is_subscribed = False
        #: How many messages came since a subject here may listen.
        self.messages = 0

    def listen(self, subscriber: Subscriber) -> None:
        """Put an open subscriber into the audience of its framing."""
        audience = self.audiences.get(subscriber.framing)
        if audience is None:
            audience = self.audiences[subscriber.framing] = set()
        audience.add(subscriber)

    def stop_listening(self, subscriber: Subscriber) -> None:
        """Remove a subscriber from its audience, if it is there."""
        audience = self.audiences.get(subscriber.framing)
        if audience is not None:
            audience.discard(subscriber)
            if not audience:
                del self.audiences[subscriber.framing]
