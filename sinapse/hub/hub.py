"""The subscription table of a node: which subscribers listen to which channels.

It has no socket and no timer. Redis sends messages and control messages on one connection, and the
hub gets them in that order. It sends messages as a :class:`~sinapse.hub.dispatch.Dispatcher`, and
applies a control message at once: earlier messages are flushed first, later ones see the new list.

A subscriber opens in three steps, so that no list is ever wrong, not even for an instant:

1. :meth:`Hub.join` before the look-up is sent: control messages are noted from now on.
2. :meth:`Hub.expect` with the answer: the node stays subscribed to its channels.
3. :meth:`Hub.open` when everything published before the answer has been handled.

A subscriber that resumes is opened replaying: it can be ended, but gets nothing until
:meth:`Hub.go_live`. While history is read for it, :meth:`Hub.tape` records what is dispatched, so
that history and live messages join without a gap.
"""

import heapq
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeVar

from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached, ResetReason, Unauthorized
from sinapse.hub.catchup import CatchUp
from sinapse.hub.dispatch import Dispatcher
from sinapse.hub.joining import Joining, Joins
from sinapse.hub.subscribers import Channel, Subject, Subscriber, encode
from sinapse.protocol.ids import EventID, Past, parse_counter
from sinapse.protocol.keys import ADD, GRANT, PAST, REMOVE, REVOKE, WITHDRAW, is_channel

Joined = TypeVar("Joined", bound=Subscriber)


#: Control messages that have the counter of that moment, and what they are without it.
_WITHOUT_COUNTER = {GRANT: ADD, PAST: ADD, WITHDRAW: REMOVE}


class HubOwner(Protocol):
    """The owner of a hub, which does for it what needs a connection or a clock."""

    def interest_changed(self, channel: bytes) -> None:
        """Note that a channel is needed from now on, or no longer."""

    def catch_up_needed(self, subject: Subject) -> None:
        """Read the messages that a subject has missed; then call :meth:`Hub.caught_up`."""

    def past_needed(self, subscriber: Subscriber, place: EventID) -> None:
        """Resume a suspended stream from `place`: it was granted a channel that has a past."""

    def emptied(self, subject: Subject) -> None:
        """Note that a subject with open streams has no channels here any more."""

    def too_many_channels(self, subject: bytes, count: int) -> None:
        """Note that a subject has more channels than it may, and how many."""

    def turn_needed(self) -> None:
        """Call ``fan_outs.go_on()`` in a later turn of the reactor."""


class Hub(Dispatcher):
    """The table of a node, kept by `owner`.

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
        self.subjects: dict[bytes, Subject] = {}
        #: Whether Redis is connected. While it is not, no catch-up is possible.
        self.is_connected = False
        self._owner = owner
        self._max_channels = max_channels
        self._admits_empty = admits_empty
        self._joins = Joins()
        #: Grants by their counters, of channels whose later messages are still to be read.
        self._postponed: list[tuple[int, bytes, bytes]] = []

    # Opening and leaving

    def join(self) -> Joining:
        """Begin to open a subscriber, before the look-up of its token."""
        return self._joins.begin()

    def expect(
        self,
        joining: Joining,
        subject: bytes,
        token: bytes,
        channels: Mapping[bytes, int],
        *,
        has_past: bool = False,
    ) -> None:
        """Take the answer of the look-up, and hold its channels.

        `channels` has the counters at which they were granted, 0 if that is not known; `has_past`
        says whether a new stream gets a past of any of them.

        Raises :class:`~sinapse.errors.Unauthorized` if the subject may listen to nothing, and
        :class:`~sinapse.errors.LimitReached` if to too many.
        """
        joining.subject = subject
        joining.token = token
        joining.has_past = has_past
        joining.answer = {name: at for name, at in channels.items() if is_channel(name)}
        self._require(joining.answer)
        self._check_number(subject, joining.answer)
        # All of them: a removal that was noted may be older than the answer, and the addition after
        # it is still on its way.
        joining.channels = frozenset(joining.answer)
        for name in joining.channels:
            self._hold(name)

    def expected(self, joining: Joining) -> Mapping[bytes, int | None]:
        """Return the channels of a subscriber that would open now.

        A channel that was granted since the look-up has the counter of its grant. Raises
        :class:`~sinapse.errors.Unauthorized` if the token was revoked, and
        :class:`~sinapse.errors.LimitReached` if they are too many.
        """
        self.flush()
        channels = self._joins.channels(joining)
        self._check_number(joining.subject, channels)
        return channels

    def place_before_past(self, joining: Joining) -> EventID | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any."""
        if not self._joins.has_past(joining):
            return None
        self.flush()
        return self.here._replace(past=Past(0, of_all=True))

    def open(self, joining: Joining, make: Callable[[], Joined], *, live: bool = True) -> Joined:
        """End the join with an open subscriber: it gets messages from now on.

        Call it when everything published before the answer has been dispatched. It calls `make`
        only if the subscriber may open. If the token was revoked or the list emptied meanwhile, it
        raises :class:`~sinapse.errors.Unauthorized`; if the list has become too long,
        :class:`~sinapse.errors.LimitReached`. A subscriber that is not `live` gets nothing until
        :meth:`go_live`.
        """
        try:
            expected = self.expected(joining)
            self._require(expected)
            subscriber = make()
            subject = self.subjects.get(joining.subject)
            if subject is None:
                subject = self.subjects[joining.subject] = Subject(joining.subject)
            for name in joining.answer:
                self.channels[name].is_subscribed = True
            since = {
                name: joining.answer.get(name, 0) if after is None else after
                for name, after in expected.items()
            }
            self._settle(subject, since)
            subject.subscribers[subscriber] = None
            subscriber.subject = subject
            if live:
                self._listen(subject, subscriber)
                for name, after in expected.items():
                    if after is not None and not self.channels[name].is_subscribed:
                        self._begin_catch_up(subject, name, after)
            else:
                subject.replaying |= {subscriber}
                subject.since = since
        finally:
            self.abandon(joining)
        return subscriber

    def streams_of(self, subject: bytes) -> list[Subscriber]:
        """Return the open subscribers of a subject, the oldest first."""
        found = self.subjects.get(subject)
        return [] if found is None else list(found.subscribers)

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

    def _grant_with_past(self, subject: Subject, name: bytes, at: int) -> None:
        if self.is_connected:
            self.reached(at - 1)  # All that came before; no message has the counter itself.
        suspended = self._suspend_all(subject)
        self._grant(subject, name, at)
        self._resume_all(suspended)

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

    def abandon(self, joining: Joining) -> None:
        """End a join that did not become a subscriber, or has become one."""
        self._joins.end(joining)
        for name in joining.channels:
            self._release(name)
        joining.channels = frozenset()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose stream has ended."""
        subject = subscriber.subject
        if subject is None:
            return
        subscriber.subject = None
        self.fan_outs.forget(subscriber)
        subject.subscribers.pop(subscriber, None)
        self._end_replay(subject, subscriber)
        if subject.catch_up is not None:
            subject.catch_up.members.pop(subscriber, None)
        self._stop_listening(subject.channels, subscriber)
        if not subject.subscribers:
            del self.subjects[subject.id]
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

    # Queries

    def channels_of(self, subject_id: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
        subject = self.subjects.get(subject_id)
        return subject.channels if subject is not None else frozenset()

    def is_live(self, subscriber: Subscriber) -> bool:
        """Whether a subscriber gets messages when they are dispatched: no replay, not held."""
        subject = subscriber.subject
        if subject is None or subscriber in subject.replaying:
            return False
        return subject.catch_up is None or subscriber not in subject.catch_up.members

    # Live authorisation

    def control(self, subject_id: bytes, action: str, value: bytes) -> None:
        """Apply a control message: ADD or REMOVE of a channel, or REVOKE of a token.

        GRANT and WITHDRAW are ADD and REMOVE with the counter of that moment; each comes first, and
        the plain one then changes nothing. PAST is GRANT of a channel that has a past, and comes
        before it. Other actions are ignored, so that the protocol can grow.
        """
        at: int | None = None
        has_past = action == PAST
        if (plain := _WITHOUT_COUNTER.get(action)) is not None:
            counter, _, value = value.partition(b" ")
            action, at = plain, parse_counter(counter)
        if action == ADD and not is_channel(value):
            return
        if has_past:
            self._joins.note(subject_id, PAST, value, at)
        self._joins.note(subject_id, action, value, at)
        subject = self.subjects.get(subject_id)
        if subject is None:
            return
        if action == ADD and value not in subject.channels:
            self.flush()
            if has_past:
                self._grant_with_past(subject, value, at or 0)
            else:
                self._grant(subject, value, at)
            self._end_if_too_many(subject)
        elif action == REMOVE and value in subject.channels:
            self.flush()
            self._withdraw(subject, value, at)
            self._end_if_empty(subject)
        elif action == REVOKE:
            self.end_token(subject_id, value, CloseReason.REVOKED)

    def end_token(self, subject_id: bytes, token: bytes, reason: CloseReason) -> None:
        """End the streams that were opened with a token of the subject."""
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            for subscriber in [each for each in subject.subscribers if each.token == token]:
                self.end(subscriber, reason)

    def reconcile(
        self, subject_id: bytes, channels: Mapping[bytes, int], *, has_past: bool = False
    ) -> None:
        """Replace the list of a subject with open streams by that of Redis.

        Call it while Redis is not connected. `channels` has the counters at which they were
        granted: earlier messages are not for the subject, though they are going to be read. With
        `has_past` some of them have a past, which streams get of those that were granted meanwhile.
        """
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            expected = {name: at for name, at in channels.items() if is_channel(name)}
            if has_past and any(at > self.position for at in expected.values()):
                self._resume_all(self._suspend_all(subject))
            self._settle(subject, expected)
            subject.since = expected
            if subject.catch_up is not None:
                subject.catch_up.granted.update(expected)
            for name, at in expected.items():
                if subject.catch_up is not None:
                    subject.catch_up.granted_anew(name, at)
                self._listen_from(subject, name, at)
            self._end_if_empty(subject)
            self._end_if_too_many(subject)

    # Connecting

    def disconnected(self) -> None:
        """Note that the connection to Redis is lost: from now on messages are missed."""
        self.flush()
        self.is_connected = False
        for channel in self.channels.values():
            channel.is_subscribed = False

    def connected(self) -> None:
        """Note that Redis is connected, and subscribed to on all channels that are needed.

        Streams whose subject has no channels now, or too many, are ended only here: before, the
        lists were not complete.
        """
        self.granted(None)
        self.is_connected = True
        for channel in self.channels.values():
            channel.is_subscribed = True
        for subject in list(self.subjects.values()):
            if not subject.replaying:
                subject.since = None
            self._end_if_empty(subject)
            self._end_if_too_many(subject)

    def begin_at(self, counter: int) -> None:
        """Go on from a different counter, after a loss of data: reading begins there.

        It may be before the counters at which channels were granted since then.
        """
        self.position = counter
        for subject in self.subjects.values():
            for name, at in (subject.since or {}).items():
                self._listen_from(subject, name, at)

    def granted(self, before: int | None) -> None:
        """Let subjects listen to channels that were granted before the message of that counter.

        It is the next message that is dispatched, of those that are read after a break; None when
        there are no more.
        """
        postponed = self._postponed
        if not postponed or (before is not None and postponed[0][0] >= before):
            return
        self.flush()
        while postponed and (before is None or postponed[0][0] < before):
            at, subject_id, name = heapq.heappop(postponed)
            subject = self.subjects.get(subject_id)
            # Withdrawn, and perhaps granted again, since then.
            if subject is None or (subject.since or {}).get(name) != at:
                continue
            self._listen_from(subject, name, 0)

    def listeners(self) -> set[bytes]:
        """Return the ids of the subjects that may listen to something."""
        return {subject.id for subject in self.subjects.values() if subject.channels}

    def tell_lost(self, former: Container[bytes]) -> None:
        """Tell all open streams that data are lost, and that they go on from here.

        Streams of `former` subjects get this even without any channels: these may be what is lost.
        What is held belongs to the lost data.
        """
        self.flush()
        for subject in list(self.subjects.values()):
            if subject.catch_up is not None:
                subject.catch_up.drop(self.position)
                self.caught_up(subject)
            if subject.channels or subject.id in former:
                self._tell_reset(subject, ResetReason.DATA_LOST, subject.channels, str(self.here))

    def tell_gone(
        self, gone: Mapping[bytes, int], known: dict[tuple[bytes, bytes], int], upto: int
    ) -> set[bytes]:
        """Tell open streams which channels have lost messages, up to some counter, by retention.

        A client that gets this loads the state of the channel, complete up to the counter `upto`:
        that is noted in `known`, by subject and channel, and not sent again. Returns the ids of
        these subjects.
        """
        self.flush()
        told = set()
        for subject in self.subjects.values():
            since = subject.since or {}
            missing = {
                name
                for name in subject.channels & gone.keys()
                if gone[name] > max(since.get(name, 0), known.get((subject.id, name), 0))
            }
            if missing:
                known.update(((subject.id, name), upto) for name in missing)
                told.add(subject.id)
                self._tell_reset(subject, ResetReason.NOT_RETAINED, missing, None)
        return told

    def tell_position(self, subjects: Iterable[bytes]) -> None:
        """Tell the live streams of subjects the id from which they go on."""
        for subject in filter(None, map(self.subjects.get, subjects)):
            for subscriber in subject.listening():
                if (place := self.where(subscriber)) is not None:
                    subscriber.send(subscriber.framing.position(str(place)))

    def _tell_reset(
        self, subject: Subject, reason: ResetReason, channels: Iterable[bytes], place: str | None
    ) -> None:
        for subscriber in subject.subscribers.keys() - subject.replaying:
            told = set(channels)
            if reason is ResetReason.NOT_RETAINED and subject.catch_up is not None:
                # The losses of a gap are reported with the messages that are read of it.
                told -= subject.catch_up.reading_for(subscriber)
                if not told:
                    continue
            self.counters.resets += 1
            self.fan_outs.finish(subscriber)
            subscriber.send(subscriber.framing.reset(reason, told, place))

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
            frames = [
                encode(framing, entry, self.epoch) for entry in catch_up.messages_for(subscriber)
            ]
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

    # The table itself

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
            heapq.heappush(self._postponed, (at, subject.id, name))
            return
        for subscriber in subject.listening():
            channel.listen(subscriber)
        if subject.catch_up is not None:
            channel.holding.add(subject)

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
