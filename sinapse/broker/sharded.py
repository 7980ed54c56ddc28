"""Several Redis as one, with the channels spread over them: see :mod:`sinapse.protocol.sharding`.

Each has a broker of its own, which is as exact as with one Redis. All admit a stream, and it has a
member in the hub of each: a :class:`~sinapse.broker.bundle.Bundle`.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Generic, Protocol, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle, Member
from sinapse.broker.interface import Admission, Admitted, ExpiryTold, Opened, Resuming, Streaming
from sinapse.broker.lookup import TokenEntry
from sinapse.errors import BrokerUnavailable, CloseReason, ResetReason, Unauthorized
from sinapse.framing.partial import PartialFraming, partial_framing
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Channel, Framing, Subject
from sinapse.protocol.ids import EventID, Place
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import shard_of


class MakeBroker(Protocol):
    """Makes the broker of one Redis of several."""

    def __call__(
        self,
        url: RedisURL,
        *,
        is_home: Callable[[bytes], bool],
        emptied: Callable[[Subject], None],
    ) -> RedisBroker[Member]:
        """Return a broker: see :class:`~sinapse.broker.broker.RedisBroker`."""


class ShardedBroker(MultiService, Generic[Streaming]):
    """The Redis at `urls`, each with a broker of `make`.

    It is a :class:`~sinapse.broker.interface.Broker`. A stream opens when all are there; an open
    one does without. `admits_empty` is as for the brokers that `make` returns.
    """

    def __init__(
        self, urls: Sequence[RedisURL], make: MakeBroker, *, admits_empty: bool = False
    ) -> None:
        super().__init__()
        self._admits_empty = admits_empty
        self.parts = tuple(
            make(url, is_home=partial(self._is_home, number), emptied=self._emptied)
            for number, url in enumerate(urls)
        )
        for part in self.parts:
            part.setServiceParent(self)
        self._hubs: tuple[Hub, ...] = tuple(part.hub for part in self.parts)
        self._bundles: dict[Resuming, Bundle] = {}
        self._framings: dict[Framing, PartialFraming] = {}

    @property
    def ready(self) -> bool:
        """Whether all are connected, subscribed, reconciled and caught up."""
        return all(part.ready for part in self.parts)

    @property
    def state(self) -> str:
        """The state of all connections, in words."""
        states = [part.state for part in self.parts]
        if len(set(states)) == 1:
            return states[0]
        return "; ".join(f"{number}: {state}" for number, state in enumerate(states))

    async def when_ready(self) -> None:
        """Return when each of them has been ready."""
        await gatherResults([Deferred.fromCoroutine(part.when_ready()) for part in self.parts])

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up the channels of `token`: first where it is kept, then everywhere else."""
        admitted: dict[int, Admitted] = {}
        try:
            entry = await self._admit_everywhere(admitted, token)
        except BaseException:
            for number, part in admitted.items():
                self._hubs[number].abandon(part.joining)
            raise
        parts = [admitted[number] for number in range(len(self.parts))]
        return Admission(token, entry.subject, entry.expires, parts)

    async def _admit_everywhere(self, admitted: dict[int, Admitted], token: bytes) -> TokenEntry:
        home = self._home(token)
        entry = await self._admit(admitted, home, token, None)
        others = [number for number in range(len(self.parts)) if number != home]
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [
                Deferred.fromCoroutine(self._admit(admitted, number, token, entry))
                for number in others
            ],
            consumeErrors=True,
        )
        for is_admitted, outcome in outcomes:
            if not is_admitted:
                outcome.raiseException()
        # During the last look-up, the first connection may have been lost.
        for number, part in enumerate(self.parts):
            if not part.vouches_for(admitted[number]):
                raise BrokerUnavailable(part.state)
        return entry

    async def _admit(
        self, admitted: dict[int, Admitted], number: int, token: bytes, known: TokenEntry | None
    ) -> TokenEntry:
        admitted[number], entry = await self.parts[number].admit_here(token, known)
        return entry

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used, or has been."""
        for hub, part in zip(self._hubs, admission.parts, strict=True):
            hub.abandon(part.joining)

    def place_before_past(self, admission: Admission) -> str | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any.

        It is one of the stream in those Redis where there is some.
        """
        parts = [
            hub.place_before_past(part.joining)
            for hub, part in zip(self._hubs, admission.parts, strict=True)
        ]
        if not any(parts):
            return None
        return str(Place(part or hub.here for hub, part in zip(self._hubs, parts, strict=True)))

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes, a member of each hub."""
        parts = [(hub, part.joining) for hub, part in zip(self._hubs, admission.parts, strict=True)]
        try:
            # All of them: the token may be revoked, and what waits is to be sent first.
            expected = [hub.expected(joining) for hub, joining in parts]
            if not self._admits_empty and all(each.is_empty for each in expected):
                raise Unauthorized("no channels")
            stream = make()
            bundle = Bundle(stream, self._framing(stream.framing), self._here())
            self._bundles[stream] = bundle
            for (hub, joining), member in zip(parts, bundle.members, strict=True):
                # In this turn of the reactor nothing can have changed.
                hub.open(joining, partial(_same, member), live=live)
        finally:
            self.withdraw(admission)
        return stream

    async def expiry(self, token: bytes) -> float | None:
        """Return when `token` expires; raises as :meth:`admit` does."""
        return await self.parts[self._home(token)].expiry(token)

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Call `told` whenever the expiry of a token of open streams is read again."""
        for part in self.parts:
            part.tell_expiry_to(told)

    def _is_home(self, number: int, token: bytes) -> bool:
        return self._home(token) == number

    def _home(self, token: bytes) -> int:
        return shard_of(token, len(self.parts))

    def _framing(self, framing: Framing) -> PartialFraming:
        made = self._framings.get(framing)
        if made is None:
            made = self._framings[framing] = partial_framing(framing)
        return made

    # Open streams

    @property
    def here(self) -> str:
        """The id from which the streams go on that are live everywhere."""
        return str(self._here())

    def _here(self) -> Place:
        return Place(hub.here for hub in self._hubs)

    def resume(self, stream: Streaming, last_event_id: str) -> None:
        """Start the replay for a stream that gets nothing yet, by each part of its id.

        Where a part is unknown, the stream goes on from here; it gets one notice for all such
        parts: a reset only if it may listen to something there.
        """
        bundle = self._bundles[stream]
        place = Place.parse(last_event_id, len(self.parts))
        unknown = [
            number
            for number, part in enumerate(self.parts)
            if not part.replays.may_know(place[number])
        ]
        if unknown:
            here = self._here()
            place = Place(
                here[number] if number in unknown else part for number, part in enumerate(place)
            )
        bundle.begin_at(place)
        if unknown:
            subjects = [bundle.members[number].subject for number in unknown]
            channels = set().union(*(each.heard() for each in subjects if each is not None))
            if channels:
                self.parts[0].counters.resets += 1
                stream.send(stream.framing.reset(ResetReason.UNKNOWN_ID, channels, str(place)))
            else:
                stream.send(stream.framing.position(str(place)))
        for number, part in enumerate(self.parts):
            member = bundle.members[number]
            if number in unknown:
                part.hub.go_live(member)
            else:
                part.replays.resume(member, place[number])

    def is_live(self, stream: Streaming) -> bool:
        """Whether a stream gets messages of each Redis when they are dispatched."""
        bundle = self._bundles.get(stream)
        return bundle is not None and all(hub.is_live(member) for hub, member in self._in(bundle))

    def where(self, stream: Streaming) -> str | None:
        """Return the id from which a stream goes on; None if it is not live everywhere."""
        if not self.is_live(stream):
            return None
        bundle = self._bundles[stream]
        return _begin(bundle, [hub.where(member) for hub, member in self._in(bundle)])

    def has_written_to(self, stream: Streaming, since: int) -> bool:  # noqa: ARG002
        """Whether a message was written past a stream: never, as frames are completed for each."""
        return False

    def suspend(self, stream: Streaming) -> str | None:
        """Send a stream nothing more until it resumes from the id that is returned."""
        if not self.is_live(stream):
            return None
        bundle = self._bundles[stream]
        return _begin(bundle, [hub.suspend(member) for hub, member in self._in(bundle)])

    def leave(self, stream: Streaming) -> None:
        """Forget a stream that has ended."""
        bundle = self._bundles.pop(stream, None)
        if bundle is not None:
            for hub, member in self._in(bundle):
                hub.leave(member)

    def end(self, stream: Streaming, reason: CloseReason) -> None:
        """End a stream, after the messages that were dispatched for it."""
        bundle = self._bundles.get(stream)
        if bundle is not None:
            for hub, member in self._in(bundle):
                hub.flush()
                hub.fan_outs.finish(member)
            self.leave(stream)
            stream.close(reason)

    def _in(self, bundle: Bundle) -> list[tuple[Hub, Member]]:
        return list(zip(self._hubs, bundle.members, strict=True))

    def _emptied(self, subject: Subject) -> None:
        """End the streams of a subject if it may listen to nothing anywhere."""
        there = [hub.subjects.get(subject.key) for hub in self._hubs]
        if any(each and (each.catch_up or not each.hears_nothing) for each in there):
            return
        for member in list(subject.subscribers):
            stream = cast(Streaming, cast(Member, member).bundle.stream)
            self.end(stream, CloseReason.NO_CHANNELS)

    # Subjects and channels

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams: each stream has a member in every hub."""
        return self._hubs[0].subject_count

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that a subject here may listen to."""
        return ChainMap(*(hub.channels for hub in self._hubs))

    def streams_of(self, subject: bytes) -> list[Streaming]:
        """Return the open streams of a subject, the oldest first."""
        members = self.parts[0].streams_of(subject)
        return [cast(Streaming, member.bundle.stream) for member in members]

    def channels_of(self, subject: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
        return frozenset().union(*(hub.channels_of(subject) for hub in self._hubs))


def _begin(bundle: Bundle, parts: Iterable[EventID | None]) -> str:
    """Set the places of a stream, and return them as an id."""
    place = Place(part for part in parts if part is not None)
    bundle.begin_at(place)
    return str(place)


def _same(member: Member) -> Member:
    return member
