"""Streams that open, so that no list is ever wrong, not even for an instant.

A subscriber opens in three steps:

1. :meth:`Openings.join` before the look-up is sent: control messages are noted from now on.
2. :meth:`Openings.expect` with the answer: the node stays subscribed to its channels, and keeps its
   groups.
3. :meth:`Openings.open` when everything published before the answer has been handled.

A subscriber that resumes is opened replaying: it can be ended, but gets nothing until
:meth:`~sinapse.hub.table.Table.go_live`. While history is read for it,
:meth:`~sinapse.hub.dispatch.Dispatcher.tape` records what is dispatched, so that history and live
messages join without a gap.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

from sinapse.counters import Counters
from sinapse.hub.former import NONE, Former
from sinapse.hub.joining import Expected, Joining, Joins, Membership
from sinapse.hub.lists import Lists
from sinapse.hub.register import part_key
from sinapse.hub.subscribers import Subject, Subscriber
from sinapse.hub.table import HubOwner
from sinapse.protocol.ids import EventID, Past
from sinapse.protocol.keys import is_channel
from sinapse.protocol.only import Only

Joined = TypeVar("Joined", bound=Subscriber)


class Openings(Lists):
    """Those of the hub of `owner`; the options are those of the lists."""

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
        memberships: Mapping[bytes, Membership] | None = None,
        position: int = 0,
        has_past: bool = False,
        only: Only | None = None,
        former: Former = NONE,
    ) -> None:
        """Take the answer of the look-up, and hold its channels and groups.

        `channels` has the counters at which they were granted, 0 if that is not known;
        `memberships` are the groups; `position` is the counter of that instant; `has_past` says
        whether a new stream gets a past of any channel of these. The stream hears the part that
        the token is for. `former` are rights that have ended.

        Raises :class:`~sinapse.errors.Unauthorized` if the subject may listen to nothing, and
        :class:`~sinapse.errors.LimitReached` if to too many.
        """
        joining.subject = subject
        joining.token = token
        joining.has_past = has_past
        joining.only = only
        joining.answer = self._admitted(joining, channels)
        joining.position = position
        joining.former = former
        # All of them: a removal that was noted may be older than the answer, and the addition after
        # it is still on its way.
        held: AbstractSet[bytes] = joining.answer.keys()
        if memberships:
            joining.memberships = memberships
            held = self._expect_groups(joining)
        else:
            self._require(is_empty=not held)
            self._check_number(subject, held, ())
        joining.channels = frozenset(held)
        for name in held:
            self._hold(name)

    def _expect_groups(self, joining: Joining) -> AbstractSet[bytes]:
        """Keep the groups of an answer, and return the channels that are to be held beside them."""
        held = set(joining.answer)
        may_hear = bool(held)
        for name, membership in joining.memberships.items():
            listed = self._admitted(joining, membership.channels or {})
            # What a group has may not be known yet: it is looked at when the stream opens.
            may_hear = may_hear or bool(listed) or membership.channels is None
            group = self.groups.get(part_key(name, joining.only))
            if group is None:
                held.update(listed)
                continue
            group.learn(self._joins.former_of_group(joining, name, membership))
            joining.groups.append(group)
            group.holders += 1
            unheard = [self.channels[each] for each in group.unheard]
            joining.unheard += [each for each in unheard if not each.is_subscribed]
        self._require(is_empty=not may_hear)
        lists = [group.channels for group in joining.groups]
        self._check_number(joining.subject, held, lists)
        return held

    def _admitted(self, joining: Joining, channels: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return those of a list that are channels, and for the subscriber."""
        if joining.only is None:
            return {name: at for name, at in channels.items() if is_channel(name)}
        return {
            name: at for name, at in channels.items() if is_channel(name) and joining.admits(name)
        }

    @property
    def whole_groups(self) -> Iterator[bytes]:
        """The groups of which the node has all of the list, and knows what they had."""
        for group in self.groups.values():
            if group.only is None and group.knows_former:
                yield group.id

    def keeps(self, memberships: Mapping[bytes, Membership], only: Only | None) -> bool:
        """Whether the node has the groups whose lists were left out of an answer.

        The last member may have left meanwhile; or the token is for another part of them.
        """
        return all(
            membership.channels is not None or self._is_known(part_key(name, only))
            for name, membership in memberships.items()
        )

    def _is_known(self, key: bytes) -> bool:
        group = self.groups.get(key)
        return group is not None and group.knows_former

    def expected(self, joining: Joining) -> Expected:
        """Return what a subscriber may listen to that would open now.

        Raises :class:`~sinapse.errors.Unauthorized` if the token was revoked, and
        :class:`~sinapse.errors.LimitReached` if it is too much.
        """
        self.flush()
        is_changed = self._joins.is_noted(joining.subject)
        channels, memberships = self._joins.expected(joining)
        if not memberships:
            self._check_number(joining.subject, channels, ())
            return Expected(channels, memberships, not channels, is_changed)
        lists = [
            self._channels_of_group(joining, identifier, membership)
            for identifier, membership in memberships.items()
        ]
        self._check_number(joining.subject, channels, lists)
        is_empty = not channels and not any(lists)
        return Expected(channels, memberships, is_empty, is_changed)

    def _channels_of_group(
        self, joining: Joining, identifier: bytes, membership: Membership
    ) -> Mapping[bytes, int]:
        """Return what a group has now for a subscriber that is about to open."""
        group = self.groups.get(part_key(identifier, joining.only))
        if group is not None:
            return group.channels
        channels = self._joins.channels_of_group(joining, identifier, membership)
        return self._admitted(joining, channels)

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
            self._require(is_empty=expected.is_empty)
            subscriber = make()
            subject = self._subject(joining.subject, joining.only)
            for name in joining.channels:
                self.channels[name].is_subscribed = True
            for channel in joining.unheard:
                channel.is_subscribed = True
            since: dict[bytes, int] = dict(joining.answer)
            late: dict[bytes, int] = {}
            if expected.is_changed:
                late = {name: at for name, at in expected.channels.items() if at is not None}
                since = {name: late.get(name, since.get(name, 0)) for name in expected.channels}
            if subject.subscribers:
                self._settle(subject, since)
            else:
                self._begin_with(subject, since)
            if expected.memberships or subject.groups:
                self._settle_groups(subject, joining, expected.memberships)
            subject.subscribers[subscriber] = None
            subscriber.subject = subject
            self._note_name(subscriber)
            if live:
                self._listen(subject, subscriber)
                if subject.groups or late:
                    self._catch_up_with(subject, joining, late)
            else:
                subject.replaying |= {subscriber}
                subject.since = since
                kept = {group.id: group for group in joining.groups}
                subject.former = self._joins.former(joining, kept)
        finally:
            self.abandon(joining)
        return subscriber

    def _catch_up_with(self, subject: Subject, joining: Joining, late: Mapping[bytes, int]) -> None:
        """Read what came to channels before the node was subscribed to them."""
        missed = self._missed(subject) if subject.groups else {}
        missed = {name: max(at, joining.position) for name, at in missed.items()}
        for name, after in late.items():
            if not self.channels[name].is_subscribed:
                missed[name] = after
        for name, after in missed.items():
            self._begin_catch_up(subject, name, after)

    def abandon(self, joining: Joining) -> None:
        """End a join that did not become a subscriber, or has become one."""
        self._joins.end(joining)
        for name in joining.channels:
            self._release(name)
        joining.channels = frozenset()
        for group in joining.groups:
            self._release_group(group)
        joining.groups = []

    def _settle_groups(
        self, subject: Subject, joining: Joining, memberships: Mapping[bytes, Membership]
    ) -> None:
        for group in [each for each in subject.groups if each.id not in memberships]:
            self._exit(subject, group, None)
        known = {group.id for group in subject.groups}
        for identifier, membership in memberships.items():
            if identifier not in known:
                channels = self._channels_of_group(joining, identifier, membership)
                former = self._joins.former_of_group(joining, identifier, membership)
                group = self._hold_group(identifier, subject.only, channels, former)
                subject.enter(group, membership.at)
                self._listen_to(subject, group, membership.at)
