"""The table of a node: subjects, groups, channels, and who of the streams listens to what.

A stream listens, is in a replay, or is held: then its messages are kept until others have been
read, which come first. What a subject may listen to is changed by
:class:`~sinapse.hub.lists.Lists`.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Protocol

from sinapse.counters import Counters
from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.catchup import CatchUp
from sinapse.hub.dispatch import Dispatcher, Writer
from sinapse.hub.register import Register, part_key
from sinapse.hub.subscribers import Channel, Group, Listeners, Subject, Subscriber, body_for
from sinapse.protocol.ids import EventID
from sinapse.protocol.only import Only

#: Channels of a subject at which it is looked whether something was written.
LOOKED_AT = 50


class HubOwner(Writer, Protocol):
    """The owner of a hub, which does for it what needs a connection, a socket or a clock."""

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


class Table(Dispatcher):
    """The table, kept by `owner`."""

    def __init__(self, counters: Counters, owner: HubOwner) -> None:
        super().__init__(counters, owner)
        #: Subjects with open streams.
        self.subjects: Register[Subject] = Register()
        #: Groups that such a subject is in, or one that is about to open a stream.
        self.groups: Register[Group] = Register()
        #: Whether Redis is connected. While it is not, no catch-up is possible.
        self.is_connected = False
        self._owner = owner

    # Queries

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams, each once."""
        return self.subjects.id_count

    def streams_of(self, identifier: bytes) -> list[Subscriber]:
        """Return the open subscribers of a subject; of those with equal rights the oldest first."""
        return [each for subject in self.subjects.of(identifier) for each in subject.subscribers]

    def channels_of(self, identifier: bytes) -> AbstractSet[bytes]:
        """Return the channels that a subject with open streams may listen to."""
        return frozenset().union(*(each.heard() for each in self.subjects.of(identifier)))

    def is_live(self, subscriber: Subscriber) -> bool:
        """Whether a subscriber gets messages when they are dispatched: no replay, not held."""
        subject = subscriber.subject
        if subject is None or subscriber in subject.replaying:
            return False
        return subject.catch_up is None or subscriber not in subject.catch_up.members

    def listeners(self) -> set[bytes]:
        """Return the keys of the subjects that may listen to something."""
        return {subject.key for subject in self.subjects.values() if not subject.hears_nothing}

    # Streams

    def go_live(self, subscriber: Subscriber) -> None:
        """Let a subscriber get messages from now on: its replay is complete."""
        subject = subscriber.subject
        if subject is not None:
            self.flush()
            # Granted while nothing was read for it: what has come since then was missed.
            missed = self._missed(subject) if self.is_connected else {}
            self._end_replay(subject, subscriber)
            self._listen(subject, subscriber)
            for name, at in missed.items():
                self._begin_catch_up(subject, name, at)

    def where(self, subscriber: Subscriber) -> EventID | None:
        """Return the id from which a stream can resume now; None if it is not live."""
        if not self.is_live(subscriber):
            return None
        self.flush()
        self.fan_outs.finish(subscriber)
        return self.here

    def has_written_to(self, subscriber: Subscriber, since: int) -> bool:
        """Whether a message was written to a subscriber after so many messages of the node.

        If it may listen to many channels, only some are looked at.
        """
        subject = subscriber.subject
        if subject is None:
            return False
        names = islice(subject.channels, LOOKED_AT)
        return any(self.channels[name].has_written_to(subscriber, since) for name in names) or any(
            group.has_written_to(subscriber, since) for group in islice(subject.groups, LOOKED_AT)
        )

    def suspend(self, subscriber: Subscriber) -> EventID | None:
        """Send a stream nothing more until it resumes from the id that is returned.

        It is then in the state of a replay. Returns None, and changes nothing, if it is not live.
        """
        place = self.where(subscriber)
        subject = subscriber.subject
        if place is not None and subject is not None:
            self._stop_listening(subject, subscriber)
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
        self._stop_listening(subject, subscriber)
        if not subject.subscribers:
            self.subjects.discard(subject)
            self._end_catch_up(subject)
            for name in subject.channels:
                self._release(name)
            for group in subject.groups:
                subject.exit(group)
                self._release_group(group)

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
            bodies = [body_for(subscriber, entry, self.epoch) for entry in entries]
            if missing := subject.heard_of(catch_up.missing_for(subscriber)):
                self.counters.resets += 1
                bodies.insert(0, framing.plain.reset(ResetReason.NOT_RETAINED, missing, None))
                bodies.append(framing.plain.position(str(self.here)))
            if body := b"".join(bodies):
                self.fan_outs.finish(subscriber)
                subscriber.send(framing.frame(body))
            self._listen(subject, subscriber)
        self._end_if_empty(subject)

    def _begin_catch_up(self, subject: Subject, name: bytes, after: int) -> None:
        is_new = subject.catch_up is None
        catch_up = subject.catch_up or CatchUp()
        for subscriber in subject.listening():
            self._stop_listening(subject, subscriber)
            catch_up.hold(subscriber, self.position)
        catch_up.open_gap(name, after)
        subject.catch_up = catch_up
        for listeners in self._heard_by(subject):
            listeners.holding.add(subject)
        if is_new:
            self._owner.catch_up_needed(subject)

    def _end_catch_up(self, subject: Subject) -> None:
        subject.catch_up = None
        for listeners in self._heard_by(subject):
            listeners.holding.discard(subject)

    def _missed(self, subject: Subject) -> dict[bytes, int]:
        """Return channels that the node is not subscribed to yet, and when they were granted."""
        names = {name for name, at in (subject.since or {}).items() if at}
        names.update(*(group.unheard for group in subject.groups))
        return {
            name: subject.granted_at(name) or 0
            for name in names
            if not self.channels[name].is_subscribed
        }

    def _end_if_empty(self, subject: Subject) -> None:
        # Held streams first get the messages that they are held for.
        if self.is_connected and subject.catch_up is None and subject.hears_nothing:
            self._owner.emptied(subject)

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
        granted = {name: at for name, at in catch_up.granted.items() if name in subject.channels}
        subject.since = granted | (subject.since or {})
        if not catch_up.members:
            self._end_catch_up(subject)
        return EventID(self.epoch, hold.position)

    def _resume_all(self, suspended: Mapping[Subscriber, EventID]) -> None:
        for subscriber, place in suspended.items():
            self._owner.past_needed(subscriber, place)

    # Subjects

    def _subject(self, identifier: bytes, only: Only | None) -> Subject:
        subject = self.subjects.get(part_key(identifier, only))
        if subject is None:
            subject = Subject(identifier, only)
            self.subjects.add(subject)
        return subject

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
            subject.forget_grants()

    def _release_group(self, group: Group) -> None:
        group.holders -= 1
        if not group.holders:
            self.groups.discard(group)
            for name in list(group.channels):
                self._take_from(group, name)

    def _take_from(self, group: Group, name: bytes) -> None:
        channel = self.channels[name]
        channel.groups = tuple(each for each in channel.groups if each is not group)
        del group.channels[name]
        group.unheard.discard(name)
        self._release(name)

    def _heard_by(self, subject: Subject) -> list[Listeners]:
        """Return what its streams listen to: its own channels, and its groups."""
        return [*(self.channels[name] for name in subject.channels), *subject.groups]

    def _listen(self, subject: Subject, subscriber: Subscriber) -> None:
        for name in subject.channels:
            if not self._is_ahead((subject.since or {}).get(name, 0)):
                self.channels[name].listen(subscriber)
        for group, joined in subject.groups.items():
            if not self._is_ahead(joined):
                group.listen(subscriber)

    def _is_ahead(self, at: int) -> bool:
        """Whether messages from before a grant are still to be dispatched."""
        return not self.is_connected and at > self.position

    def _stop_listening(self, subject: Subject, subscriber: Subscriber) -> None:
        for listeners in self._heard_by(subject):
            listeners.stop_listening(subscriber)
