"""What subjects may listen to, and how that changes: their own lists, and those of their groups.

A change is applied at once: earlier messages have been flushed, later ones see the new list. A
channel to which the node is not subscribed yet was missed since it was granted: its messages are
read, and the streams are held until then.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached, Unauthorized
from sinapse.hub.former import Former, ended_after, with_former
from sinapse.hub.register import part_key
from sinapse.hub.subscribers import Channel, Group, Subject, Subscriber
from sinapse.hub.table import HubOwner, Table
from sinapse.protocol.ids import EventID
from sinapse.protocol.keys import INBOXES, is_channel
from sinapse.protocol.only import Only


class Lists(Table):
    """The lists, kept by `owner`.

    `max_channels` is how many a subject may listen to, 0 for any number. With `admits_empty` a
    stream without channels here may open: it may have some in other Redis.
    """

    def __init__(
        self,
        counters: Counters,
        owner: HubOwner,
        *,
        max_channels: int = 0,
        admits_empty: bool = False,
    ) -> None:
        super().__init__(counters, owner)
        self._max_channels = max_channels
        self._admits_empty = admits_empty
        #: What is to be done before messages after a counter, which are still to be read; in the
        #: order of the counters, then of coming.
        self._postponed: list[tuple[int, int, Callable[[], None]]] = []
        self._postponements = 0

    # Own lists

    def _begin_with(self, subject: Subject, expected: Iterable[bytes]) -> None:
        """Give a subject without streams its list."""
        for name in expected:
            self._hold(name)
        subject.channels.update(expected)

    def _settle(self, subject: Subject, expected: Mapping[bytes, int]) -> None:
        for name in expected.keys() - subject.channels:
            self._grant(subject, name, None)
            if subject.since is not None:
                subject.since[name] = expected[name]
        for name in subject.channels - expected.keys():
            self._withdraw(subject, name, None)

    def _grant(self, subject: Subject, name: bytes, after: int | None) -> None:
        is_new = not subject.hears(name)
        channel = self._hold(name)
        subject.channels.add(name)
        if subject.catch_up is not None:
            subject.catch_up.granted[name] = self.position if after is None else after
        if subject.since is not None:
            subject.since[name] = after or 0
        if is_new and after is not None and self._has_missed(subject, channel):
            self._begin_catch_up(subject, name, after)
            return
        self._listen_from(subject, name, after or 0)

    def _listen_from(self, subject: Subject, name: bytes, at: int) -> None:
        """Let a subject listen to a channel from the counter of its grant on.

        That may be later, in a time without Redis: the messages after our position are still to be
        read.
        """
        channel = self.channels[name]
        if self._is_ahead(at):
            for subscriber in subject.subscribers:
                channel.stop_listening(subscriber)
            channel.holding.discard(subject)
            self._postpone(at, partial(self._grant_is_due, subject, name, at))
            return
        for subscriber in subject.listening():
            channel.listen(subscriber)
        if subject.catch_up is not None:
            channel.holding.add(subject)

    def _grant_is_due(self, subject: Subject, name: bytes, at: int) -> None:
        # Withdrawn, and perhaps granted again, since then.
        if subject.subscribers and (subject.since or {}).get(name) == at:
            self._listen_from(subject, name, 0)

    def _grant_with_past(self, subject: Subject, name: bytes, at: int) -> None:
        self._reach_grant(at)
        suspended = {} if subject.hears(name) else self._suspend_all(subject)
        self._grant(subject, name, at)
        self._resume_all(suspended)

    def _withdraw(self, subject: Subject, name: bytes, at: int | None) -> None:
        channel = self.channels[name]
        for subscriber in subject.subscribers:
            channel.stop_listening(subscriber)
        channel.holding.discard(subject)
        subject.channels.remove(name)
        if subject.since is not None:
            start = subject.since.pop(name, 0)
            if at is not None:
                self._keep_former(subject, [(name, start, at)], at)
        if subject.catch_up is not None:
            subject.catch_up.granted.pop(name, None)
            self._close_gap(subject, name, at)
        self._release(name)

    # Members of groups

    def _hold_group(
        self,
        identifier: bytes,
        only: Only | None,
        channels: Mapping[bytes, int],
        former: Former | None = None,
    ) -> Group:
        """Return a group that is needed from now on; a new one gets what it has, and had."""
        group = self.groups.get(part_key(identifier, only))
        if group is None:
            group = Group(identifier, only)
            group.learn(former)
            self.groups.add(group)
            for name, at in channels.items():
                if is_channel(name) and group.admits(name):
                    self._put_into(group, name, at)
        group.holders += 1
        return group

    def _join(self, subject: Subject, group: Group, at: int, *, has_past: bool) -> None:
        """Make a subject a member of a group, which is held for it already."""
        new = [name for name in group.channels if not subject.hears(name)] if has_past else []
        suspended: Mapping[Subscriber, EventID] = {}
        if has_past:
            self._reach_grant(at)
            suspended = self._suspend_all(subject) if new else {}
        missed = {
            name: max(at, group.channels[name])
            for name in group.unheard
            if not subject.hears(name) and self._has_missed(subject, self.channels[name])
        }
        subject.enter(group, at)
        self._listen_to(subject, group, at)
        for name, after in missed.items():
            self._begin_catch_up(subject, name, after)
        self._resume_all(suspended)

    def _listen_to(self, subject: Subject, group: Group, at: int) -> None:
        """Let a member listen to what its group hears, from that counter on."""
        if self._is_ahead(at):
            for subscriber in subject.subscribers:
                group.stop_listening(subscriber)
            group.holding.discard(subject)
            self._postpone(at, partial(self._membership_is_due, subject, group, at))
            return
        for subscriber in subject.listening():
            group.listen(subscriber)
        if subject.catch_up is not None:
            group.holding.add(subject)

    def _membership_is_due(self, subject: Subject, group: Group, at: int) -> None:
        if subject.subscribers and subject.groups.get(group) == at:
            self._listen_to(subject, group, 0)

    def _exit(self, subject: Subject, group: Group, at: int | None) -> None:
        """End a membership."""
        for subscriber in subject.subscribers:
            group.stop_listening(subscriber)
        group.holding.discard(subject)
        joined = subject.groups[group]
        subject.exit(group)
        if subject.since is not None and at is not None:
            self._keep_former(subject, group.times(joined, at), at)
        if subject.catch_up is not None:
            for name in subject.catch_up.open_gaps() & group.channels.keys():
                self._close_gap(subject, name, at)
        self._release_group(group)

    # Channels of groups

    def _put_into(self, group: Group, name: bytes, at: int) -> None:
        channel = self._hold(name)
        group.channels[name] = at
        if not channel.is_subscribed:
            group.unheard.add(name)
        self._let_hear(group, name, at)

    def _let_hear(self, group: Group, name: bytes, at: int) -> None:
        """Let the members of a group listen to one of its channels, from that counter on."""
        channel = self.channels[name]
        others = tuple(each for each in channel.groups if each is not group)
        if self._is_ahead(at):
            channel.groups = others
            self._postpone(at, partial(self._group_grant_is_due, group, name, at))
            return
        channel.groups = (*others, group)

    def _let_groups_hear(self) -> None:
        """Do so for all groups: what has not come by now is going to be read."""
        for group in self.groups.values():
            for name, at in group.channels.items():
                self._let_hear(group, name, at)

    def _group_grant_is_due(self, group: Group, name: bytes, at: int) -> None:
        if group.holders and group.channels.get(name) == at:
            self._let_hear(group, name, 0)

    def _grant_to_group(self, group: Group, name: bytes, at: int, *, has_past: bool) -> None:
        self._reach_grant(at if has_past else 0)
        channel = self.channels.get(name)
        new_to: list[Subject] = []
        if has_past or channel is None or not channel.is_subscribed:
            new_to = [member for member in group.members if not member.hears(name)]
        suspended = [self._suspend_all(member) for member in new_to if has_past]
        self._put_into(group, name, at)
        for member in new_to:
            if self._has_missed(member, self.channels[name]):
                self._begin_catch_up(member, name, at)
        for each in suspended:
            self._resume_all(each)

    def _withdraw_from_group(self, group: Group, name: bytes, at: int | None) -> None:
        if at is not None:
            group.former = with_former(group.former, [(name, group.channels[name], at)])
        self._take_from(group, name)
        for member in group.members:
            if at is not None and member.since is not None and member.hears(name):
                self._read_back(member, at)
            if member.catch_up is not None:
                self._close_gap(member, name, at)

    def _settle_group(self, group: Group, channels: Mapping[bytes, int]) -> None:
        """Make the list of a group what Redis says, while that is not connected."""
        expected = {
            name: at for name, at in channels.items() if is_channel(name) and group.admits(name)
        }
        if expected == group.channels:
            return
        for name in group.channels.keys() - expected.keys():
            self._withdraw_from_group(group, name, None)
        for name, at in expected.items():
            if name not in group.channels:
                self._put_into(group, name, at)
            elif group.channels[name] != at:
                group.channels[name] = at
                self._let_hear(group, name, at)

    def _settle_former(self, group: Group, former: Former) -> None:
        """Make what a group had what Redis says; for its many members that is the same object."""
        if group.former is not former or not group.knows_former:
            group.former, group.knows_former = former, True
            group.unheard_ends = ended_after(former, self.position)

    # What all of them need

    def _has_missed(self, subject: Subject, channel: Channel) -> bool:
        """Whether streams of a subject lack what came to a channel that it is granted now."""
        return (
            self.is_connected
            and not channel.is_subscribed
            and (subject.catch_up is not None or bool(subject.listening()))
        )

    def _keep_former(
        self, subject: Subject, had: Iterable[tuple[bytes, int, int]], at: int
    ) -> None:
        """Note rights that have ended at a counter beside others: channels, and when they were.

        Of those that ended unheard Redis tells, with the lists.
        """
        left = [each for each in had if subject.hears(each[0])]
        if left:
            subject.former = with_former(subject.former, left)
            self._read_back(subject, at)

    def _read_back(self, subject: Subject, at: int) -> None:
        """Let streams read what they have missed, each by itself, if a right has ended there.

        That is in a time without Redis: the messages after our position are still to be read.
        """
        if self._is_ahead(at):
            self._resume_all(self._suspend_all(subject))

    def _close_gap(self, subject: Subject, name: bytes, at: int | None) -> None:
        """Note that a subject whose streams are held may not listen to a channel any more."""
        if subject.catch_up is not None and not subject.hears(name):
            # Earlier withdrawals may not have been heard.
            subject.catch_up.close_gap(name, at if self.is_connected else None)

    def _reach_grant(self, at: int) -> None:
        """Note that all has come that was before a grant which took a counter of its own."""
        if self.is_connected:
            self.reached(at - 1)

    def _postpone(self, at: int, due: Callable[[], None]) -> None:
        self._postponements += 1
        heapq.heappush(self._postponed, (at, self._postponements, due))

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
            _, _, due = heapq.heappop(postponed)
            due()

    def _require(self, *, is_empty: bool) -> None:
        """Raise :class:`~sinapse.errors.Unauthorized` for who may listen to nothing."""
        if is_empty and not self._admits_empty:
            raise Unauthorized("no channels")

    def _check_number(
        self, subject: bytes, channels: Collection[bytes], lists: Sequence[Collection[bytes]]
    ) -> None:
        """Raise :class:`~sinapse.errors.LimitReached` if a subject may listen to too many channels.

        These are its own and those of the `lists` of groups. A delivery of only some of them would
        lose messages silently. Its inbox does not count: a message to it shall not lock it out.
        """
        if not self._max_channels or len(channels) + sum(map(len, lists)) <= self._max_channels:
            return
        count = len({*channels}.union(*lists) - {INBOXES.encode() + subject})
        if count > self._max_channels:
            self._owner.too_many_channels(subject, count)
            raise LimitReached(CloseReason.TOO_MANY_CHANNELS.text, 503)

    def _end_if_too_many(self, subject: Subject) -> None:
        if not self.is_connected:
            return
        try:
            lists = [group.channels for group in subject.groups]
            self._check_number(subject.id, subject.channels, lists)
        except LimitReached:
            self.end_all(subject, CloseReason.TOO_MANY_CHANNELS)
