"""Catching up: a channel that is new to a node loses nothing, and nothing comes twice or late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sinapse.audience import Subject
from sinapse.catchup import CatchUp, Dispatched, Gap
from sinapse.counters import Counters
from sinapse.errors import CloseReason, Unauthorized
from sinapse.hub import Hub
from sinapse.joining import Joining
from sinapse.keys import ADD, GRANT, REMOVE, WITHDRAW
from sinapse.message import Message


def entry(channel: bytes, counter: int | None, data: str | None = None) -> Dispatched:
    return Dispatched(counter, channel, Message(data or str(counter)))


def got(catch_up: CatchUp[str], member: str = "stream") -> list[str]:
    return [each.message.data for each in catch_up.messages_for(member)]


@pytest.fixture
def catch_up() -> CatchUp[str]:
    """One stream that is held from the beginning."""
    catch_up = CatchUp[str]()
    catch_up.members["stream"] = 0
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
    for gap in catch_up.unread():
        gap.take([entry(b"b", counter) for counter in range(11, 17)], 16, more=False)
    assert got(catch_up) == ["11", "12", "15", "16"]


def test_a_stream_that_was_held_later_gets_what_came_since(catch_up: CatchUp[str]) -> None:
    catch_up.open_gap(b"b", 10)
    catch_up.held += [entry(b"a", 11)]
    catch_up.members["later"] = 1
    catch_up.open_gap(b"c", 11)
    catch_up.held += [entry(b"a", 13)]
    first, second = catch_up.unread()
    first.take([entry(b"b", 12)], 13, more=False)
    second.take([entry(b"c", 14)], 14, more=False)
    assert got(catch_up) == ["11", "12", "13", "14"]
    assert got(catch_up, "later") == ["13", "14"]


# The machine: a Redis that has to be told what to send, a hub, and reads that take their time

SUBJECTS = (b"1", b"2")
CHANNELS = (b"a", b"b", b"c")
SUBJECT = st.sampled_from(SUBJECTS)
CHANNEL = st.sampled_from(CHANNELS)


class Lines:
    """A framing of one line a message."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        return b"".join(b"%b %b\n" % (channel, each.data.encode()) for each in messages)

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        raise AssertionError("nothing is missing")


@dataclass(eq=False)
class Stream:
    """A subscriber, and what it is due since it opened."""

    framing: Lines
    number: int
    token: bytes = b"token"
    subject: Subject | None = None
    closed: CloseReason | None = None
    received: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    #: Published between the look-up and the barrier: these may come.
    early: set[int] = field(default_factory=set)
    #: How much was due when its subject had no channel any more, for the first time.
    due_at_end: int | None = None

    def __hash__(self) -> int:
        return self.number

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


@dataclass(eq=False)
class Request:
    """Somebody who wants a stream."""

    joining: Joining
    subject: bytes
    stream: Stream
    answer: set[bytes] | None = None


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
        self.counter = 0
        self.retained: list[tuple[int, bytes]] = []
        self.subscribed: set[bytes] = set()
        self.connection: deque[Callable[[], None]] = deque()
        # The node
        self.hub = Hub(Counters())
        self.changed: list[bytes] = []
        self.hub.interest_changed = self.changed.append
        self.hub.catch_up_needed = self.begin_reading
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
                if channel in self.lists[subject]:
                    stream.due.append(self.counter)
            for request in self.requests:
                if request.answer is not None and channel in self.lists[request.subject]:
                    request.stream.early.add(self.counter)

    def message(self, channel: bytes, counter: int) -> Callable[[], None]:
        return lambda: self.hub.dispatch(channel, Message(str(counter)), counter)

    @rule(subject=SUBJECT, channel=CHANNEL)
    def change_list(self, subject: bytes, channel: bytes) -> None:
        channels = self.lists[subject]
        channels ^= {channel}
        for stream, mine in self.streams.items():
            if mine == subject and not channels and stream.due_at_end is None:
                stream.due_at_end = len(stream.due)
        exact, plain = (GRANT, ADD) if channel in channels else (WITHDRAW, REMOVE)
        value = b"%d %b" % (self.counter, channel)
        self.connection.append(lambda: self.hub.control(subject, exact, value))
        self.connection.append(lambda: self.hub.control(subject, plain, channel))

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
        request.answer = set(self.lists[request.subject])

    @rule()
    @precondition(lambda self: any(each.answer is not None for each in self.requests))
    def one_is_admitted(self) -> None:
        request = next(each for each in self.requests if each.answer is not None)
        self.requests.remove(request)
        answer = request.answer or set()
        try:
            self.hub.admit(request.joining, request.subject, b"token", answer)
        except Unauthorized:
            assert not answer
            self.hub.abandon(request.joining)
        else:
            # Open from here on, though nobody knows it yet.
            self.streams[request.stream] = request.subject
            self.barrier(lambda: self.open(request))

    @initialize()
    def two_are_there_already(self) -> None:
        for subject in SUBJECTS:
            self.one_asks(subject)
            self.one_is_looked_up()
            self.one_is_admitted()
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
        while self.connection or any(reader.step for reader in self.readers):
            while self.connection:
                self.connection.popleft()()
            for step in [reader.step for reader in self.readers if reader.step is not None]:
                step()
        self.hub.flush()
        self.check_ends()
        for stream in self.opened():
            assert stream.late == stream.due

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


TestCatchUp = CatchUpMachine.TestCase
TestCatchUp.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
