"""The hub of a node: what changes who listens to what, in the order of Redis.

It has no socket and no timer. Redis sends messages and control messages on one connection, and the
hub gets them in that order. It sends messages as a :class:`~sinapse.hub.dispatch.Dispatcher`, and
applies a control message at once to its :class:`~sinapse.hub.table.Table`: earlier messages are
flushed first, later ones see the new list.

A subscriber opens in three steps, so that no list is ever wrong, not even for an instant:

1. :meth:`Hub.join` before the look-up is sent: control messages are noted from now on.
2. :meth:`Hub.expect` with the answer: the node stays subscribed to its channels.
3. :meth:`Hub.open` when everything published before the answer has been handled.

A subscriber that resumes is opened replaying: it can be ended, but gets nothing until
:meth:`Hub.go_live`. While history is read for it, :meth:`Hub.tape` records what is dispatched, so
that history and live messages join without a gap.
"""

import heapq
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TypeVar

from sinapse.counters import Counters
from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.joining import Joining, Joins
from sinapse.hub.subscribers import Subject, Subscriber
from sinapse.hub.table import HubOwner, Table
from sinapse.protocol.ids import EventID, Past, parse_counter
from sinapse.protocol.keys import ADD, GRANT, PAST, REMOVE, REVOKE, WITHDRAW, is_channel
from sinapse.protocol.only import Only

Joined = TypeVar("Joined", bound=Subscriber)

#: Control messages that have the counter of that moment, and what they are without it.
_WITHOUT_COUNTER = {GRANT: ADD, PAST: ADD, WITHDRAW: REMOVE}


class Hub(Table):
    """The hub, kept by `owner`; the options are those of the table."""

    def __init__(
        self,
        counters: Counters,
        owner: HubOwner,
        *,
        max_channels: int = 0,
        admits_empty: bool = False,
    ) -> None:
        super().__init__(counters, owner, max_channels=max_channels, admits_empty=admits_empty)
        self._joins = Joins()

    # Opening

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
        only: Only | None = None,
    ) -> None:
        """Take the answer of the look-up, and hold its channels.

        `channels` has the counters at which they were granted, 0 if that is not known; `has_past`
        says whether a new stream gets a past of any of them. Of these, the stream hears the part
        that the token is for.

        Raises :class:`~sinapse.errors.Unauthorized` if the subject may listen to nothing, and
        :class:`~sinapse.errors.LimitReached` if to too many.
        """
        joining.subject = subject
        joining.token = token
        joining.has_past = has_past
        joining.only = only
        joining.answer = {
            name: at for name, at in channels.items() if is_channel(name) and joining.admits(name)
        }
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
            subject = self._subject(joining.subject, joining.only)
            for name in joining.answer:
                self.channels[name].is_subscribed = True
            since = {
                name: joining.answer.get(name, 0) if after is None else after
                for name, after in expected.items()
            }
            self._settle(subject, since)
            subject.subscribers[subscriber] = None
            subscriber.subject = subject
            self._note_name(subscriber)
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

    def abandon(self, joining: Joining) -> None:
        """End a join that did not become a subscriber, or has become one."""
        self._joins.end(joining)
        for name in joining.channels:
            self._release(name)
        joining.channels = frozenset()

    # Live authorisation

    def control(self, identifier: bytes, action: str, value: bytes) -> None:
        """Apply a control message: ADD or REMOVE of a channel, or REVOKE of a token.

        GRANT and WITHDRAW are ADD and REMOVE with the counter of that moment; each comes first, and
        the plain one then changes nothing. PAST is GRANT of a channel that has a past, and comes
        before it. REPLAYED is told of no subject: a channel has a past from now on. Other actions
        are ignored, so that the protocol can grow.
        """
        at: int | None = None
        has_past = action == PAST
        if (plain := _WITHOUT_COUNTER.get(action)) is not None:
            counter, _, value = value.partition(b" ")
            action, at = plain, parse_counter(counter)
        if action == ADD and not is_channel(value):
            return
        if has_past:
            self._joins.note(identifier, PAST, value, at)
        self._joins.note(identifier, action, value, at)
        if action == REVOKE:
            self.end_token(identifier, value, CloseReason.REVOKED)
            return
        for subject in self.subjects_of(identifier):
            if action == ADD and value not in subject.channels and subject.admits(value):
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

    def end_token(self, identifier: bytes, token: bytes, reason: CloseReason) -> None:
        """End the streams that were opened with a token of the subject."""
        for subscriber in self.streams_of(identifier):
            if subscriber.token == token:
                self.end(subscriber, reason)

    def reconcile(
        self, identifier: bytes, channels: Mapping[bytes, int], *, has_past: bool = False
    ) -> None:
        """Replace the list of a subject with open streams by that of Redis.

        Call it while Redis is not connected. `channels` has the counters at which they were
        granted: earlier messages are not for the subject, though they are going to be read. With
        `has_past` some of them have a past, which streams get of those that were granted meanwhile.
        """
        for subject in self.subjects_of(identifier):
            self.flush()
            expected = {
                name: at
                for name, at in channels.items()
                if is_channel(name) and subject.admits(name)
            }
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
            at, key, name = heapq.heappop(postponed)
            subject = self.subjects.get(key)
            # Withdrawn, and perhaps granted again, since then.
            if subject is None or (subject.since or {}).get(name) != at:
                continue
            self._listen_from(subject, name, 0)

    def tell_lost(self, former: Container[bytes]) -> None:
        """Tell all open streams that data are lost, and that they go on from here.

        Streams of subjects with `former` keys get this even without any channels: these may be what
        is lost. What is held belongs to the lost data.
        """
        self.flush()
        for subject in list(self.subjects.values()):
            if subject.catch_up is not None:
                subject.catch_up.drop(self.position)
                self.caught_up(subject)
            if subject.channels or subject.key in former:
                self._tell_reset(subject, ResetReason.DATA_LOST, subject.channels, str(self.here))

    def tell_gone(
        self, gone: Mapping[bytes, int], known: dict[tuple[bytes, bytes], int], upto: int
    ) -> set[bytes]:
        """Tell open streams which channels have lost messages, up to some counter, by retention.

        A client that gets this loads the state of the channel, complete up to the counter `upto`:
        that is noted in `known`, by subject and channel, and not sent again. Returns the keys of
        these subjects.
        """
        self.flush()
        told = set()
        for subject in self.subjects.values():
            since = subject.since or {}
            missing = {
                name
                for name in subject.channels & gone.keys()
                if gone[name] > max(since.get(name, 0), known.get((subject.key, name), 0))
            }
            if missing:
                known.update(((subject.key, name), upto) for name in missing)
                told.add(subject.key)
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
