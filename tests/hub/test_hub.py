"""The hub: who gets what, exactly, whatever happens in between."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sinapse.counters import Counters
from sinapse.errors import CloseReason, Unauthorized
from sinapse.hub.catchup import Dispatched
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Joining, Membership
from sinapse.hub.subscribers import Subject
from sinapse.protocol.keys import (
    ADD,
    GRANT,
    GROUP_GRANT,
    GROUP_WITHDRAW,
    JOIN,
    LEAVE,
    REMOVE,
    REVOKE,
)
from sinapse.protocol.message import Message
from sinapse.protocol.only import Only
from tests.support.hubs import Keeper, Lines, Stream, Table, kept, remains


def test_names_of_our_own_are_never_channels(table: Table) -> None:
    with pytest.raises(Unauthorized):
        table.open(b"sinapse:channels:1:add", b"")
    stream = table.open(b"a", b"sinapse:tokens:x")
    for name in (b"sinapse:channels:2:add", b""):
        table.hub.control(b"1", ADD, name)
    table.hub.reconcile(b"1", {b"a": 0, b"sinapse:x": 0, b"": 0}, {})
    assert stream.subject is not None
    assert stream.subject.channels == set(table.hub.channels) == {b"a"}


# Live authorisation


def test_an_added_channel_is_heard_from_then_on_by_all_streams_of_the_subject(
    table: Table,
) -> None:
    mine = [table.open(b"a"), table.open(b"a")]
    table.open(b"b", subject=b"2")
    table.hub.dispatch(b"b", Message("before"))
    table.hub.control(b"1", ADD, b"b")
    table.hub.dispatch(b"b", Message("after"))
    table.hub.control(b"1", ADD, b"b")
    table.publish(b"b", "later")
    assert [stream.data for stream in mine] == [["after", "later"]] * 2


def test_removed_then_published_is_not_delivered_though_it_came_in_one_read(table: Table) -> None:
    stream = table.open(b"a", b"b")
    table.hub.dispatch(b"a", Message("1"))
    table.hub.control(b"1", REMOVE, b"a")
    table.hub.dispatch(b"a", Message("2"))
    table.hub.control(b"1", ADD, b"a")
    table.hub.dispatch(b"a", Message("3"))
    table.hub.flush()
    assert stream.data == ["1", "3"]


def test_a_removal_takes_the_channel_from_one_subject_only(table: Table) -> None:
    mine, other = table.open(b"a", b"b"), table.open(b"a", subject=b"2")
    table.hub.control(b"1", REMOVE, b"a")
    table.publish(b"a", "1")
    assert mine.data == []
    assert other.data == ["1"]


def test_streams_end_with_the_last_channel_after_what_was_published_before(table: Table) -> None:
    stream = table.open(b"a")
    table.hub.dispatch(b"a", Message("1"))
    table.hub.control(b"1", REMOVE, b"a")
    assert stream.data == ["1"]
    assert stream.closed is CloseReason.NO_CHANNELS
    assert remains(table.hub) == []


def test_a_revoked_token_ends_its_streams_and_no_other(table: Table) -> None:
    old, new = table.open(b"a", token=b"old"), table.open(b"a", token=b"new")
    same_text = table.open(b"a", subject=b"2", token=b"old")
    table.hub.dispatch(b"a", Message("1"))
    table.hub.control(b"1", REVOKE, b"old")
    table.publish(b"a", "2")
    assert (old.closed, new.closed, same_text.closed) == (CloseReason.REVOKED, None, None)
    assert (old.data, new.data, same_text.data) == (["1"], ["1", "2"], ["1", "2"])


def test_a_token_can_be_ended_for_another_reason(table: Table) -> None:
    stream = table.open(b"a")
    table.hub.end_token(b"1", b"other", CloseReason.EXPIRED)
    table.publish(b"a", "1")
    assert stream.data == ["1"]
    table.hub.end_token(b"1", b"token", CloseReason.EXPIRED)
    assert stream.closed is CloseReason.EXPIRED


def test_unknown_control_messages_and_unknown_subjects_are_ignored(table: Table) -> None:
    stream = table.open(b"a")
    table.hub.control(b"1", "rename", b"a")
    for action in (ADD, REMOVE, REVOKE):
        table.hub.control(b"nobody", action, b"a")
    table.publish(b"a", "1")
    assert stream.data == ["1"]


def test_reconciling_makes_the_list_what_redis_says(table: Table) -> None:
    stream = table.open(b"a", b"b")
    table.hub.dispatch(b"a", Message("1"))
    table.hub.reconcile(b"1", {b"b": 0, b"c": 0}, {})
    table.publish(b"a", "2")
    table.publish(b"b", "3")
    table.publish(b"c", "4")
    assert stream.data == ["1", "3", "4"]
    assert set(table.hub.channels) == {b"b", b"c"}


def test_reconciling_with_nothing_ends_the_streams(table: Table) -> None:
    stream = table.open(b"a")
    table.hub.disconnected()
    table.hub.reconcile(b"1", {}, {})
    table.hub.reconcile(b"nobody", {b"a": 0}, {})
    # What is heard next may be on its way to another list.
    assert table.hub.streams_of(b"1") == [stream]
    table.hub.connected()
    assert stream.closed is CloseReason.NO_CHANNELS
    assert remains(table.hub) == []


def test_a_look_up_for_one_stream_corrects_the_list_of_all_streams_of_the_subject(
    table: Table,
) -> None:
    # The list was changed without a word, as with SADD and SREM by hand.
    first = table.open(b"a", b"b")
    second = table.open(b"b", b"c")
    for channel in (b"a", b"b", b"c"):
        table.publish(channel, channel.decode())
    assert first.data == second.data == ["b", "c"]


# What is missing


def test_a_reset_goes_to_those_who_listen_to_what_is_missing(table: Table) -> None:
    one, two = table.open(b"a", b"b"), table.open(b"b", b"c", subject=b"2")
    other = table.open(b"d", subject=b"3")
    replaying = table.hub.open(table.admit(b"a", b"b"), lambda: Stream(table.framing), live=False)
    table.hub.dispatch(b"b", Message("1"))
    table.hub.position, table.hub.epoch = 7, "1f"
    known: dict[tuple[bytes, bytes], int] = {}
    assert table.hub.tell_gone({b"a": 5, b"b": 5}, known, 6) == {b"1", b"2"}
    assert one.received == [(b"b", "1"), (b"reset:not-retained:None", "a,b")]
    assert two.received == [(b"b", "1"), (b"reset:not-retained:None", "b")]
    assert other.sent == replaying.sent == []
    assert table.counters.resets == 2
    # Who was told has all that there was by then, and nobody else.
    assert table.hub.tell_gone({b"b": 6, b"d": 6}, known, 6) == {b"3"}
    assert other.sent.pop()
    assert table.hub.tell_gone({b"a": 7}, known, 7) == {b"1"}
    assert one.sent.pop()
    table.hub.tell_lost(())
    assert other.received == [(b"reset:data-lost:1f-7", "d")]


@pytest.mark.parametrize("lost", [0, 9])
def test_what_is_read_after_a_break_is_for_those_who_had_the_channel_then(
    table: Table, lost: int
) -> None:
    """Also where what was heard last is lost, and counters begin before it again."""
    streams = [table.open(b"a", b"anchor", subject=name) for name in (b"1", b"2")]
    table.hub.dispatch(b"a", Message("heard"), 5 + lost)
    table.hub.disconnected()
    table.hub.reconcile(b"1", {b"a": 0, b"anchor": 0}, {})
    table.hub.reconcile(b"2", {b"a": 7, b"anchor": 0, b"b": 8}, {})
    if lost:
        table.hub.begin_at(5)
    for counter, channel in ((6, b"a"), (7, b"a"), (8, b"a"), (9, b"b"), (10, b"a")):
        table.hub.granted(counter)
        table.hub.dispatch(channel, Message(str(counter)), counter)
    table.hub.flush()
    table.hub.connected()
    table.publish(b"a", "live")
    assert [stream.data for stream in streams] == [
        ["heard", "6", "7", "8", "10", "live"],
        ["heard", "8", "9", "10", "live"],
    ]


def test_what_nobody_heard_of_between_two_grants_is_not_read_for_who_is_held(table: Table) -> None:
    """The node was cut off, and what it goes on reading began with the first of them."""
    stream = table.open(b"anchor")
    table.hub.control(b"1", GRANT, b"5 a")
    subject = table.hub.subjects[b"1"]
    catch_up = subject.catch_up
    assert catch_up is not None
    table.hub.disconnected()
    table.hub.reconcile(b"1", {b"anchor": 0, b"a": 8}, {})
    table.hub.begin_at(5)
    for counter in (6, 7, 8, 9):
        table.hub.granted(counter)
        table.hub.dispatch(b"a", Message(str(counter)), counter)
    table.hub.connected()
    for gap in catch_up.unread():
        found = [Dispatched(counter, b"a", Message(str(counter))) for counter in (6, 7, 8, 9)]
        gap.take(found, 9, more=False)
    table.hub.caught_up(subject)
    assert stream.data == ["9"]


# The machine: a Redis, the connection from it, and a hub at the other end

SUBJECTS = (b"1", b"2")
KINDS = (b"User", b"Admin", b"narrow")
#: The part of the list that tokens of a kind are for.
ONLY = {b"narrow": Only(b"b\nc*")}
CHANNELS = (b"a", b"b", b"c")
RESERVED = b"sinapse:x"
FRAMINGS = ("chunked", "identity")
GROUPS = (b"g", b"h")

SUBJECT = st.sampled_from(SUBJECTS)
KIND = st.sampled_from(KINDS)
FRAMING = st.sampled_from(FRAMINGS)
GROUP = st.sampled_from(GROUPS)
NAME = st.sampled_from((*CHANNELS, RESERVED))


@dataclass(frozen=True)
class Published:
    """A message on its way, and who could read its channel when Redis got it."""

    channel: bytes
    data: str
    readers: frozenset[bytes]
    """By their own lists, or by groups."""


@dataclass(frozen=True)
class Control:
    """A control message on its way."""

    subject: bytes
    action: str
    value: bytes
    group: bytes = b""
    """The group that it is about."""


@dataclass
class Knowledge:
    """Who may listen to what: as Redis has it, or as far as that has been delivered."""

    lists: dict[bytes, set[bytes]]
    groups: dict[bytes, set[bytes]]
    """The groups of each subject."""
    channels: dict[bytes, set[bytes]]
    """The channels of each group."""

    def heard(self, subject: bytes) -> set[bytes]:
        """Return what a subject may listen to."""
        return self.lists[subject].union(*map(self.channels.__getitem__, self.groups[subject]))

    def change(self, control: Control) -> None:
        """Apply a change."""
        subject, group, value = control.subject, control.group, control.value
        if control.action == ADD:
            self.lists[subject].add(value)
        elif control.action == REMOVE:
            self.lists[subject].discard(value)
        elif control.action == JOIN:
            self.groups[subject].add(group)
        elif control.action == LEAVE:
            self.groups[subject].discard(group)
        elif control.action == GROUP_GRANT:
            self.channels[group].add(value)
        elif control.action == GROUP_WITHDRAW:
            self.channels[group].discard(value)


@dataclass(eq=False)
class Request:
    """Somebody who wants a stream. Its place in the connection is its barrier."""

    joining: Joining
    token: bytes
    framing: str
    #: Of the look-up, once Redis has made it; no subject if the token is unknown.
    answer: tuple[bytes | None, set[bytes], dict[bytes, Membership]] | None = None
    is_admitted: bool = False
    #: It comes back, and what it missed is sent first.
    resumes: bool = False


CHANGES = st.lists(
    st.builds(
        lambda subject, action, value, group: Control(
            b"" if action in (GROUP_GRANT, GROUP_WITHDRAW) else subject,
            action,
            b"" if action in (JOIN, LEAVE) else value,
            b"" if action in (ADD, REMOVE) else group,
        ),
        SUBJECT,
        st.sampled_from((ADD, REMOVE, JOIN, LEAVE, GROUP_GRANT, GROUP_WITHDRAW)),
        NAME,
        GROUP,
    ),
    max_size=4,
)


class WatchedHub(Hub):
    """A hub that tells of every flush, also of those that it makes by itself."""

    flushing: Callable[[Callable[[], None]], None]

    def flush(self) -> None:
        self.flushing(super().flush)


class HubMachine(RuleBasedStateMachine):
    """What can happen to a hub, in every order that Redis and the network allow.

    Redis changes at once. What it publishes waits in `connection`, which is delivered step by
    step; the answer to a look-up is made at one instant and arrives at another. `seen` is what
    Redis knew at that point of the connection up to which all has been delivered: the truth, as
    far as the hub can know it.
    """

    def __init__(self) -> None:
        super().__init__()
        # Redis
        self.truth = Knowledge(
            {b"1": {b"a"}, b"2": {b"a", b"b"}},
            {b"1": set(), b"2": {b"g"}},
            {group: {b"c"} for group in GROUPS},
        )
        self.tokens = {
            (subject, kind): b"first token of %b %b" % (kind, subject)
            for subject in SUBJECTS
            for kind in KINDS
        }
        #: The part of the list that each token is for.
        self.only = {token: ONLY.get(kind) for (_, kind), token in self.tokens.items()}
        self.generated = self.published = 0
        self.connection: deque[Published | Control | Request] = deque()
        # As far as it has been delivered
        self.seen = deepcopy(self.truth)
        self.revoked: set[bytes] = set()
        # The hub, who is at it, and what it should have done
        self.counters = Counters()
        self.catching_up: list[Subject] = []
        keeper = Keeper(
            self.check_interest, self.catching_up.append, turn_needed=self.ask_for_a_turn
        )
        self.hub = kept(keeper, self.counters, WatchedHub)
        self.hub.flushing = self.check_flush
        self.hub.connected()
        self.framings = {name: Lines(name) for name in FRAMINGS}
        self.requests: list[Request] = []
        self.streams: dict[Stream, bytes] = {}
        self.opened = 0
        self.replaying: list[Stream] = []
        self.due: dict[Stream, list[tuple[bytes, str]]] = {}
        self.batch: list[tuple[bytes, str]] = []
        self.interest: set[bytes] = set()
        self.messages = self.deliveries = 0
        self.turns = 0

    @initialize(slice_size=st.sampled_from((1, 2, 1000)), count=st.integers(0, 3))
    def begin(self, slice_size: int, count: int) -> None:
        """Begin with some streams, and with fan-outs in slices of some size."""
        self.hub.fan_outs.slice_size = slice_size
        for _ in range(count):
            for subject in SUBJECTS:
                self.one_asks_and_is_admitted(subject, KINDS[0], FRAMINGS[0])
        if self.connection:
            self.deliver(len(self.connection))

    def ask_for_a_turn(self) -> None:
        assert not self.turns, "asked for twice"
        self.turns += 1

    # Redis

    @rule(subject=SUBJECT, channel=NAME)
    def add_channel(self, subject: bytes, channel: bytes) -> None:
        self.change(Control(subject, ADD, channel))

    @rule(subject=SUBJECT, channel=NAME)
    def remove_channel(self, subject: bytes, channel: bytes) -> None:
        self.change(Control(subject, REMOVE, channel))

    @rule(subject=SUBJECT, group=GROUP)
    def join(self, subject: bytes, group: bytes) -> None:
        self.change(Control(subject, JOIN, b"", group))

    @rule(subject=SUBJECT, group=GROUP)
    def leave_group(self, subject: bytes, group: bytes) -> None:
        self.change(Control(subject, LEAVE, b"", group))

    @rule(group=GROUP, channel=NAME)
    def add_to_group(self, group: bytes, channel: bytes) -> None:
        self.change(Control(b"", GROUP_GRANT, channel, group))

    @rule(group=GROUP, channel=NAME)
    def remove_from_group(self, group: bytes, channel: bytes) -> None:
        self.change(Control(b"", GROUP_WITHDRAW, channel, group))

    def change(self, control: Control) -> None:
        if control.action in (JOIN, LEAVE):
            listed = sorted(self.truth.channels[control.group] if control.action == JOIN else ())
            control = replace(control, value=b"".join(b"\n0 %b" % each for each in listed))
        self.truth.change(control)
        self.connection.append(control)

    @rule(subject=SUBJECT, kind=KIND)
    def replace_token(self, subject: bytes, kind: bytes) -> None:
        self.connection.append(Control(subject, REVOKE, self.tokens[subject, kind]))
        self.generated += 1
        self.tokens[subject, kind] = b"token %d" % self.generated
        self.only[self.tokens[subject, kind]] = ONLY.get(kind)

    @rule(subject=SUBJECT, value=NAME)
    def announce_what_nobody_knows(self, subject: bytes, value: bytes) -> None:
        self.connection.append(Control(subject, "rename", value))

    @rule(channels=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=8))
    def publish(self, channels: list[bytes]) -> None:
        for channel in channels:
            self.published += 1
            readers = frozenset(each for each in SUBJECTS if channel in self.truth.heard(each))
            self.connection.append(Published(channel, str(self.published), readers))

    # The connection

    @rule(count=st.integers(1, 10))
    @precondition(lambda self: self.connection)
    def deliver(self, count: int) -> None:
        """Deliver some of a read, so that other things happen before its end."""
        for _ in range(min(count, len(self.connection))):
            entry = self.connection.popleft()
            if isinstance(entry, Published):
                self.deliver_message(entry)
            elif isinstance(entry, Control):
                self.deliver_control(entry)
            elif entry in self.requests:
                self.open(entry)

    @rule(channel=st.sampled_from(CHANNELS))
    def publish_and_deliver_all(self, channel: bytes) -> None:
        self.publish([channel])
        self.deliver(len(self.connection))
        self.hub.flush()

    @rule()
    @precondition(lambda self: self.batch)
    def flush(self) -> None:
        self.hub.flush()

    @rule(count=st.integers(1, 20))
    @precondition(lambda self: self.connection)
    def deliver_a_read(self, count: int) -> None:
        self.deliver(count)
        self.hub.flush()

    @rule()
    @precondition(lambda self: self.hub.fan_outs)
    def go_on(self) -> None:
        """Take the turn that a fan-out in slices has asked for."""
        assert self.turns
        self.turns = 0
        self.hub.fan_outs.go_on()

    @rule(changes=CHANGES)
    @precondition(lambda self: self.streams)
    def lose_the_connection(self, changes: list[Control]) -> None:
        """Lose what is in it, and all look-ups; go on as the broker does."""
        for control in changes:
            self.change(control)
        self.hub.disconnected()
        self.connection.clear()
        for request in list(self.requests):
            self.give_up(request)
        self.seen = deepcopy(self.truth)
        valid = set(self.tokens.values())
        for token, subject in {
            stream.token: subject for stream, subject in self.streams.items()
        }.items():
            if token in valid:
                listed = dict.fromkeys(self.truth.lists[subject], 0)
                self.hub.reconcile(subject, listed, self.memberships(subject))
            else:
                self.hub.end_token(subject, token, CloseReason.REVOKED)
        self.hub.connected()
        for stream, subject in list(self.streams.items()):
            may_stay = stream.token in valid and self.heard(subject, stream.token)
            assert (stream.closed is None) == bool(may_stay)
            if not may_stay:
                self.forget(stream)

    def deliver_message(self, message: Published) -> None:
        self.hub.dispatch(message.channel, Message(message.data))
        if message.channel in self.hub.channels:
            self.messages += 1
            self.batch.append((message.channel, message.data))
        for stream, subject in self.streams.items():
            is_reader = subject in message.readers and self.is_for(stream.token, message.channel)
            if is_reader and stream not in self.replaying:
                self.due[stream].append((message.channel, message.data))

    def deliver_control(self, control: Control) -> None:
        value = control.value
        if control.action == JOIN:
            value = b"0 0 " + control.group + control.value
        elif control.action == GROUP_GRANT:
            value = b" ".join((b"0 0", control.group, control.value))
        elif control.group:
            value = b" ".join(filter(None, (b"0", control.group, control.value)))
        self.hub.control(control.subject, control.action, value)
        self.catch_up()
        before = {each: self.heard(subject, each.token) for each, subject in self.streams.items()}
        self.seen.change(control)
        if control.action == REVOKE:
            self.revoked.add(control.value)
        for stream, heard in before.items():
            if stream.token in self.revoked:
                self.ended(stream, CloseReason.REVOKED)
            elif heard and not self.heard(self.streams[stream], stream.token):
                self.ended(stream, CloseReason.NO_CHANNELS)

    def catch_up(self) -> None:
        """Have nothing to read: no message is retained here."""
        while self.catching_up:
            self.hub.caught_up(self.catching_up.pop())

    # Those who want a stream

    @rule(subject=SUBJECT, kind=KIND, framing=FRAMING, resumes=st.booleans())
    def one_asks(self, subject: bytes, kind: bytes, framing: str, resumes: bool) -> None:
        self.ask(subject, kind, framing).resumes = resumes

    @rule(data=st.data())
    @precondition(lambda self: self.unanswered())
    def one_is_looked_up(self, data: st.DataObject) -> None:
        self.look_up(data.draw(st.sampled_from(self.unanswered())))

    @rule(data=st.data())
    @precondition(lambda self: self.answered())
    def one_is_admitted(self, data: st.DataObject) -> None:
        self.admit(data.draw(st.sampled_from(self.answered())))

    @rule(subject=SUBJECT, kind=KIND, framing=FRAMING)
    def one_asks_and_is_admitted(self, subject: bytes, kind: bytes, framing: str) -> None:
        request = self.ask(subject, kind, framing)
        self.look_up(request)
        self.admit(request)

    @rule(subject=SUBJECT, kind=KIND, early=CHANGES, late=CHANGES)
    def one_is_admitted_while_lists_change(
        self, subject: bytes, kind: bytes, early: list[Control], late: list[Control]
    ) -> None:
        """Change them before the answer comes, and before the barrier does."""
        request = self.ask(subject, kind, FRAMINGS[0])
        self.look_up(request)
        for control in early:
            self.change(control)
            self.deliver(len(self.connection))
        self.admit(request)
        for control in late:
            self.change(control)

    @rule(data=st.data())
    @precondition(lambda self: self.replaying)
    def one_goes_live(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.replaying))
        self.hub.go_live(stream)
        self.catch_up()
        self.replaying.remove(stream)

    @rule(data=st.data())
    @precondition(lambda self: self.requests)
    def one_gives_up(self, data: st.DataObject) -> None:
        self.give_up(data.draw(st.sampled_from(self.requests)))

    @rule(data=st.data())
    @precondition(lambda self: self.streams)
    def one_leaves(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(list(self.streams))))

    def ask(self, subject: bytes, kind: bytes, framing: str) -> Request:
        """Join, and send the look-up."""
        request = Request(self.hub.join(), self.tokens[subject, kind], framing)
        self.requests.append(request)
        return request

    def unanswered(self) -> list[Request]:
        return [request for request in self.requests if request.answer is None]

    def answered(self) -> list[Request]:
        return [each for each in self.requests if each.answer and not each.is_admitted]

    def look_up(self, request: Request) -> None:
        """Make the answer, at this instant of Redis."""
        request.answer = None, set(), {}
        for (subject, _), token in self.tokens.items():
            if token == request.token:
                own = set(self.truth.lists[subject])
                request.answer = subject, own, self.memberships(subject)

    def memberships(self, subject: bytes) -> dict[bytes, Membership]:
        return {
            group: Membership(0, dict.fromkeys(self.truth.channels[group], 0))
            for group in sorted(self.truth.groups[subject])
        }

    def admit(self, request: Request) -> None:
        """Receive the answer, and send the barrier."""
        assert request.answer is not None
        subject, channels, memberships = request.answer
        if subject is None:
            self.give_up(request)
            return
        expect = partial(
            self.hub.expect,
            *(request.joining, subject, request.token, dict.fromkeys(channels, 0)),
            memberships=memberships,
            only=self.only[request.token],
        )
        listed = channels.union(*(each.channels or () for each in memberships.values()))
        if self.part(listed, request.token):
            expect()
            request.is_admitted = True
            self.connection.append(request)
        else:
            with pytest.raises(Unauthorized):
                expect()
            self.give_up(request)

    def open(self, request: Request) -> None:
        """Go on behind the barrier."""
        assert request.answer is not None
        subject, channels, _ = request.answer
        assert subject is not None
        self.requests.remove(request)
        # Held since the answer, so Redis is subscribed to them by now.
        assert request.joining.channels >= self.part(channels, request.token)
        self.opened += 1
        stream = Stream(self.framings[request.framing], request.token, self.opened)
        live = not request.resumes
        if self.heard(subject, request.token) and request.token not in self.revoked:
            assert self.hub.open(request.joining, lambda: stream, live=live) is stream
            self.catch_up()
            self.streams[stream] = subject
            self.due[stream] = []
            if request.resumes:
                self.replaying.append(stream)
        else:
            with pytest.raises(Unauthorized):
                self.hub.open(request.joining, lambda: stream, live=live)

    def give_up(self, request: Request) -> None:
        self.requests.remove(request)
        self.hub.abandon(request.joining)

    def leave(self, stream: Stream) -> None:
        self.hub.leave(stream)
        stream.closed = CloseReason.CLIENT_GONE
        self.forget(stream)

    def ended(self, stream: Stream, reason: CloseReason) -> None:
        """Note that the hub has ended a stream, and not without what was due to it."""
        assert stream.closed is reason
        assert stream.received == self.due[stream]
        self.forget(stream)

    def forget(self, stream: Stream) -> None:
        del self.streams[stream], self.due[stream]
        if stream in self.replaying:
            self.replaying.remove(stream)

    def listeners(self, channel: bytes) -> list[Stream]:
        """Return the streams that get what is published to `channel`."""
        return [
            stream
            for stream, subject in self.streams.items()
            if channel in self.heard(subject, stream.token) and stream not in self.replaying
        ]

    def is_for(self, token: bytes, channel: bytes) -> bool:
        """Whether a channel is in the part that a token is for."""
        only = self.only[token]
        return only is None or only.allows(channel)

    def part(self, channels: set[bytes], token: bytes) -> set[bytes]:
        """Return that part of some channels."""
        return {each for each in channels - {RESERVED} if self.is_for(token, each)}

    def heard(self, subject: bytes, token: bytes) -> set[bytes]:
        """Return what the streams of a token may listen to, as far as it has been delivered."""
        return self.part(self.seen.heard(subject), token)

    # What has to be true

    def check_flush(self, flush: Callable[[], None]) -> None:
        """One encoding a framing and run of messages, one send a touched stream."""
        batch, self.batch = self.batch, []
        sends = {stream: len(stream.sent) for stream in self.streams}
        for framing in self.framings.values():
            framing.encoded.clear()
        was_busy = bool(self.hub.fan_outs)
        flush()
        encoded: dict[str, list[tuple[bytes, list[str]]]] = {name: [] for name in FRAMINGS}
        touched = set()
        for channel, run in groupby(batch, lambda each: each[0]):
            data = [each[1] for each in run]
            audience = self.listeners(channel)
            touched.update(audience)
            self.deliveries += len(data) * len(audience)
            for name in {stream.framing.name for stream in audience}:
                encoded[name].append((channel, data))
        assert {name: each.encoded for name, each in self.framings.items()} == encoded
        if not was_busy and not self.hub.fan_outs:
            for stream, before in sends.items():
                assert len(stream.sent) - before == (stream in touched)

    def check_interest(self, channel: bytes) -> None:
        """Told at the first who needs a channel, and after the last."""
        assert (channel in self.hub.channels) != (channel in self.interest)
        self.interest ^= {channel}

    @invariant()
    def each_stream_has_what_it_is_due(self) -> None:
        for stream, due in self.due.items():
            flushed = [each for each in due if each not in self.batch]
            if self.hub.fan_outs:
                assert stream.received == flushed[: len(stream.received)]
            else:
                assert stream.received == flushed

    @invariant()
    def the_lists_are_those_of_redis(self) -> None:
        assert {each.id for each in self.hub.subjects.values()} == set(self.streams.values())
        assert self.hub.subject_count == len(set(self.streams.values()))
        for subject in self.hub.subjects.values():
            mine = {
                stream
                for stream, each in self.streams.items()
                if each == subject.id and self.only[stream.token] is subject.only
            }
            assert subject.subscribers.keys() == mine
            assert mine
            for stream in mine:
                assert subject.heard() == self.heard(subject.id, stream.token)
                assert subject.channels == self.part(self.seen.lists[subject.id], stream.token)
                assert {each.id for each in subject.groups} == self.seen.groups[subject.id]

    @invariant()
    def the_table_holds_what_is_needed_and_nothing_else(self) -> None:
        needs = [request.joining.channels for request in self.requests]
        needs += [frozenset(each.channels) for each in self.hub.subjects.values()]
        joined = [request.joining.groups for request in self.requests]
        joined += [list(subject.groups) for subject in self.hub.subjects.values()]
        kept = Counter(group for groups in joined for group in groups)
        assert {each: each.holders for each in kept} == kept
        assert set(self.hub.groups.values()) <= kept.keys()
        needs += [frozenset(group.channels) for group in kept]
        holders = Counter(name for need in needs for name in need)
        assert {name: each.holders for name, each in self.hub.channels.items()} == holders
        assert self.interest == set(holders)
        for name, channel in self.hub.channels.items():
            listeners = self.listeners(name)
            found = channel.all_audiences()
            assert {framing: set(each) for framing, each in found.items()} == {
                framing: {each for each in listeners if each.framing is framing}
                for framing in {each.framing for each in listeners}
            }

    @invariant()
    def everything_is_counted(self) -> None:
        assert self.counters.messages == self.messages
        assert self.counters.deliveries == self.deliveries

    def teardown(self) -> None:
        """Let all go: nothing is left."""
        for request in list(self.requests):
            self.give_up(request)
        for stream in list(self.streams):
            self.leave(stream)
        self.hub.flush()
        while self.hub.fan_outs:
            self.go_on()
        assert remains(self.hub) == []
        assert self.interest == set()


@pytest.mark.timeout(400)  # Where it fails, Hypothesis shortens the example for 300 s.
def test_whatever_happens_the_hub_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        HubMachine,
        settings=settings(max_examples=150, stateful_step_count=100, deadline=None),
    )
