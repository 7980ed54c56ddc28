"""Retained messages, read for many at once: each gets what it wants, once, in order, to the end.

Redis and its scripts are real; who asks them does not wait, so that the tests need no reactor.
Pages are of three messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute

from sinapse.broker import history
from sinapse.broker.history import History
from sinapse.broker.lookup import Lookup
from sinapse.counters import Counters
from sinapse.hub.hub import Hub
from sinapse.protocol.keys import HORIZON
from sinapse.protocol.message import Message, pack_retained, unpack
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import PUBLISH_RETAINED, Script
from tests.support import RedisServer
from tests.support.hubs import Keeper, kept

PAGE = 3
CHANNELS = [f"history:{number}".encode() for number in range(4)]


class Direct(Lookup):
    """A connection that answers at once, after `before` was called with a script's keys."""

    def __init__(self, client: redis.Redis) -> None:  # Not that of a protocol: nothing is dialled.
        self.names = PLAIN
        self.client = client
        self.before: Callable[[Sequence[Any]], None] = lambda _keys: None
        self.calls = 0

    def run(
        self, script: Script, keys: Sequence[Any], arguments: Sequence[Any] = ()
    ) -> Deferred[Any]:
        self.before(keys)
        self.calls += 1
        return execute(self.client.eval, script.source, len(keys), *keys, *arguments)


@dataclass
class Reads:
    """A history on a Redis of its own, and what was published."""

    client: redis.Redis
    counters: Counters = field(default_factory=Counters)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key in self.client.scan_iter():
            self.client.delete(key)
        self.client.hset(PLAIN.retention, mapping={"counter": 0, "epoch": "1f", "run": "x"})
        self.hub = kept(Keeper(), self.counters, Hub)
        self.hub.epoch = "1f"
        self.lookup = Direct(self.client)
        #: Resumed one after another, so that those who wait do so at the same time.
        self.barriers: list[Deferred[None]] = []
        self.history = History(self.hub, self.counters, self._barrier, unpack, self.warnings.append)
        self.published: list[tuple[int, bytes]] = []

    async def _barrier(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.barriers.append(waiting)
        await waiting

    def publish(self, channel: bytes, *, most: int = 1000, retain: int = 60_000) -> None:
        self.client.eval(
            PUBLISH_RETAINED.source,
            5,
            *(
                PLAIN.retention,
                PLAIN.epochs,
                PLAIN.last,
                PLAIN.checkpoints,
                PLAIN.retained_key(channel.decode()),
            ),
            *(channel, pack_retained(Message("x")), retain, most, PLAIN.nodes, HORIZON),
        )
        counter = int(self.client.hget(PLAIN.retention, "counter") or 0)
        self.published.append((counter, channel))

    def left(self, channel: bytes) -> set[int]:
        entries: Any = self.client.xrange(PLAIN.retained_key(channel.decode()))
        return {int(name.partition(b"-")[0]) for name, _ in entries}

    def run(self) -> None:
        """Let everything go on until nobody waits any more."""
        for _ in range(10_000):
            if not self.barriers:
                return
            self.barriers.pop(0).callback(None)
        raise AssertionError("it goes on for ever")


@dataclass
class Reader:
    """Somebody who resumes after a counter, as a replay does."""

    wants: dict[bytes, int]
    received: list[tuple[int, bytes]] = field(default_factory=list)
    gone: dict[bytes, int] = field(default_factory=dict)
    ended: bool = False
    parts: int = 0
    bodies: list[Any] = field(default_factory=list)

    async def read(self, reads: Reads) -> None:
        wants = dict(self.wants)
        while not self.ended:
            part = await reads.history.read(reads.lookup, wants)
            self.parts += 1
            self.bodies.append(part.bodies)
            for name, upto in part.gone.items():
                self.gone[name] = max(upto, self.gone.get(name, 0))
            self.received += [(each.counter or 0, each.channel) for each in part.entries]
            assert all(
                each.message and each.message.id == f"1f-{each.counter}" for each in part.entries
            )
            assert part.after >= min(wants.values())
            wants = {name: max(after, part.after) for name, after in wants.items()}
            self.ended = not part.more


@pytest.fixture(scope="module")
def redis_process(redis_of_module: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its data."""
    return redis_of_module


@pytest.fixture
def reads(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Reads:
    monkeypatch.setattr(history, "PAGE_MESSAGES", PAGE)
    monkeypatch.setattr(history, "FULL_PAGES", 1)
    return Reads(redis_client)


def begin(reads: Reads, *readers: Reader) -> None:
    for reader in readers:
        Deferred.fromCoroutine(reader.read(reads))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    channels=st.lists(st.sampled_from(CHANNELS), max_size=40),
    most=st.sampled_from((4, 1000)),
    places=st.lists(
        st.dictionaries(st.sampled_from(CHANNELS), st.integers(0, 40), min_size=1), max_size=6
    ),
)
def test_everybody_gets_what_it_wants_once_and_in_order_whoever_else_reads(
    reads: Reads, channels: list[bytes], most: int, places: list[dict[bytes, int]]
) -> None:
    """One is always far behind."""
    reads.__post_init__()
    for channel in channels:
        reads.publish(channel, most=most)
    places = [{name: min(at, len(channels)) for name, at in each.items()} for each in places]
    readers = [Reader(wants) for wants in ({CHANNELS[0]: 0}, *places)]
    begin(reads, *readers)
    reads.run()
    for reader in readers:
        assert reader.ended
        wanted = [
            (counter, name)
            for counter, name in reads.published
            if name in reader.wants and counter > reader.wants[name]
        ]
        assert reader.received == [each for each in wanted if each[0] in reads.left(each[1])]
        missing = {name for counter, name in wanted if counter not in reads.left(name)}
        assert set(reader.gone) == missing


def test_who_has_everything_does_not_wait_for_who_is_far_behind(reads: Reads) -> None:
    for _ in range(30):
        reads.publish(CHANNELS[0])
    behind, there = Reader({CHANNELS[0]: 0}), Reader({CHANNELS[0]: 30, CHANNELS[1]: 30})
    begin(reads, behind, there)
    # The first round had begun already; the second one they share.
    for _ in range(2):
        reads.barriers.pop(0).callback(None)
    assert (behind.parts, there.parts) == (2, 0)
    # The next one is that of those who are further on.
    reads.barriers.pop(0).callback(None)
    assert (there.ended, there.received, there.gone) == (True, [], {})
    reads.run()
    assert [counter for counter, _ in behind.received] == list(range(1, 31))


def test_many_at_the_same_place_share_their_reads(reads: Reads) -> None:
    for _ in range(6):
        reads.publish(CHANNELS[0])
    readers = [Reader({CHANNELS[0]: 0}) for _ in range(50)]
    begin(reads, *readers)
    reads.run()
    assert all(len(reader.received) == 6 for reader in readers)
    # The first had nobody to share its first one with.
    assert reads.counters.history_reads <= 6
    # What one of them has encoded the others need not.
    assert len({id(bodies) for reader in readers for bodies in reader.bodies}) <= 6


def test_what_is_trimmed_between_two_commands_of_a_round_was_not_wanted(
    reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the round began, and is heard."""
    monkeypatch.setattr(history, "CHANNELS_PER_READ", 2)
    for channel in CHANNELS:
        reads.publish(channel)
    last = reads.published[-1][0]

    def before(keys: Sequence[Any]) -> None:
        if PLAIN.retained_key(CHANNELS[3].decode()).encode() in keys:
            for _ in range(5):
                reads.publish(CHANNELS[3], most=2)

    reads.lookup.before = before
    lost = Reader(dict.fromkeys(CHANNELS, 0))
    begin(reads, lost)
    reads.run()
    # That one was there when the round began, and is not any more.
    assert set(lost.gone) == {CHANNELS[3]}
    reads.client.delete(PLAIN.retained_key(CHANNELS[3].decode()))
    nothing = Reader(dict.fromkeys(CHANNELS, last))
    nothing.wants[CHANNELS[3]] = reads.published[-1][0]
    begin(reads, nothing)
    reads.run()
    assert nothing.gone == {}


def test_what_cannot_be_read_is_missing_and_nothing_else(reads: Reads) -> None:
    reads.publish(CHANNELS[0])
    reads.client.set(PLAIN.retained_key(CHANNELS[1].decode()), "no stream")
    reader = Reader(dict.fromkeys(CHANNELS, 0))
    begin(reads, reader)
    reads.run()
    assert reader.received == [(1, CHANNELS[0])]
    assert reader.gone == {CHANNELS[1]: 1}
    assert reads.counters.invalid_payloads == 1
    assert "history:1" in reads.warnings[0]


class TestAlone:
    """What a node reads that has lost Redis."""

    def read(self, reads: Reads, after: int) -> tuple[list[tuple[int, bytes]], dict[bytes, int]]:
        received: list[tuple[int, bytes]] = []
        gone: dict[bytes, int] = {}

        async def read() -> None:
            last_ids = await reads.lookup.last_ids(reads.hub.channels)
            async for portion in reads.history.read_alone(reads.lookup, after, last_ids):
                gone.update(portion.gone)
                received.extend((each.counter or 0, each.channel) for each in portion.entries)

        failures: list[object] = []
        Deferred.fromCoroutine(read()).addErrback(failures.append)
        assert not failures
        return received, gone

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        channels=st.lists(st.sampled_from(CHANNELS), max_size=60),
        after=st.integers(0, 60),
        most=st.sampled_from((2, 7, 1000)),
    )
    def test_all_that_was_missed_comes_once_and_in_order(
        self, reads: Reads, channels: list[bytes], after: int, most: int
    ) -> None:
        reads.__post_init__()
        for channel in CHANNELS:
            reads.hub._hold(channel)
        for channel in channels:
            reads.publish(channel, most=most)
        after = min(after, len(channels))
        received, gone = self.read(reads, after)
        wanted = [each for each in reads.published if each[0] > after]
        assert received == [each for each in wanted if each[0] in reads.left(each[1])]
        assert set(gone) == {name for counter, name in wanted if counter not in reads.left(name)}

    def test_it_costs_what_was_missed_and_not_what_is_listened_to(self, reads: Reads) -> None:
        for number in range(3000):
            reads.hub._hold(b"quiet:%d" % number)
        reads.hub._hold(CHANNELS[0])
        reads.client.zadd(PLAIN.last, {f"quiet:{number}": 0 for number in range(3000)})
        for _ in range(30):
            reads.publish(CHANNELS[0])
        received, gone = self.read(reads, 0)
        assert (len(received), gone) == (30, {})
        assert reads.counters.history_reads == 30 // PAGE
