"""The hub of a node: what changes who listens to what, in the order of Redis.

It has no socket and no timer. Redis sends messages and control messages on one connection, and the
hub gets them in that order. It sends messages as a :class:`~sinapse.hub.dispatch.Dispatcher`, and
applies a control message at once to its :class:`~sinapse.hub.lists.Lists`: earlier messages are
flushed first, later ones see the new list. How a subscriber opens is said in
:mod:`~sinapse.hub.opening`.
"""

from collections.abc import Container, Iterable, Iterator, Mapping

from sinapse.errors import CloseReason, ResetReason
from sinapse.hub.former import NONE, Former, ended_after
from sinapse.hub.joining import Membership, group_notes
from sinapse.hub.opening import Openings
from sinapse.hub.register import part_key
from sinapse.hub.subscribers import Subject
from sinapse.protocol.ids import parse_counter
from sinapse.protocol.keys import (
    ADD,
    GRANT,
    GROUP_GRANT,
    GROUP_WITHDRAW,
    JOIN,
    LEAVE,
    PAST,
    REMOVE,
    REVOKE,
    WITHDRAW,
    is_channel,
)

#: Control messages that have the counter of that moment, and what they are without it.
_WITHOUT_COUNTER = {GRANT: ADD, PAST: ADD, WITHDRAW: REMOVE}


class Hub(Openings):
    """The hub, kept by `owner`; the options are those of the lists."""

    # Live authorisation

    def control(self, identifier: bytes, action: str, value: bytes) -> None:
        """Apply a control message: ADD or REMOVE of a channel, or REVOKE of a token.

        GRANT and WITHDRAW are ADD and REMOVE with the counter of that moment; each comes first, and
        the plain one then changes nothing. PAST is GRANT of a channel that has a past, and comes
        before it. JOIN and LEAVE are of a group. REPLAYED is told of no subject, but of a channel,
        which has a past from now on; GROUP_GRANT and GROUP_WITHDRAW are of the members of a group.
        Other actions are ignored, so that the protocol can grow.
        """
        if action in (GROUP_GRANT, GROUP_WITHDRAW):
            self._control_group(action, value)
        elif action in (JOIN, LEAVE):
            self._control_membership(identifier, action, value)
        else:
            self._control_subject(identifier, action, value)

    def _control_subject(self, identifier: bytes, action: str, value: bytes) -> None:
        """Apply a change of the own list of a subject, or the end of a token."""
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
        for subject in self.subjects.of(identifier):
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

    def _control_group(self, action: str, value: bytes) -> None:
        """Apply a change of what the members of a group may listen to."""
        counter, _, rest = value.partition(b" ")
        at = self._at(counter)
        has_past = False
        if action == GROUP_GRANT:
            flag, _, rest = rest.partition(b" ")
            has_past = flag == b"1"
        identifier, _, name = rest.partition(b" ")
        if not is_channel(name):
            return
        notes = group_notes(identifier)
        if has_past:
            self._joins.note(notes, PAST, name, at)
        self._joins.note(notes, ADD if action == GROUP_GRANT else REMOVE, name, at)
        for group in self.groups.of(identifier):
            if action == GROUP_GRANT and name not in group.channels and group.admits(name):
                self.flush()
                self._grant_to_group(group, name, at, has_past=has_past)
                for member in list(group.members):
                    self._end_if_too_many(member)
            elif action == GROUP_WITHDRAW and name in group.channels:
                self.flush()
                self._withdraw_from_group(group, name, at)
                for member in () if group.channels else list(group.members):
                    self._end_if_empty(member)

    def _control_membership(self, identifier: bytes, action: str, value: bytes) -> None:
        """Apply that a subject is in a group from now on, or not any more."""
        head, *lines = value.split(b"\n")
        counter, _, name = head.partition(b" ")
        at = self._at(counter)
        has_past = False
        channels: dict[bytes, int] = {}
        if action == JOIN:
            flag, _, name = name.partition(b" ")
            has_past = flag == b"1"
            for line in lines:
                counter, _, channel = line.partition(b" ")
                channels[channel] = parse_counter(counter) or 0
        if has_past:
            self._joins.note(identifier, PAST, name, at)
        self._joins.note(identifier, action, name, at, channels)
        for subject in self.subjects.of(identifier):
            group = next((each for each in subject.groups if each.id == name), None)
            if action == JOIN and group is None:
                self.flush()
                group = self._hold_group(name, subject.only, channels)
                self._join(subject, group, at, has_past=has_past)
                self._end_if_too_many(subject)
            elif action == LEAVE and group is not None:
                self.flush()
                self._exit(subject, group, at)
                self._end_if_empty(subject)

    def _at(self, counter: bytes) -> int:
        """Return the counter of a change; what has been dispatched is before it in any case."""
        at = parse_counter(counter)
        return self.position if at is None else at

    def end_token(self, identifier: bytes, token: bytes, reason: CloseReason) -> None:
        """End the streams that were opened with a token of the subject."""
        for subscriber in self.streams_of(identifier):
            if subscriber.token == token:
                self.end(subscriber, reason)

    def reconcile(
        self,
        identifier: bytes,
        channels: Mapping[bytes, int],
        memberships: Mapping[bytes, Membership],
        *,
        has_past: bool = False,
        former: Former = NONE,
    ) -> None:
        """Replace the lists of a subject with open streams by those of Redis.

        Call it while Redis is not connected. `channels` has the counters at which they were
        granted, and so have `memberships`: earlier messages are not for the subject, though they
        are going to be read. With `has_past` some of them have a past, which streams get of those
        that were granted meanwhile. If a right has ended meanwhile beside another one, of `former`,
        streams read what they have missed, each by itself.
        """
        self.flush()
        for name, membership in memberships.items():
            if membership.channels is not None:
                for group in self.groups.of(name):
                    self._settle_group(group, membership.channels)
                    self._settle_former(group, membership.former or NONE)
        for subject in self.subjects.of(identifier):
            expected = {
                name: at
                for name, at in channels.items()
                if is_channel(name) and subject.admits(name)
            }
            latest = max((*expected.values(), *self._latest(subject, memberships)), default=0)
            is_granted_past = has_past and latest > self.position
            if is_granted_past or self._reaches_back(subject, expected, memberships, former):
                self._resume_all(self._suspend_all(subject))
            self._settle(subject, expected)
            subject.since, subject.former = expected, former
            self._rejoin(subject, memberships)
            if subject.catch_up is not None:
                subject.catch_up.granted.update(expected)
                for name in subject.heard_of(subject.catch_up.open_gaps()):
                    subject.catch_up.granted_anew(name, subject.granted_at(name) or 0)
            for name, at in expected.items():
                self._listen_from(subject, name, at)
            self._end_if_empty(subject)
            self._end_if_too_many(subject)

    def _reaches_back(
        self,
        subject: Subject,
        own: Mapping[bytes, int],
        memberships: Mapping[bytes, Membership],
        former: Former,
    ) -> bool:
        """Whether a right has ended beside another one, of what its streams have still to get."""
        known = [former, *(each.former for each in memberships.values() if each.former)]
        if not any(known):
            return False
        gaps = [] if subject.catch_up is None else subject.catch_up.gaps
        if any(gap.channel in each for gap in gaps for each in known):
            return True
        ended = ended_after(former, self.position)
        for name, membership in memberships.items():
            group = self.groups.get(part_key(name, subject.only))
            ended |= (
                ended_after(membership.former or NONE, self.position)
                if group is None
                else group.unheard_ends
            )
        lists = [own, *(each.channels or {} for each in memberships.values())]
        return any(not ended.isdisjoint(each) for each in lists)

    def _latest(self, subject: Subject, memberships: Mapping[bytes, Membership]) -> Iterator[int]:
        """Return the counters of what memberships give."""
        for name, membership in memberships.items():
            group = self.groups.get(part_key(name, subject.only))
            channels = membership.channels if group is None else group.channels
            yield max((membership.at, *(channels or {}).values()))

    def _rejoin(self, subject: Subject, memberships: Mapping[bytes, Membership]) -> None:
        """Make the groups of a subject what Redis says, while that is not connected."""
        for group in [each for each in subject.groups if each.id not in memberships]:
            self._exit(subject, group, None)
        known = {group.id: group for group in subject.groups}
        for identifier, membership in memberships.items():
            group = known.get(identifier) or self._hold_group(
                identifier, subject.only, membership.channels or {}, membership.former
            )
            subject.enter(group, membership.at)
            self._listen_to(subject, group, membership.at)

    # Connecting

    def disconnected(self) -> None:
        """Note that the connection to Redis is lost: from now on messages are missed."""
        self.flush()
        self.is_connected = False
        for channel in self.channels.values():
            channel.is_subscribed = False
        self._let_groups_hear()

    def connected(self) -> None:
        """Note that Redis is connected, and subscribed to on all channels that are needed.

        Streams whose subject has no channels now, or too many, are ended only here: before, the
        lists were not complete.
        """
        self.granted(None)
        self.is_connected = True
        for channel in self.channels.values():
            channel.is_subscribed = True
        for group in list(self.groups.values()):
            group.unheard.clear()
            if not group.members:  # Its list was not read anew: who joins now has a later one.
                self.groups.discard(group)
        for subject in list(self.subjects.values()):
            if not subject.replaying:
                subject.forget_grants()
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
            for group, joined in subject.groups.items():
                self._listen_to(subject, group, joined)
        self._let_groups_hear()

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
            if not subject.hears_nothing or subject.key in former:
                self._tell_reset(subject, ResetReason.DATA_LOST, subject.heard(), str(self.here))

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
            missing = {
                name
                for name in subject.heard_of(gone.keys())
                if gone[name]
                > max(subject.granted_at(name) or 0, known.get((subject.key, name), 0))
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
