"""The open streams of a node with several Redis: each has a member in the hub of every one."""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, cast

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle, Member
from sinapse.broker.degraded import Degraded
from sinapse.broker.interface import Resuming, Streaming
from sinapse.broker.late import LateStreams
from sinapse.errors import CloseReason, ResetReason
from sinapse.framing.partial import PartialFraming, partial_framing
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Channel, Framing, Subject
from sinapse.protocol.ids import UNKNOWN, EventID
from sinapse.protocol.places import join, parse, tag
from sinapse.protocol.sharding import Shards


class Bundles(Generic[Streaming]):
    """Those of `parts`, which are spread over as `shards` says.

    With `admits_empty`, streams may be open of subjects that may listen to nothing.
    """

    def __init__(
        self,
        parts: Sequence[RedisBroker[Member]],
        shards: Shards,
        *,
        admits_empty: bool,
        reactor: Any,
    ) -> None:
        self.parts = parts
        self._shards = shards
        self._admits_empty = admits_empty
        self._hubs: Sequence[Hub] = [part.hub for part in parts]
        self._bundles: dict[Resuming, Bundle] = {}
        self._tags = [tag(shards, number) for number in range(len(parts))]
        self._framings: dict[Framing, list[PartialFraming]] = {}
        #: The streams that wait for each Redis.
        self._late = [
            LateStreams(part, number, self._joined, self._end_bundle)
            for number, part in enumerate(parts)
        ]
        self._degraded = Degraded(shards.names, parts, self._late, self._bundles, reactor)

    def _framing(self, framing: Framing) -> list[PartialFraming]:
        made = self._framings.get(framing)
        if made is None:
            # Without names, all have the same.
            by_tag = {each: partial_framing(framing, each) for each in self._tags}
            made = self._framings[framing] = [by_tag[each] for each in self._tags]
        return made

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
