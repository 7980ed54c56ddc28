"""Several Redis as one, with the channels spread over them: see :mod:`sinapse.protocol.sharding`.

Each has a broker of its own, which is as exact as with one Redis. All that are there admit a
stream, and it has a member in the hub of each: a :class:`~sinapse.broker.bundle.Bundle`. For those
that are away it is late: see :mod:`sinapse.broker.late`.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Generic, Protocol, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle, Member
from sinapse.broker.degraded import Degraded
from sinapse.broker.interface import (
    Admission,
    Admitted,
    ExpiryTold,
    Holder,
    Opened,
    Resuming,
    Streaming,
)
from sinapse.broker.late import LateStreams, same
from sinapse.broker.lookup import TokenEntry
from sinapse.errors import BrokerUnavailable, CloseReason, ResetReason, Unauthorized
from sinapse.framing.partial import PartialFraming, partial_framing
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Channel, Framing, Subject
from sinapse.protocol.ids import UNKNOWN, EventID, Past
from sinapse.protocol.places import join, parse, tag
from sinapse.protocol.redisurl import RedisURL, shards_of


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

    It is a :class:`~sinapse.broker.interface.Broker`. A stream opens when the one is there that
    keeps its token, and gets what the others have when they are back. It is ready while `least` of
    them are there, as a part of 1. `admits_empty` is as for the brokers that `make` returns.
    """

    def __init__(
        self,
        urls: Sequence[RedisURL],
        make: MakeBroker,
        *,
        least: float,
        admits_empty: bool = False,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._admits_empty = admits_empty
        self._least = max(1, math.ceil(least * len(urls)))
        self.parts = tuple(
            make(url, is_home=partial(self._is_home, number), emptied=self._emptied)
            for number, url in enumerate(urls)
        )
        for part in self.parts:
            part.setServiceParent(self)
        self._hubs: tuple[Hub, ...] = tuple(part.hub for part in self.parts)
        self._bundles: dict[Resuming, Bundle] = {}
        self._shards = shards_of(urls)
        self._tags = [tag(self._shards, number) for number in range(len(urls))]
        self._framings: dict[Framing, list[PartialFraming]] = {}
        #: The streams that wait for each Redis.
        self._late = tuple(
            LateStreams(part, number, self._joined, self._end_bundle)
            for number, part in enumerate(self.parts)
        )
        names = self._shards.names
        self._degraded = Degraded(names, self.parts, self._late, self._bundles, reactor)

    def startService(self) -> None:  # noqa: N802
        """Connect to each of them."""
        self._degraded.start()
        super().startService()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Disconnect from each of them."""
        self._degraded.stop()
        stopped: Deferred[None] = super().stopService()
        return stopped

    @property
    def ready(self) -> bool:
        """Whether enough are connected, subscribed, reconciled and caught up."""
        return sum(part.ready for part in self.parts) >= self._least

    @property
    def parts_ready(self) -> Mapping[str, bool]:
        """By the name of each Redis, whether it is."""
        return {name: part.ready for name, part in zip(self._shards.names, self.parts, strict=True)}

    @property
    def state(self) -> str:
        """The state of all connections, in words."""
        states = [part.state for part in self.parts]
        if len(set(states)) == 1:
            return states[0]
        return "; ".join(
            f"{number}: {state}" for number, state in zip(self._shards.names, states, strict=True)
        )

    async def when_ready(self) -> None:
        """Return when each of them has been ready."""
        for part in self.parts:
            await part.when_ready()

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up the channels of `token`: first where it is kept, then where it can be.

        Raises :class:`~sinapse.errors.BrokerUnavailable` if the Redis that keeps it is away.
        """
        admitted: dict[int, Admitted] = {}
        try:
            entry = await self._admit_everywhere(admitted, token)
        except BaseException:
            for number, part in admitted.items():
                self._hubs[number].abandon(part.joining)
            raise
        return Admission(token, Holder(entry.subject, entry.only), entry.expires, admitted)

    async def _admit_everywhere(self, admitted: dict[int, Admitted], token: bytes) -> TokenEntry:
        home = self._home(token)
        entry = await self._admit(admitted, home, token, None)
        holder = Holder(entry.subject, entry.only)
        others = [number for number in range(len(self.parts)) if number != home]
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [
                Deferred.fromCoroutine(self._admit(admitted, number, token, holder))
                for number in others
            ],
            consumeErrors=True,
        )
        for is_admitted, outcome in outcomes:
            if not is_admitted and not outcome.check(BrokerUnavailable):
                outcome.raiseException()
        # During the last look-up, the first connection may have been lost.
        for number in list(admitted):
            if self.parts[number].vouches_for(admitted[number]):
                continue
            if number == home:
                raise BrokerUnavailable(self.parts[home].state)
            self._hubs[number].abandon(admitted.pop(number).joining)
        return entry

    async def _admit(
        self, admitted: dict[int, Admitted], number: int, token: bytes, known: Holder | None
    ) -> TokenEntry:
        admitted[number], entry = await self.parts[number].admit_here(token, known)
        return entry

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used, or has been."""
        for number, part in admission.parts.items():
            self._hubs[number].abandon(part.joining)

    def place_before_past(self, admission: Admission) -> str | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any.

        It is one of the stream in those Redis where there is some, or may be: of those that are
        away it gets what they have published since the node lost them.
        """
        parts = {
            number: self._hubs[number].place_before_past(part.joining)
            for number, part in admission.parts.items()
        }
        if len(parts) == len(self.parts) and not any(parts.values()):
            return None
        here = self._here()
        for number in self._absent(admission):
            is_known = here[number] != UNKNOWN
            parts[number] = here[number]._replace(past=Past(0, of_all=True)) if is_known else None
        return join(self._shards, (parts[number] or place for number, place in enumerate(here)))

    def _absent(self, admission: Admission) -> list[int]:
        """Return the numbers of the Redis that have not admitted a stream."""
        return [number for number in range(len(self.parts)) if number not in admission.parts]

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes, a member of each hub that has admitted it."""
        joinings = {number: part.joining for number, part in admission.parts.items()}
        absent = self._absent(admission)
        try:
            # All of them: the token may be revoked, and what waits is to be sent first.
            expected = [self._hubs[number].expected(each) for number, each in joinings.items()]
            is_empty = not absent and all(each.is_empty for each in expected)
            if is_empty and not self._admits_empty:
                raise Unauthorized("no channels")
            stream = make()
            bundle = Bundle(stream, self._framing(stream.framing), self._tagged(self._here()))
            self._bundles[stream] = bundle
            for number, joining in joinings.items():
                # In this turn of the reactor nothing can have changed.
                self._hubs[number].open(joining, partial(same, bundle.members[number]), live=live)
            for number in absent:
                self._late[number].add(bundle, admission.holder)
            self._degraded.opened(bundle)
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
        return self._shards.home(token)

    def _framing(self, framing: Framing) -> list[PartialFraming]:
        made = self._framings.get(framing)
        if made is None:
            # Without names, all have the same.
            by_tag = {each: partial_framing(framing, each) for each in self._tags}
            made = self._framings[framing] = [by_tag[each] for each in self._tags]
        return made

    # Open streams

    @property
    def here(self) -> str:
        """The id from which the streams go on that are live everywhere."""
        return join(self._shards, self._here())

    def _here(self) -> list[EventID]:
        # A Redis that has not been there yet has no epoch.
        return [hub.here if hub.epoch else UNKNOWN for hub in self._hubs]

    def _tagged(self, place: Iterable[EventID]) -> list[bytes]:
        """Return the parts of an id."""
        return [f"{its}{part}".encode() for its, part in zip(self._tags, place, strict=True)]

    def resume(self, stream: Streaming, last_event_id: str) -> None:
        """Start the replay for a stream that gets nothing yet, by each part of its id.

        Where a part is unknown, the stream goes on from here; it gets one notice for all such
        parts, and for those of Redis that are gone: a reset only if it may listen to something
        there.
        """
        bundle = self._bundles[stream]
        found = parse(last_event_id, self._shards)
        late = [bundle in each for each in self._late]
        # What is there of a Redis that is gone is not known yet where the stream is late.
        parts = [
            UNKNOWN if is_late and found.gone else part
            for part, is_late in zip(found.parts, late, strict=True)
        ]
        place = [
            part if is_late or each.replays.may_know(part) else None
            for each, part, is_late in zip(self.parts, parts, late, strict=True)
        ]
        whole = [part or here for part, here in zip(place, self._here(), strict=True)]
        bundle.begin_at(self._tagged(whole))
        if found.gone or None in place:
            channels = {
                channel
                for member, part in zip(bundle.members, place, strict=True)
                if member.subject is not None
                for channel in member.subject.heard()
                if part is None or found.has_lost(channel)
            }
            where = join(self._shards, whole)
            if channels:
                self.parts[0].counters.resets += 1
                stream.send(stream.framing.reset(ResetReason.UNKNOWN_ID, channels, where))
            else:
                stream.send(stream.framing.position(where))
        for number, part in enumerate(place):
            member = bundle.members[number]
            if part is None:
                self._hubs[number].go_live(member)
            elif late[number]:
                self._late[number].resume(bundle, part)
            else:
                self.parts[number].replays.resume(member, part)

    def is_live(self, stream: Streaming) -> bool:
        """Whether a stream gets messages of each Redis when they are dispatched."""
        bundle = self._bundles.get(stream)
        return bundle is not None and all(hub.is_live(member) for hub, member in self._in(bundle))

    def where(self, stream: Streaming) -> str | None:
        """Return the id from which a stream goes on; None if it is not live everywhere."""
        if not self.is_live(stream):
            return None
        bundle = self._bundles[stream]
        return self._begin(bundle, [hub.where(member) for hub, member in self._in(bundle)])

    def has_written_to(self, stream: Streaming, since: int) -> bool:  # noqa: ARG002
        """Whether a message was written past a stream: never, as frames are completed for each."""
        return False

    def suspend(self, stream: Streaming) -> str | None:
        """Send a stream nothing more until it resumes from the id that is returned."""
        if not self.is_live(stream):
            return None
        bundle = self._bundles[stream]
        return self._begin(bundle, [hub.suspend(member) for hub, member in self._in(bundle)])

    def _begin(self, bundle: Bundle, parts: Iterable[EventID | None]) -> str:
        """Set the places of a stream, and return them as an id."""
        place = [part for part in parts if part is not None]
        bundle.begin_at(self._tagged(place))
        return join(self._shards, place)

    def leave(self, stream: Streaming) -> None:
        """Forget a stream that has ended."""
        bundle = self._bundles.pop(stream, None)
        if bundle is not None:
            for late in self._late:
                late.discard(bundle)
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

    def _end_bundle(self, bundle: Bundle, reason: CloseReason) -> None:
        self.end(cast(Streaming, bundle.stream), reason)

    def _joined(self, bundle: Bundle) -> None:
        """Note that a stream that was late has joined a hub."""
        self._degraded.tell(bundle)
        for member in bundle.members:
            subject = member.subject
            if subject is not None and subject.catch_up is None and subject.hears_nothing:
                self._emptied(subject)

    def _in(self, bundle: Bundle) -> list[tuple[Hub, Member]]:
        return list(zip(self._hubs, bundle.members, strict=True))

    def _emptied(self, subject: Subject) -> None:
        """End the streams of a subject if it may listen to nothing anywhere.

        One that is late in some Redis may have something there. While one is away, a list may have
        changed there: it asks again when it is back.
        """
        if self._admits_empty or not all(part.ready for part in self.parts):
            return
        there = [hub.subjects.get(subject.key) for hub in self._hubs]
        if any(each and (each.catch_up or not each.hears_nothing) for each in there):
            return
        for member in list(subject.subscribers):
            bundle = cast(Member, member).bundle
            if not any(bundle in late for late in self._late):
                self._end_bundle(bundle, CloseReason.NO_CHANNELS)

    # Subjects and channels

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams."""
        if not any(self._late):
            return self._hubs[0].subject_count  # Each stream has a member in every hub.
        ids = (subject.id for hub in self._hubs for subject in hub.subjects.values())
        return len(set(ids))

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that a subject here may listen to."""
        return ChainMap(*(hub.channels for hub in self._hubs))

    def streams_of(self, subject: bytes) -> list[Streaming]:
        """Return the open streams of a subject, the oldest first."""
        members = (member for part in self.parts for member in part.streams_of(subject))
        return list(dict.fromkeys(cast(Streaming, member.bundle.stream) for member in members))

    def channels_of(self, subject: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
        return frozenset().union(*(hub.channels_of(subject) for hub in self._hubs))
