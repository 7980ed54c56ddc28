"""Who listens: subscribers, the subjects that they belong to, and the audiences of channels."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.catchup import CatchUp, Dispatched
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message


class Framing(Protocol):
    """How messages become bytes for one kind of stream."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return one frame with `messages` of `channel`."""

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return a frame that says that messages of `channels` are missing."""

    def position(self, identifier: str) -> bytes:
        """Return a frame that says where to resume from, and nothing else."""


def encode(framing: Framing, entry: Dispatched, epoch: str) -> bytes:
    """Return the frame of a message, or what stands for one that is too long."""
    if entry.message is not None:
        return framing.encode(entry.channel, [entry.message])
    identifier = str(EventID(epoch, entry.counter or 0))
    return framing.reset(ResetReason.NOT_RETAINED, [entry.channel], identifier)


class Subscriber(Protocol):
    """An open stream, as the hub sees it.

    Neither method may call back into the hub before it returns: the hub is in a loop.
    """

    token: bytes
    subject: "Subject | None"

    @property
    def framing(self) -> Framing:
        """How its bytes are made."""

    def send(self, frame: bytes) -> None:
        """Take `frame`, now or as soon as the stream has caught up."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""


class Subject:
    """A user with open streams on this node, and the channels that it may listen to now."""

    __slots__ = ("catch_up", "channels", "id", "replaying", "since", "subscribers")

    def __init__(self, identifier: bytes) -> None:
        self.id = identifier
        self.channels: set[bytes] = set()
        #: The oldest first.
        self.subscribers: dict[Subscriber, None] = {}
        #: Those of the subscribers that get nothing yet. Hardly ever any: the empty frozenset is
        #: one for all subjects, where a set of their own would take 216 bytes of each.
        self.replaying: frozenset[Subscriber] = frozenset()
        self.catch_up: CatchUp[Subscriber] | None = None
        #: While something of before is read for it: the counters at which channels were granted,
        #: as far as they are known. Nothing up to there is for this subject.
        self.since: dict[bytes, int] | None = None

    def may_have(self, entry: Dispatched) -> bool:
        """Whether a message that was read is for this subject: its channel was granted before."""
        if entry.channel not in self.channels:
            return False
        since = 0 if self.since is None else self.since.get(entry.channel, 0)
        return entry.counter is None or entry.counter > since

    def listening(self) -> list[Subscriber]:
        """Return the subscribers that are in the audiences of its channels."""
        held = self.catch_up.members if self.catch_up is not None else ()
        return [
            each for each in self.subscribers if each not in self.replaying and each not in held
        ]


class Channel:
    """A channel that somebody here may listen to."""

    __slots__ = ("audiences", "holders", "holding", "is_subscribed", "messages", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        #: Subjects and joins that need it; at none it is dropped.
        self.holders = 0
        #: Open subscribers by framing, so that the loop over them has no branch.
        self.audiences: dict[Framing, set[Subscriber]] = {}
        #: Subjects for whom its messages are held.
        self.holding: set[Subject] = set()
        #: Redis has confirmed it: nothing that is published to it is missed.
        self.is_subscribed = False
        #: How many messages came, since somebody here may listen.
        self.messages = 0

    def listen(self, subscriber: Subscriber) -> None:
        """Put an open subscriber into the audience of its framing."""
        audience = self.audiences.get(subscriber.framing)
        if audience is None:
            audience = self.audiences[subscriber.framing] = set()
        audience.add(subscriber)

    def stop_listening(self, subscriber: Subscriber) -> None:
        """Take a subscriber out, if it is in."""
        audience = self.audiences.get(subscriber.framing)
        if audience is not None:
            audience.discard(subscriber)
            if not audience:
                del self.audiences[subscriber.framing]
