"""The table of a node: subjects, their channels, and who of their streams listens to what.

It is changed by :class:`~sinapse.hub.hub.Hub`, which knows what has happened. A stream listens, is
in a replay, or is held: then its messages are kept until others have been read, which come first.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached, ResetReason, Unauthorized
from sinapse.hub.catchup import CatchUp
from sinapse.hub.dispatch import Dispatcher
from sinapse.hub.subscribers import Channel, Subject, Subscriber, encode_for, subject_key
from sinapse.protocol.ids import EventID
from sinapse.protocol.only import Only


class HubOwner(Protocol):
    """The owner of a hub, which does for it what needs a connection or a clock."""

    def interest_changed(self, channel: bytes) -> None:
        """Note that a channel is needed from now on, or no longer."""

    def catch_up_needed(self, subject: Subject) -> None:
        """Read the messages that a subject has missed; then call :meth:`Table.caught_up`."""

    def past_needed(self, subscriber: Subscriber, place: EventID) -> None:
        """Resume a suspended stream from `place`: it was granted a channel that has a past."""

    def emptied(self, subject: Subject) -> None:
        """Note that a subject with open streams has no channels here any more."""

    def too_many_channels(self, subject: bytes, count: int) -> None:
        """Note that a subject has more channels than it may, and how many."""

    def turn_needed(self) -> None:
        """Call ``fan_outs.go_on()`` in a later turn of the reactor."""


class Table(Dispatcher):
    """The table, kept by `owner`.

    `max_channels` is how many a subject may have, 0 for any number. With `admits_empty` a stream
    without channels here may open: it may have some in other Redis.
    """

    def __init__(
        self,
        counters: Counters,
        owner: HubOwner,
        *,
        max_channels: int = 0,
        admits_empty: bool = False,
    ) -> None:
        super().__init__(counters, owner.turn_needed)
        #: Subjects by their keys.
        self.subjects: dict[bytes, Subject] = {}
        #: The keys of those whose tokens are for a part of the list, by the ids.
        self._narrow: dict[bytes, set[bytes]] = {}
        #: Whether Redis is connected. While it is not, no catch-up is possible.
        self.is_connected = False
        self._owner = owner
        self._max_channels = max_channels
        self._admits_empty = admits_empty
        #: Grants by their counters, of channels whose later messages are still to be read.
        self._postponed: list[tuple[int, bytes, bytes]] = []

    # Queries

    def subjects_of(self, identifier: bytes) -> Sequence[Subject]:
        """Return what the table has of the subject of an id: several, if it has narrow tokens."""
        subject = self.subjects.get(identifier)
        whole = () if subject is None else (subject,)
        if identifier not in self._narrow:
            return whole
        return (*whole, *(self.subjects[key] for key in self._narrow[identifier]))

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams, each once."""
        again = sum(
            len(keys) - (identifier not in self.subjects)
            for identifier, keys in self._narrow.items()
        )
        return len(self.subjects) - again

    def streams_of(self, identifier: bytes) -> list[Subscriber]:
        """Return the open subscribers of a subject; of those with equal rights the oldest first."""
        return [each for subject in self.subjects_of(identifier) for each in subject.subscribers]

    def channels_of(self, identifier: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
        return frozenset().union(*(each.channels for each in self.subjects_of(identifier)))

    def is_live(self, subscriber: Subscriber) -> bool:
        """Whether a subscriber gets messages when they are dispatched: no replay, not held."""
        subject = subscriber.subject
        if subject is None or subscriber in subject.replaying:
            return False
        return subject.catch_up is None or subscriber not in subject.catch_up.members

    def listeners(self) -> set[bytes]:
        """Return the keys of the subjects that may listen to something."""
        return {subject.key for subject in self.subjects.values() if subject.channels}

    # Streams

    def go_live(self, subscriber: Subscriber) -> None:
        """Let a subscriber get messages from now on: its replay is complete."""
        subject = subscriber.subject
        if subject is not None:
            self.flush()
            since = subject.since or {}
            self._end_replay(subject, subscriber)
            self._listen(subject, subscriber)
            for name, at in since.items():
                # Granted while nothing was read for it: what has come since then was missed.
                if self.is_connected and at and not self.channels[name].is_subscribed:
                    self._begin_catch_up(subject, name, at)

    def where(self, subscriber: Subscriber) -> EventID | None:
        """Return the id from which a stream can resume now; None if it is not live."""
        if not self.is_live(subscriber):
            return None
        self.flush()
        self.fan_outs.finish(subscriber)
        return self.here

    def suspend(self, subscriber: Subscriber) -> EventID | None:
        """Send a stream nothing more until it resumes from the id that is returned.

        It is then in the state of a replay. Returns None, and changes nothing, if it is not live.
        """
        place = self.where(subscriber)
        subject = subscriber.subject
        if place is not None and subject is not None:
            self._stop_listening(subject.channels, subscriber)
            subject.replaying |= {subscriber}
            subject.since = subject.since or {}
        return place

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose stream has ended."""
        subject = subscriber.subject
        if subject is None:
            return
        subscriber.subject = None
        self._forget_name(subscriber)
        self.fan_outs.forget(subscriber)
        subject.subscribers.pop(subscriber, None)
        self._end_replay(subject, subscriber)
        if subject.catch_up is not None:
            subject.catch_up.members.pop(subscriber, None)
        self._stop_listening(subject.channels, subscriber)
        if not subject.subscribers:
            self._forget(subject)
            self._end_catch_up(subject)
            for name in subject.channels:
                self._release(name)

    def end(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """End a stream, after the messages that were dispatched for it."""
        self.flush()
        self.fan_outs.finish(subscriber)
        self.leave(subscriber)
        subscriber.close(reason)

    def end_all(self, subject: Subject, reason: CloseReason) -> None:
        """End all streams of a subject."""
        for subscriber in list(subject.subscribers):
            self.end(subscriber, reason)

    # Lists

    def _settle(self, subject: Subject, expected: Mapping[bytes, int]) -> None:
        for name in expected.keys() - subject.channels:
            self._grant(subject, name, None)
            if subject.since is not None:
                subject.since[name] = expected[name]
        for name in subject.channels - expected.keys():
            self._withdraw(subject, name, None)

    def _grant(self, subject: Subject, name: bytes, after: int | None) -> None:
        channel = self._hold(name)
        subject.channels.add(name)
        if subject.catch_up is not None:
            subject.catch_up.granted[name] = self.position if after is None else after
        if subject.since is not None:
            subject.since[name] = after or 0
        is_missed = self.is_connected and after is not None and not channel.is_subscribed
        if is_missed and (subject.catch_up is not None or subject.listening()):
            self._begin_catch_up(subject, name, after or 0)
            return
        self._listen_from(subject, name, after or 0)

    def _listen_from(self, subject: Subject, name: bytes, at: int) -> None:
        """Let a subject listen to a channel from the counter of its grant on.

        That may be later, in a time without Redis: the messages after our position are still to be
        read.
        """
        channel = self.channels[name]
        if self._is_ahead(at):
            self._stop_listening([name], *subject.subscribers)
            channel.holding.discard(subject)
            heapq.heappush(self._postponed, (at, subject.key, name))
            return
        for subscriber in subject.listening():
            channel.listen(subscriber)
        if subject.catch_up is not None:
            channel.holding.add(subject)

    def _grant_with_past(self, subject: Subject, name: bytes, at: int) -> None:
        if self.is_connected:
            self.reached(at - 1)  # All that came before; no message has the counter itself.
        suspended = self._suspend_all(subject)
        self._grant(subject, name, at)
        self._resume_all(suspended)

    def _withdraw(self, subject: Subject, name: bytes, at: int | None) -> None:
        channel = self.channels[name]
        self._stop_listening([name], *subject.subscribers)
        channel.holding.discard(subject)
        if subject.catch_up is not None:
            # Earlier withdrawals may not have been heard.
            subject.catch_up.close_gap(name, at if self.is_connected else None)
        if subject.since is not None:
            subject.since.pop(name, None)
        subject.channels.remove(name)
        self._release(name)

    def _end_if_empty(self, subject: Subject) -> None:
        # Held streams first get the messages that they are held for.
        if not subject.channels and subject.catch_up is None and self.is_connected:
            self._owner.emptied(subject)

    def _require(self, channels: Collection[bytes]) -> None:
        if not channels and not self._admits_empty:
            raise Unauthorized("no channels")

    def _check_number(self, subject: bytes, channels: Collection[bytes]) -> None:
        """Raise :class:`~sinapse.errors.LimitReached` if a subject has too many channels.

        A delivery of only some of them would lose messages silently.
        """
        if 0 < self._max_channels < len(channels):
            self._owner.too_many_channels(subject, len(channels))
            raise LimitReached(CloseReason.TOO_MANY_CHANNELS.text, 503)

    def _end_if_too_many(self, subject: Subject) -> None:
        if not self.is_connected:
            return
        try:
            self._check_number(subject.id, subject.channels)
        except LimitReached:
            self.end_all(subject, CloseReason.TOO_MANY_CHANNELS)

    # Catching up

    def caught_up(self, subject: Subject) -> None:
        """Release the held streams, with the messages that were read for them or held."""
        catch_up = subject.catch_up
        if catch_up is None:
            return
        self.flush()
        self._end_catch_up(subject)
        for subscriber in catch_up.members:
            framing = subscriber.framing
            entries = catch_up.messages_for(subscriber)
            frames = [encode_for(subscriber, entry, self.epoch) for entry in entries]
            if missing := catch_up.missing_for(subscriber) & subject.channels:
                self.counters.resets += 1
                frames.insert(0, framing.reset(ResetReason.NOT_RETAINED, missing, None))
                frames.append(framing.position(str(self.here)))
            if frames:
                self.fan_outs.finish(subscriber)
                subscriber.send(b"".join(frames))
            self._listen(subject, subscriber)
        self._end_if_empty(subject)

    def _begin_catch_up(self, subject: Subject, name: bytes, after: int) -> None:
        is_new = subject.catch_up is None
        catch_up = subject.catch_up or CatchUp()
        for subscriber in subject.listening():
            self._stop_listening(subject.channels, subscriber)
            catch_up.hold(subscriber, self.position)
        catch_up.open_gap(name, after)
        subject.catch_up = catch_up
        for each in subject.channels:
            self.channels[each].holding.add(subject)
        if is_new:
            self._owner.catch_up_needed(subject)

    def _end_catch_up(self, subject: Subject) -> None:
        subject.catch_up = None
        for name in subject.channels:
            self.channels[name].holding.discard(subject)

    def _suspend_all(self, subject: Subject) -> dict[Subscriber, EventID]:
        """Send the streams of a subject nothing more until they resume from the ids returned.

        Those that are in a replay already see what changes meanwhile. One that is held goes back to
        where it began to be held, and reads from there.
        """
        suspended = {}
        for subscriber in list(subject.subscribers):
            place = self.suspend(subscriber)
            if place is None and subject.catch_up is not None:
                place = self._suspend_held(subject, subject.catch_up, subscriber)
            if place is not None:
                suspended[subscriber] = place
        return suspended

    def _suspend_held(
        self, subject: Subject, catch_up: CatchUp[Subscriber], subscriber: Subscriber
    ) -> EventID | None:
        hold = catch_up.members.pop(subscriber, None)
        if hold is None:
            return None
        subject.replaying |= {subscriber}
        subject.since = catch_up.granted | (subject.since or {})
        if not catch_up.members:
            self._end_catch_up(subject)
        return EventID(self.epoch, hold.position)

    def _resume_all(self, suspended: Mapping[Subscriber, EventID]) -> None:
        for subscriber, place in suspended.items():
            self._owner.past_needed(subscriber, place)

    # Subjects

    def _subject(self, identifier: bytes, only: Only | None) -> Subject:
        subject = self.subjects.get(subject_key(identifier, only))
        if subject is None:
            subject = Subject(identifier, only)
            self.subjects[subject.key] = subject
            if only is not None:
                self._narrow.setdefault(identifier, set()).add(subject.key)
        return subject

    def _forget(self, subject: Subject) -> None:
        del self.subjects[subject.key]
        if subject.only is not None:
            keys = self._narrow[subject.id]
            keys.discard(subject.key)
            if not keys:
                del self._narrow[subject.id]

    # Names

    def _note_name(self, subscriber: Subscriber) -> None:
        if subscriber.name is not None:
            self.named.setdefault(subscriber.name, set()).add(subscriber)

    def _forget_name(self, subscriber: Subscriber) -> None:
        if subscriber.name is not None:
            streams = self.named[subscriber.name]
            streams.discard(subscriber)
            if not streams:
                del self.named[subscriber.name]

    # Audiences

    def _hold(self, name: bytes) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name)
            self._owner.interest_changed(name)
        channel.holders += 1
        return channel

    def _release(self, name: bytes) -> None:
        channel = self.channels[name]
        channel.holders -= 1
        if not channel.holders:
            del self.channels[name]
            self._owner.interest_changed(name)

    def _end_replay(self, subject: Subject, subscriber: Subscriber) -> None:
        subject.replaying -= {subscriber}
        if not subject.replaying and self.is_connected:
            subject.since = None

    def _listen(self, subject: Subject, subscriber: Subscriber) -> None:
        for name in subject.channels:
            if not self._is_ahead((subject.since or {}).get(name, 0)):
                self.channels[name].listen(subscriber)

    def _is_ahead(self, at: int) -> bool:
        """Whether messages from before a grant are still to be dispatched."""
        return not self.is_connected and at > self.position

    def _stop_listening(self, names: Iterable[bytes], *subscribers: Subscriber) -> None:
        for name in names:
            for subscriber in subscribers:
                self.channels[name].stop_listening(subscriber)
