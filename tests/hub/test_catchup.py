"""Catching up: a channel that is new to a node loses nothing, and nothing comes twice or late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
from sinapse.hub.catchup import CatchUp, Dispatched, Gap, Hold
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
    PAST,
    REMOVE,
    WITHDRAW,
)
from sinapse.protocol.message import Message
from tests.support.hubs import Keeper, a_descriptor, kept


def entry(channel: bytes, counter: int | None, data: str | None = None) -> Dispatched:
    return Dispatched(counter, channel, Message(data or str(counter)))


def got(catch_up: CatchUp[str], member: str = "stream") -> list[str]:
    return [each.message.data for each in catch_up.messages_for(member) if each.message]


class Lines:
    """A framing of one line a message."""

    @property
    def plain(self) -> Lines:
        return self

    def frame(self, body: bytes) -> bytes:
        return body

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        return b"".join(b"%b %b\n" % (channel, each.data.encode()) for each in messages)

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        raise AssertionError("nothing is missing")

    def position(self, identifier: str) -> bytes:
        raise AssertionError("nothing is missing")


@dataclass(eq=False)
class Stream:
    """A subscriber, and what it is due since it opened."""

    framing: Lines
    number: int | None = None
    token: bytes = b"token"
    name: str | None = None
    subject: Subject | None = None
    closed: CloseReason | None = None
    received: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    #: Published between the look-up and the barrier: these may come.
    early: set[int] = field(default_factory=set)
    #: How much was due when its subject had no channel any more, for the first time.
    due_at_end: int | None = None
    descriptor: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.descriptor = a_descriptor(self.number)

    def __hash__(self) -> int:
        return self.number or 0

    def send(self, frame: bytes) -> None:
        assert self.closed is None
        self.received += [int(line.split()[1]) for line in frame.splitlines()]

    def close(self, reason: CloseReason) -> None:
        assert self.closed is None
        self.closed = reason

    @property
    def late(self) -> list[int]:
        """What was received of what was published since the barrier."""
        return [each for each in self.received if each not in self.early]


@pytest.fixture
def catch_up() -> CatchUp[str]:
    """One stream that is held from the beginning."""
    catch_up = CatchUp[str]()
    catch_up.hold("stream", 0)
    return catch_up


# What is read and what is held


def test_what_was_read_and_what_was_held_come_in_the_order_of_ids(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.held += [entry(b"a", 11), entry(b"a", 14)]
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 12), entry(b"b", 13)], 14, more=False)
    assert catch_up.unread() == []
    assert got(catch_up) == ["11", "12", "13", "14"]


def test_what_was_heard_as_well_as_read_comes_once(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.held += [entry(b"b", 12), entry(b"b", 13)]
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 11), entry(b"b", 12)], 12, more=False)
    assert got(catch_up) == ["11", "12", "13"]


def test_a_gap_is_read_page_by_page(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 11), entry(b"b", 12)], 12, more=True)
    assert catch_up.unread() == [gap]
    # Another reader of the same channel may begin earlier, and other channels come along.
    gap.take([entry(b"b", 11), entry(b"b", 12), entry(b"a", 13), entry(b"b", 14)], 15, more=False)
    assert catch_up.unread() == []
    assert got(catch_up) == ["11", "12", "14"]


def test_a_message_without_an_id_stays_behind_the_one_it_was_held_after(
    catch_up: CatchUp[str],
) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.held += [
        entry(b"a", None, "first"),
        entry(b"a", 12),
        entry(b"a", None, "second"),
        entry(b"b", None, "third"),
        entry(b"a", 14),
    ]
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 11), entry(b"b", 13)], 14, more=False)
    assert got(catch_up) == ["first", "11", "12", "second", "third", "13", "14"]


def test_a_message_without_an_id_stays_behind_one_that_was_heard_as_well_as_read(
    catch_up: CatchUp[str],
) -> None:
    catch_up.open_gap(b"new", 3)
    catch_up.hold("stream", 0)
    catch_up.held += [entry(b"new", 4), entry(b"old", None, "plain"), entry(b"old", 5)]
    catch_up.gaps[0].take([entry(b"new", 4)], 4, more=False)
    assert got(catch_up) == ["4", "plain", "5"]


def test_what_was_read_to_its_end_is_not_still_read_while_the_stream_is_held(
    catch_up: CatchUp[str],
) -> None:
    """What is lost of it since then nobody else would tell."""
    catch_up.open_gap(b"b", 10)
    catch_up.open_gap(b"c", 10)
    assert catch_up.reading_for("stream") == {b"b", b"c"}
    catch_up.unread()[0].take([entry(b"b", 11)], 11, more=False)
    assert catch_up.reading_for("stream") == {b"c"}


def test_a_channel_withdrawn_again_counts_up_to_there(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.close_gap(b"b", 12)
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 11), entry(b"b", 12), entry(b"b", 13)], 13, more=True)
    assert catch_up.unread() == []
    assert got(catch_up) == ["11", "12"]


def test_a_channel_withdrawn_nobody_knows_where_is_not_delivered(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.close_gap(b"b", None)
    (gap,) = catch_up.unread()
    gap.take([entry(b"b", 11)], 11, more=False)
    assert got(catch_up) == []


def test_a_channel_granted_withdrawn_and_granted_again_has_two_gaps(
    catch_up: CatchUp[str],
) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.close_gap(b"b", 12)
    catch_up.open_gap(b"b", 14)
    catch_up.close_gap(b"b", 15)
    for gap in catch_up.unread():
        gap.take([entry(b"b", counter) for counter in range(11, 17)], 16, more=False)
    assert got(catch_up) == ["11", "12", "15"]


def test_a_stream_that_was_held_later_gets_what_came_since(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.held += [entry(b"a", 11)]
    catch_up.members["later"] = Hold(1, 1, 0)
    catch_up.open_gap(b"c", 11)
    catch_up.held += [entry(b"a", 13)]
    first, second = catch_up.unread()
    first.take([entry(b"b", 12)], 13, more=False)
    second.take([entry(b"c", 14)], 14, more=False)
    assert got(catch_up) == ["11", "12", "13", "14"]
    assert got(catch_up, "later") == ["13", "14"]


# What the hub does


class Node:
    """A connected hub, with the subjects that have to catch up."""

    def __init__(self) -> None:
        self.framing = Lines()
        self.behind: list[Subject] = []
        self.hub = kept(Keeper(catch_up_needed=self.behind.append), Counters(), Hub)
        self.hub.connected()

    def join(self, *channels: bytes, subject: bytes = b"1") -> Joining:
        joining = self.hub.join()
        self.hub.expect(joining, subject, b"token", dict.fromkeys(channels, 0))
        return joining

    def open(self, *channels: bytes, subject: bytes = b"1", live: bool = True) -> Stream:
        joining = self.join(*channels, subject=subject)
        return self.hub.open(joining, lambda: Stream(self.framing), live=live)

    def publish(self, channel: bytes, *counters: int) -> None:
        for counter in counters:
            self.hub.dispatch(channel, Message(str(counter)), counter)
        self.hub.flush()

    def catch_up(self, *found: Dispatched) -> None:
        """Let the first subject that is behind read what there is."""
        subject = self.behind.pop(0)
        assert subject.catch_up is not None
        for gap in subject.catch_up.unread():
            gap.take(
                found, max((each.counter or 0 for each in found), default=gap.first), more=False
            )
        self.hub.caught_up(subject)


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_stream_is_held_until_what_it_missed_has_been_read(node: Node) -> None:
    stream = node.open(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    node.hub.control(b"1", ADD, b"b")
    node.publish(b"a", 12)
    assert stream.received == []
    node.catch_up(entry(b"b", 11))
    node.publish(b"b", 13)
    assert stream.received == [11, 12, 13]
    assert node.behind == []


def test_a_held_stream_does_not_get_what_its_client_sent(node: Node) -> None:
    stream = node.open(b"a")
    stream.name = "mine"
    node.hub.control(b"1", GRANT, b"10 b")
    for counter, but in ((11, "mine"), (12, "other")):
        node.hub.dispatch(b"a", Message(str(counter), but=but), counter)
    node.hub.flush()
    node.catch_up(
        Dispatched(13, b"b", Message("13", but="mine")), Dispatched(14, b"b", Message("14"))
    )
    assert stream.received == [12, 14]


def test_streams_of_others_are_not_held(node: Node) -> None:
    node.open(b"a")
    other = node.open(b"a", subject=b"2")
    node.hub.control(b"1", GRANT, b"10 b")
    node.publish(b"a", 11)
    assert other.received == [11]


@pytest.mark.parametrize("before", ["opened", "connected", "caught up"])
def test_nothing_has_to_be_read_of_a_channel_that_is_subscribed_to(node: Node, before: str) -> None:
    stream = node.open(b"a")
    if before == "opened":
        node.open(b"b", subject=b"2")
    elif before == "connected":
        node.hub.control(b"2", ADD, b"b")
        node.open(b"c", subject=b"2")
        node.hub.control(b"2", ADD, b"b")
        node.hub.connected()
    else:
        node.open(b"c", subject=b"2")
        node.hub.control(b"2", GRANT, b"9 b")
        node.hub.channels[b"b"].is_subscribed = True  # As the broker does before it reads.
        node.catch_up()
    node.hub.control(b"1", GRANT, b"10 b")
    assert node.behind == []
    node.publish(b"b", 11)
    assert stream.received == [11]


def test_nothing_is_read_of_a_channel_that_nobody_told_the_counter_of(node: Node) -> None:
    # As from Ruby's library, or a counter that is none.
    stream = node.open(b"a")
    node.hub.control(b"1", ADD, b"b")
    node.hub.control(b"1", GRANT, b"x c")
    assert node.behind == []
    node.publish(b"c", 11)
    assert stream.received == [11]


def test_a_channel_granted_during_a_join_is_read_from_the_grant_on(node: Node) -> None:
    joining = node.join(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    stream = node.hub.open(joining, lambda: Stream(node.framing))
    node.publish(b"a", 12)
    node.catch_up(entry(b"b", 11))
    assert stream.received == [11, 12]


def test_a_channel_of_the_answer_needs_no_reading_though_its_grant_was_noted(node: Node) -> None:
    joining = node.hub.join()
    node.hub.control(b"1", GRANT, b"10 b")
    node.hub.expect(joining, b"1", b"token", {b"a": 0, b"b": 0})
    node.hub.open(joining, lambda: Stream(node.framing))
    assert node.behind == []


def test_a_held_stream_that_goes_back_has_nothing_from_before_a_grant(node: Node) -> None:
    """It goes back to where it began to be held, to get the past of another channel."""
    stream = node.open(b"a")
    node.open(b"c", subject=b"2")
    node.publish(b"a", 10)
    node.hub.control(b"1", GRANT, b"10 b")  # It is held, since nobody has listened to it here.
    node.publish(b"c", 11, 12)
    node.hub.control(b"1", GRANT, b"12 c")
    node.hub.control(b"1", PAST, b"20 d")
    subject = node.hub.subjects[b"1"]
    assert stream in subject.replaying
    assert subject.since == {b"b": 10, b"c": 12, b"d": 20}


def test_a_held_stream_that_goes_back_knows_nothing_of_what_was_withdrawn(node: Node) -> None:
    stream = node.open(b"a")
    node.hub.control(b"1", GRANT, b"10 b")  # It is held.
    node.hub.control(b"1", WITHDRAW, b"11 b")
    node.hub.control(b"1", PAST, b"20 d")
    subject = node.hub.subjects[b"1"]
    assert stream in subject.replaying
    assert subject.since == {b"d": 20}
    node.hub.go_live(stream)
    assert node.hub.is_live(stream) or subject.catch_up is not None


def test_a_channel_withdrawn_from_a_held_stream_is_held_for_it_no_more(node: Node) -> None:
    stream = node.open(b"a", b"c")
    node.open(b"c", subject=b"2")
    node.hub.control(b"1", GRANT, b"10 b")
    node.publish(b"c", 11)
    node.hub.control(b"1", WITHDRAW, b"11 c")
    node.publish(b"c", 12)
    node.catch_up()
    node.publish(b"c", 13)
    assert stream.received == [11]


def test_a_stream_that_opens_meanwhile_gets_what_came_since(node: Node) -> None:
    first = node.open(b"a")
    joining = node.join(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    node.publish(b"a", 11)
    second = node.hub.open(joining, lambda: Stream(node.framing))
    node.publish(b"a", 13)
    node.catch_up(entry(b"b", 12))
    assert first.received == [11, 12, 13]
    assert second.received == [12, 13]


def test_a_stream_that_opens_between_two_grants_gets_nothing_of_the_first(node: Node) -> None:
    first = node.open(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    # Message 11 is published to b, then the second stream is looked up.
    second = node.open(b"a", b"b")
    node.hub.control(b"1", GRANT, b"11 c")
    node.catch_up(entry(b"b", 11), entry(b"c", 12))
    assert first.received == [11, 12]
    assert second.received == [12]


def test_a_held_stream_whose_channels_are_all_gone_ends_when_it_has_got_its_due(
    node: Node,
) -> None:
    stream = node.open(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    node.publish(b"a", 11)
    node.hub.control(b"1", WITHDRAW, b"12 a")
    node.hub.control(b"1", WITHDRAW, b"12 b")
    assert stream.closed is None
    node.catch_up(entry(b"b", 12), entry(b"b", 13))
    assert stream.received == [11, 12]
    assert stream.closed is CloseReason.NO_CHANNELS


def test_a_held_stream_can_leave(node: Node) -> None:
    stream = node.open(b"a")
    other = node.open(b"a")
    node.hub.control(b"1", GRANT, b"10 b")
    node.hub.leave(stream)
    node.publish(b"a", 11)
    node.catch_up()
    assert (stream.received, other.received) == ([], [11])


def test_when_all_held_streams_have_left_nothing_is_held(node: Node) -> None:
    stream = node.open(b"a")
    node.open(b"a", subject=b"2")
    node.hub.control(b"1", GRANT, b"10 b")
    node.hub.leave(stream)
    node.publish(b"a", 11)
    node.hub.caught_up(node.behind.pop())


def test_streams_that_replay_read_for_themselves(node: Node) -> None:
    stream = node.open(b"a", live=False)
    node.hub.control(b"1", GRANT, b"10 b")
    assert node.behind == []
    node.hub.leave(stream)
    live, replaying = node.open(b"a"), node.open(b"a", live=False)
    assert live.subject is not None
    assert live.subject.replaying == {replaying}
    node.hub.leave(replaying)
    assert live.subject.replaying == set()


def test_while_redis_is_not_heard_nothing_has_to_be_caught_up_with(node: Node) -> None:
    # What was missed is read for all when it is there again.
    stream = node.open(b"a")
    node.hub.dispatch(b"a", Message("1"), 1)
    node.hub.disconnected()
    assert stream.received == [1]
    assert not node.hub.channels[b"a"].is_subscribed
    node.hub.control(b"1", GRANT, b"10 b")
    assert node.behind == []
    node.hub.connected()
    assert all(channel.is_subscribed for channel in node.hub.channels.values())


# The machine: a Redis that has to be told what to send, a hub, and reads that take their time

SUBJECTS = (b"1", b"2")
CHANNELS = (b"a", b"b", b"c", b"d")
SUBJECT = st.sampled_from(SUBJECTS)
CHANNEL = st.sampled_from(CHANNELS)
GROUPS = (b"g", b"h")
GROUP = st.sampled_from(GROUPS)


@dataclass(eq=False)
class Request:
    """Somebody who wants a stream."""

    joining: Joining
    subject: bytes
    stream: Stream
    answer: tuple[set[bytes], dict[bytes, Membership], int] | None = None


@dataclass(eq=False)
class Reader:
    """One catching up of a subject, as the daemon goes about it."""

    subject: Subject
    catch_up: CatchUp[object]
    #: What to do next, unless it waits for a barrier.
    step: Callable[[], None] | None = None
    gaps: list[Gap] = field(default_factory=list)


class CatchUpMachine(RuleBasedStateMachine):
    """Retained messages, and channels that come and go on the lists of open streams.

    `connection` holds what Redis has sent and nobody has handled yet, with barriers as calls.
    Every message has its own number, which is its counter as well as its data.
    """

    def __init__(self) -> None:
        super().__init__()
        # Redis
        self.lists: dict[bytes, set[bytes]] = {b"1": {b"a"}, b"2": {b"a", b"b"}}
        self.groups: dict[bytes, dict[bytes, int]] = {name: {} for name in GROUPS}
        self.joined: dict[bytes, dict[bytes, int]] = {subject: {} for subject in SUBJECTS}
        self.counter = 0
        self.retained: list[tuple[int, bytes]] = []
        self.subscribed: set[bytes] = set()
        self.connection: deque[Callable[[], None]] = deque()
        # The node
        self.changed: list[bytes] = []
        self.hub = kept(Keeper(self.changed.append, self.begin_reading), Counters(), Hub)
        self.hub.connected()
        self.framing = Lines()
        self.asked = 0
        self.requests: list[Request] = []
        self.streams: dict[Stream, bytes] = {}
        self.readers: list[Reader] = []

    # Redis

    @rule(channels=st.lists(CHANNEL, min_size=1, max_size=4))
    def publish(self, channels: list[bytes]) -> None:
        for channel in channels:
            self.counter += 1
            self.retained.append((self.counter, channel))
            if channel in self.subscribed:
                self.connection.append(self.message(channel, self.counter))
            for stream, subject in self.streams.items():
                if channel in self.heard(subject):
                    stream.due.append(self.counter)
            for request in self.requests:
                if request.answer is not None and channel in self.heard(request.subject):
                    request.stream.early.add(self.counter)

    def message(self, channel: bytes, counter: int) -> Callable[[], None]:
        return lambda: self.hub.dispatch(channel, Message(str(counter)), counter)

    @rule(subject=SUBJECT, channel=CHANNEL)
    def change_list(self, subject: bytes, channel: bytes) -> None:
        channels = self.lists[subject]
        channels ^= {channel}
        exact, plain = (GRANT, ADD) if channel in channels else (WITHDRAW, REMOVE)
        self.tell(subject, exact, b"%d %b" % (self.counter, channel))
        self.tell(subject, plain, channel)

    @rule(group=GROUP, channel=CHANNEL)
    def change_group(self, group: bytes, channel: bytes) -> None:
        if self.groups[group].pop(channel, None) is not None:
            self.tell(b"", GROUP_WITHDRAW, b"%d %b %b" % (self.counter, group, channel))
        else:
            self.groups[group][channel] = self.counter
            self.tell(b"", GROUP_GRANT, b"%d 0 %b %b" % (self.counter, group, channel))

    @rule(subject=SUBJECT, group=GROUP)
    def change_membership(self, subject: bytes, group: bytes) -> None:
        if self.joined[subject].pop(group, None) is not None:
            self.tell(subject, LEAVE, b"%d %b" % (self.counter, group))
        else:
            self.joined[subject][group] = self.counter
            listed = b"".join(b"\n%d %b" % (at, name) for name, at in self.groups[group].items())
            self.tell(subject, JOIN, b"%d 0 %b%b" % (self.counter, group, listed))

    def tell(self, subject: bytes, action: str, value: bytes) -> None:
        """Announce a change: whoever may listen to nothing now is at an end."""
        for stream, mine in self.streams.items():
            if not self.heard(mine) and stream.due_at_end is None:
                stream.due_at_end = len(stream.due)
        self.connection.append(lambda: self.hub.control(subject, action, value))

    def heard(self, subject: bytes) -> set[bytes]:
        """Return what a subject may listen to, by itself and by groups."""
        return self.lists[subject].union(*(self.groups[each] for each in self.joined[subject]))

    @rule()
    @precondition(lambda self: self.changed)
    def synchronize(self) -> None:
        """Subscribe to what is needed, as the broker does in the next turn or before a barrier."""
        changed, self.changed[:] = set(self.changed), []
        self.subscribed |= changed & self.hub.channels.keys()
        self.subscribed -= changed - self.hub.channels.keys()

    def barrier(self, then: Callable[[], None]) -> None:
        self.synchronize()
        self.connection.append(then)

    @rule(count=st.integers(1, 8), is_whole=st.booleans())
    @precondition(lambda self: self.connection)
    def deliver(self, count: int, is_whole: bool) -> None:
        for _ in range(min(count, len(self.connection))):
            self.connection.popleft()()
        if is_whole:
            self.hub.flush()
        self.check_ends()

    # Streams

    @rule(subject=SUBJECT)
    def one_asks(self, subject: bytes) -> None:
        self.asked += 1
        stream = Stream(self.framing, self.asked)
        self.requests.append(Request(self.hub.join(), subject, stream))

    @rule()
    @precondition(lambda self: any(each.answer is None for each in self.requests))
    def one_is_looked_up(self) -> None:
        request = next(each for each in self.requests if each.answer is None)
        memberships = {
            group: Membership(at, dict(self.groups[group]))
            for group, at in self.joined[request.subject].items()
        }
        request.answer = set(self.lists[request.subject]), memberships, self.counter

    @rule()
    @precondition(lambda self: any(each.answer is not None for each in self.requests))
    def one_is_admitted(self) -> None:
        request = next(each for each in self.requests if each.answer is not None)
        self.requests.remove(request)
        assert request.answer is not None
        own, memberships, position = request.answer
        answer = dict.fromkeys(own, 0)
        try:
            self.hub.expect(
                *(request.joining, request.subject, b"token", answer),
                memberships=memberships,
                position=position,
            )
        except Unauthorized:
            assert not own
            self.hub.abandon(request.joining)
        else:
            # Open from here on, though nobody knows it yet.
            self.streams[request.stream] = request.subject
            self.barrier(lambda: self.open(request))

    @rule(subject=SUBJECT)
    @precondition(lambda self: not self.requests)
    def one_arrives(self, subject: bytes) -> None:
        self.one_asks(subject)
        self.one_is_looked_up()
        self.one_is_admitted()

    @initialize()
    def two_are_there_already(self) -> None:
        for subject in SUBJECTS:
            self.one_arrives(subject)
        self.settle()

    def open(self, request: Request) -> None:
        try:
            self.hub.open(request.joining, lambda: request.stream)
        except Unauthorized:
            del self.streams[request.stream]

    @rule(data=st.data())
    @precondition(lambda self: self.opened())
    def one_leaves(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.opened()))
        self.hub.leave(stream)
        del self.streams[stream]

    def opened(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.subject is not None]

    def check_ends(self) -> None:
        """Whoever was ended has got all that was due."""
        for stream in [each for each in self.streams if each.closed is not None]:
            assert stream.closed is CloseReason.NO_CHANNELS
            assert stream.due_at_end is not None
            assert len(stream.late) >= stream.due_at_end
            assert stream.late == stream.due[: len(stream.late)]
            del self.streams[stream]

    # Reading what was missed

    def begin_reading(self, subject: Subject) -> None:
        assert subject.catch_up is not None
        reader = Reader(subject, subject.catch_up)  # type: ignore[arg-type]  # of any member
        self.readers.append(reader)
        self.read_next(reader)

    def read_next(self, reader: Reader) -> None:
        reader.step = None
        if reader.subject.catch_up is not reader.catch_up:
            self.readers.remove(reader)
            return
        reader.gaps = gaps = reader.catch_up.unread()
        if not gaps:
            self.readers.remove(reader)
            self.hub.caught_up(reader.subject)
            return
        names = {gap.channel for gap in gaps}
        channels = [self.hub.channels[name] for name in names if name in self.hub.channels]

        def ask() -> None:
            for channel in channels:
                channel.is_subscribed = True
            reader.step = lambda: self.answer(reader)

        if all(channel.is_subscribed for channel in channels):
            ask()
        else:
            self.barrier(ask)

    def answer(self, reader: Reader, page: int = 2) -> None:
        """Make the answer, at this instant of Redis: of each channel `page` messages at most."""
        reader.step = None
        gaps = reader.gaps
        ends = []
        entries = []
        for name in sorted({gap.channel for gap in gaps}):
            after = min(gap.after for gap in gaps if gap.channel == name)
            found = [each for each in self.retained if each[1] == name and each[0] > after]
            if len(found) > page:
                ends.append(found[page - 1][0])
            entries += [entry(name, counter) for counter, _ in found[:page]]
        end = min(ends, default=self.counter)
        entries = [each for each in sorted(entries) if (each.counter or 0) <= end]

        def take() -> None:
            for gap in gaps:
                gap.take(entries, end, more=bool(ends))
            self.read_next(reader)

        self.barrier(take)

    @rule(data=st.data())
    @precondition(lambda self: any(reader.step for reader in self.readers))
    def one_reads(self, data: st.DataObject) -> None:
        steps = [reader.step for reader in self.readers if reader.step is not None]
        data.draw(st.sampled_from(steps))()
        self.check_ends()

    @rule()
    def settle(self) -> None:
        """Let everything come to its end: now nothing may be missing."""
        for _ in range(1000):
            while self.connection:
                self.connection.popleft()()
            steps = [reader.step for reader in self.readers if reader.step is not None]
            if not steps:
                break
            for step in steps:
                step()
        assert self.readers == []
        self.hub.flush()
        self.check_ends()
        for stream in self.opened():
            assert stream.late == stream.due
            assert self.heard(self.streams[stream])

    @invariant()
    def each_stream_got_what_it_is_due_and_nothing_else(self) -> None:
        for stream in self.opened():
            assert stream.late == stream.due[: len(stream.late)]
            assert all(before < after for before, after in pairwise(stream.received))

    def teardown(self) -> None:
        self.settle()
        for request in self.requests:
            self.hub.abandon(request.joining)
        for stream in self.opened():
            self.hub.leave(stream)
        assert self.hub.channels == {}
        assert self.hub.subjects == {}


@pytest.mark.timeout(400)  # Where it fails, Hypothesis shortens the example for 300 s.
def test_whatever_happens_each_stream_gets_what_it_is_due_once_and_in_order() -> None:
    run_state_machine_as_test(
        CatchUpMachine,
        settings=settings(max_examples=250, stateful_step_count=60, deadline=None),
    )
