"""The tables of several Redis as one: a stream that opens is a member of each."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from sinapse.broker.replay import Resuming
from sinapse.errors import CloseReason, Unauthorized
from sinapse.framing.partial import PartialFraming, partial_framing
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Joining
from sinapse.hub.subscribers import Channel, Framing, Subject
from sinapse.protocol.ids import EventID, Place

Whole = TypeVar("Whole", bound=Resuming)


class ShardedJoining(NamedTuple):
    """A stream on its way into every table."""

    token: bytes
    parts: tuple[Joining, ...]


class Bundle:
    """An open stream, and the place that it has come to in each Redis."""

    __slots__ = ("_ids", "_waiting", "members", "whole")

    def __init__(self, whole: Resuming, framing: PartialFraming, place: Sequence[EventID]) -> None:
        self.whole = whole
        self._ids: list[bytes] = []
        self.begin_at(place)
        self._waiting: list[Deferred[None]] = []
        self.members = [Member(self, shard, framing) for shard in range(len(place))]

    def begin_at(self, place: Sequence[EventID]) -> None:
        """Take note of where the stream is, in each Redis."""
        self._ids = [str(each).encode() for each in place]

    def send(self, partial: bytes, framing: PartialFraming, shard: int) -> None:
        """Complete what comes from one Redis, and send it."""
        self.whole.send(framing.complete(partial, self._ids, shard))

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self.whole.drained().addCallbacks(self._go_on, self._give_up)
        return waiting

    def _go_on(self, _: None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _give_up(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.cancel()


class Member:
    """What a stream is in the table of one Redis."""

    __slots__ = ("bundle", "framing", "shard", "subject")

    def __init__(self, bundle: Bundle, shard: int, framing: PartialFraming) -> None:
        self.bundle = bundle
        self.shard = shard
        self.framing = framing
        self.subject: Subject | None = None

    @property
    def token(self) -> bytes:
        """That of the stream."""
        return self.bundle.whole.token

    @token.setter
    def token(self, token: bytes) -> None:
        self.bundle.whole.token = token

    def send(self, partial: bytes) -> None:
        """Complete `partial`, and send it."""
        self.bundle.send(partial, self.framing, self.shard)

    def close(self, reason: CloseReason) -> None:
        """End the stream, whose other memberships end with it."""
        self.bundle.whole.close(reason)

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        return self.bundle.drained()


class ShardedHub:
    """The tables, each of which leaves it to this one to end whose list is empty."""

    def __init__(self, hubs: Sequence[Hub]) -> None:
        self.hubs = tuple(hubs)
        self._bundles: dict[Resuming, Bundle] = {}
        self._framings: dict[Framing, PartialFraming] = {}
        for hub in self.hubs:
            hub.emptied = self._emptied

    @property
    def subjects(self) -> Mapping[bytes, Subject]:
        """Subjects with open streams, each as it is in the first Redis."""
        return ChainMap(*(hub.subjects for hub in self.hubs))

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that somebody here may listen to."""
        return ChainMap(*(hub.channels for hub in self.hubs))

    def channels_of(self, subject_id: bytes) -> AbstractSet[bytes]:
        """Return what a subject with open streams may listen to."""
        return frozenset().union(*(hub.channels_of(subject_id) for hub in self.hubs))

    def is_live(self, whole: Resuming) -> bool:
        """Whether a stream gets what is dispatched by each."""
        bundle = self._bundles.get(whole)
        return bundle is not None and all(
            hub.is_live(member) for hub, member in zip(self.hubs, bundle.members, strict=True)
        )

    @property
    def here(self) -> Place:
        """Where who is live everywhere goes on."""
        return Place(hub.here for hub in self.hubs)

    def where(self, whole: Resuming) -> Place | None:
        """Return where a stream goes on; None if it is not live everywhere."""
        if not self.is_live(whole):
            return None
        return self._at(whole, [hub.where(member) for hub, member in self._parts(whole)])

    def suspend(self, whole: Resuming) -> Place | None:
        """Give a stream nothing more until it resumes from the place that is returned."""
        if not self.is_live(whole):
            return None
        return self._at(whole, [hub.suspend(member) for hub, member in self._parts(whole)])

    def count_reset(self) -> None:
        """Count a reset that is told for several Redis at once."""
        self.hubs[0].counters.resets += 1

    def _at(self, whole: Resuming, parts: Iterable[EventID | None]) -> Place:
        place = Place(part for part in parts if part is not None)
        self._bundles[whole].begin_at(place)
        return place

    def _parts(self, whole: Resuming) -> list[tuple[Hub, Member]]:
        return list(zip(self.hubs, self._bundles[whole].members, strict=True))

    def bundle(self, whole: Resuming) -> Bundle:
        """Return what an open stream consists of; raises ``KeyError`` if it has ended."""
        return self._bundles[whole]

    def open(
        self, joining: ShardedJoining, make: Callable[[], Whole], *, live: bool = True
    ) -> Whole:
        """End the joins with an open stream: see :meth:`sinapse.hub.hub.Hub.open`."""
        parts = list(zip(self.hubs, joining.parts, strict=True))
        try:
            # Each is asked: the token may have been revoked, and what waits is to be sent first.
            expected = [hub.expected(part) for hub, part in parts]
            if not any(expected):
                raise Unauthorized("no channels")
            whole = make()
            bundle = Bundle(whole, self._framing(whole.framing), self.here)
            self._bundles[whole] = bundle
            for (hub, part), member in zip(parts, bundle.members, strict=True):
                # In this turn of the reactor nothing can have changed.
                hub.open(part, partial(_same, member), live=live)
        finally:
            self.abandon(joining)
        return whole

    def streams_of(self, subject: bytes) -> list[Resuming]:
        """Return the open streams of a subject, the oldest first."""
        members = self.hubs[0].streams_of(subject)
        return [member.bundle.whole for member in members if isinstance(member, Member)]

    def abandon(self, joining: ShardedJoining) -> None:
        """End joins that did not become a stream, or have become one."""
        for hub, part in zip(self.hubs, joining.parts, strict=True):
            hub.abandon(part)

    def leave(self, whole: Resuming) -> None:
        """Forget a stream that has ended."""
        bundle = self._bundles.pop(whole, None)
        if bundle is not None:
            for hub, member in zip(self.hubs, bundle.members, strict=True):
                hub.leave(member)

    def end(self, whole: Resuming, reason: CloseReason) -> None:
        """End a stream, after what was dispatched for it."""
        bundle = self._bundles.get(whole)
        if bundle is not None:
            for hub, member in zip(self.hubs, bundle.members, strict=True):
                hub.flush()
                hub.fan_outs.finish(member)
            self.leave(whole)
            whole.close(reason)

    def _framing(self, whole: Framing) -> PartialFraming:
        framing = self._framings.get(whole)
        if framing is None:
            framing = self._framings[whole] = partial_framing(whole)
        return framing

    def _emptied(self, subject: Subject) -> None:
        there = [hub.subjects.get(subject.id) for hub in self.hubs]
        if any(each and (each.channels or each.catch_up) for each in there):
            return
        for subscriber in list(subject.subscribers):
            if isinstance(subscriber, Member):
                self.end(subscriber.bundle.whole, CloseReason.NO_CHANNELS)


def _same(member: Member) -> Member:
    return member
