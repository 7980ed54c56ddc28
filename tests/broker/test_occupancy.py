"""Occupancy: a channel's first listener is told, and its last one's end, whatever nodes do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sinapse.broker.occupancy import OccupancyService
from sinapse.broker.presence import NAMES_PER_COMMAND, RENEWALS_PER_LEASE
from sinapse.protocol.keys import RESERVED
from sinapse.protocol.message import Message, pack
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import HOLD_PRESENCE, JOIN_PRESENCE, LEAVE_PRESENCE, Script
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.longpoll import Poll, position, waiting
from tests.support.presence import CHANNELS, Events, Node
from tests.support.proxy import Proxy, away
from tests.support.subscribing import subscribe

#: With these a channel is vacated, and a node is dead, after 5 seconds.
OPTIONS = ("--presence", "--retry", "0")


@pytest.fixture
def events(redis_client: redis.Redis) -> Iterator[Events]:
    with contextlib.closing(Events(redis_client, CHANNELS)) as events:
        yield events


def occupied(client: redis.Redis) -> set[bytes]:
    """Return the channels that some node has a listener of, as far as was told."""
    nodes = cast(list[bytes], client.zrange(PLAIN.occupancy, 0, -1))
    keys = [PLAIN.occupancy_key(node.decode()) for node in nodes]
    return set(cast(set[bytes], client.sunion(keys))) if keys else set()


def opened(daemon: Daemon, token: str) -> Stream:
    stream = daemon.stream(token)
    assert stream.next().event == "authentication"
    return stream


# The scripts, with the names of channels


def test_a_channel_with_listeners_on_several_nodes_is_told_once(
    redis_client: redis.Redis, events: Events
) -> None:
    one, two = (Node(redis_client, name, CHANNELS) for name in ("a1", "b2"))
    for node in (one, two):
        node.hold(begin=True)
    assert one.join("room:1", "room:2") == two.join("room:1") == 1
    assert occupied(redis_client) == {b"room:1", b"room:2"}
    one.leave("room:1")
    two.leave("room:1", "room:3")
    one.join("room:1")
    two.leave("room:1")
    events.wait_for(
        *(("occupied", each) for each in ("room:1", "room:2", "room:1")), ("vacated", "room:1")
    )


def test_channels_and_subjects_of_the_same_name_are_apart(redis_client: redis.Redis) -> None:
    with (
        contextlib.closing(Events(redis_client)) as of_subjects,
        contextlib.closing(Events(redis_client, CHANNELS)) as of_channels,
    ):
        subjects, channels = Node(redis_client, "a1"), Node(redis_client, "a1", CHANNELS)
        for node in (subjects, channels):
            node.hold(begin=True)
        subjects.join("1")
        channels.join("1")
        subjects.leave("1")
        of_subjects.wait_for(("join", "1"), ("leave", "1"))
        channels.die()
        assert subjects.sweep() == 0
        while channels.sweep():
            pass
        of_channels.wait_for(("occupied", "1"), ("vacated", "1"))
        assert subjects.hold() == 1


def test_a_name_that_is_no_text_is_told_as_it_is(redis_client: redis.Redis) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(PLAIN.occupied)
        eventually(
            lambda: dict(redis_client.pubsub_numsub(PLAIN.occupied))[PLAIN.occupied.encode()]
        )
        node = Node(redis_client, "a1", CHANNELS)
        node.hold(begin=True)
        node.join(b"\xff\n\0")
        message = eventually(lambda: heard.get_message(timeout=EVENT_TIMEOUT))
        assert message is not None
        assert message["data"] == b"\xff\n\0"


NODES = ("a1", "b2", "c3")
NAMES = ("1", "2", "3")

#: What happens: a node tells, dies, comes back under its lease, or sweeps one channel.
HAPPENING: st.SearchStrategy[tuple[str, str, set[str]]] = st.one_of(
    st.tuples(
        st.sampled_from(("join", "leave")), st.sampled_from(NODES), st.sets(st.sampled_from(NAMES))
    ),
    st.tuples(st.sampled_from(("die", "begin", "sweep")), st.sampled_from(NODES), st.just(set())),
)


@settings(max_examples=50)
@given(happenings=st.lists(HAPPENING, max_size=30))
def test_whatever_nodes_do_both_are_told_in_turn(
    redis_of_module: RedisServer, happenings: list[tuple[str, str, set[str]]]
) -> None:
    with (
        redis_of_module.client() as client,
        contextlib.closing(Events(client, CHANNELS)) as events,
    ):
        client.flushall()
        nodes = {name: Node(client, name, CHANNELS) for name in NODES}
        for node in nodes.values():
            node.hold(begin=True)
        for what, name, channels in happenings:
            node = nodes[name]
            if what == "begin":
                # Under a name that was swept, or never used.
                if client.zscore(PLAIN.occupancy, name) is None:
                    node.hold(begin=True)
            elif what == "die":
                if node.hold():
                    node.die()
            elif what == "sweep":
                node.sweep(1)
            elif channels:
                getattr(node, what)(*sorted(channels))
        told = events.take()
        for channel in NAMES:
            kinds = [kind for kind, name in told if name == channel]
            assert kinds == [["occupied", "vacated"][number % 2] for number in range(len(kinds))]
            assert (channel.encode() in occupied(client)) == (len(kinds) % 2 == 1)


# The service, on a clock


class Slow:
    """A broker whose Redis takes its time for each step."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.names = PLAIN
        self.interest_watchers: list[Any] = []
        self.asked: list[tuple[Script, list[Any]]] = []
        self.renewed: list[float] = []

    async def when_ready(self) -> None:
        """Be there at once."""

    async def barrier(self) -> None:
        """Note what was asked for first."""
        self.asked.append((Script("barrier"), []))

    async def run(self, script: Script, _keys: Sequence[str], arguments: Sequence[Any]) -> int:
        """Take a moment, and say that all is well, and that there is nothing to sweep."""
        self.clock.rightNow += self.seconds
        self.asked.append((script, list(arguments)))
        if script is HOLD_PRESENCE:
            self.renewed.append(self.clock.seconds())
        return int(script in (HOLD_PRESENCE, JOIN_PRESENCE, LEAVE_PRESENCE))

    def told(self, script: Script, fixed: int) -> list[list[bytes]]:
        """Return the names in each step of a script, without its first arguments."""
        return [arguments[fixed:] for asked, arguments in self.asked if asked is script]


def test_many_are_told_in_steps_between_which_the_lease_is_renewed() -> None:
    clock, lease = Clock(), 6
    broker = Slow(clock, 0.1)
    service = OccupancyService(cast(Any, broker), lease, clock)
    channels = [b"%d" % number for number in range(50_000)]
    for channel in channels:
        for watcher in broker.interest_watchers:
            watcher(channel, True)
    service.startService()
    steps = broker.told(JOIN_PRESENCE, 4)
    assert [name for step in steps for name in step] == channels
    assert max(map(len, steps)) == NAMES_PER_COMMAND
    # The node hears all of them before anybody is told.
    assert [script.name for script, _ in broker.asked][:3] == [
        "hold_presence",
        "barrier",
        "join_presence",
    ]
    pauses = [
        later - before for before, later in zip(broker.renewed, broker.renewed[1:], strict=False)
    ]
    assert len(pauses) > 5
    assert max(pauses) < lease / RENEWALS_PER_LEASE + 0.5
    service.stopService()


def test_a_channel_that_is_needed_again_in_time_was_never_vacated() -> None:
    clock, lease = Clock(), 6
    broker = Slow(clock, 0)
    service = OccupancyService(cast(Any, broker), lease, clock)
    [watcher] = broker.interest_watchers
    service.startService()

    def wait(seconds: float) -> None:
        clock.pump([0.1] * round(seconds * 10))

    watcher(b"room:1", True)
    wait(1)
    for _ in range(3):
        watcher(b"room:1", False)
        wait(lease - 1)
        watcher(b"room:1", True)
        wait(1)
    assert broker.told(JOIN_PRESENCE, 4) == [[b"room:1"]]
    assert broker.told(LEAVE_PRESENCE, 3) == []
    watcher(b"room:1", False)
    wait(lease + 1)
    assert broker.told(LEAVE_PRESENCE, 3) == [[b"room:1"]]
    service.stopService()


# Daemons


def test_of_two_nodes_the_first_listener_is_told_and_the_end_of_the_last(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    token = subscribe(publisher)
    with (
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as one,
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as other,
    ):
        with opened(one, token) as first, opened(other, token) as second:
            eventually(lambda: publisher.audience("room:1").nodes == 2)
            events.wait_for(("occupied", "room:1"))
            publisher.channels.add("1", "room:2")
            events.wait_for(("occupied", "room:1"), ("occupied", "room:2"))
            publisher.channels.remove("1", "room:2")
            expected = [("occupied", "room:1"), ("occupied", "room:2"), ("vacated", "room:2")]
            events.wait_for(*expected)
            first.close()
            eventually(lambda: publisher.audience("room:1").nodes == 1)
            second.close()
            events.wait_for(*expected, ("vacated", "room:1"))
        for daemon in (one, other):
            assert "Traceback" not in daemon.log


def test_who_hears_that_a_channel_is_occupied_is_heard_there(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, redis_client: redis.Redis
) -> None:
    with (
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as daemon,
        redis_client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.subscribe(PLAIN.occupied)
        for number in range(10):
            name = f"room:{number}"
            token = subscribe(publisher, name, subject=str(number))
            with daemon.stream(token) as stream:
                message = eventually(lambda: heard.get_message(timeout=EVENT_TIMEOUT))
                assert message is not None
                assert message["data"].decode() == name
                # Not retained, so it comes only where somebody listens already.
                assert redis_client.publish(name, pack(Message("hello"))) == 1
                stream.wait_for_message("hello")


def test_the_channels_of_a_node_that_is_killed_are_vacated_by_the_other(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    tokens = [subscribe(publisher, f"room:{each}", "both", subject=each) for each in ("1", "2")]
    with (
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as one,
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as other,
        opened(one, tokens[0]),
        opened(other, tokens[1]),
    ):
        told = [("occupied", each) for each in ("room:1", "room:2", "both")]
        events.wait_for(*told)
        assert one.process is not None
        one.process.kill()
        events.wait_for(*told, ("vacated", "room:1"))
        assert publisher.audience("both").nodes == 1
        assert "Traceback" not in other.log


def leases(client: redis.Redis) -> dict[bytes, float]:
    """Return until when each node is there, in milliseconds since 1970."""
    return dict(
        cast(list[tuple[bytes, float]], client.zrange(PLAIN.occupancy, 0, -1, withscores=True))
    )


@pytest.mark.parametrize("is_long", [False, True], ids=["within its lease", "longer than that"])
def test_a_reconnection_tells_nothing_twice(
    tmp_path: Path,
    redis_client: redis.Redis,
    proxy: Proxy,
    publisher: Publisher,
    events: Events,
    *,
    is_long: bool,
) -> None:
    with running_daemon(tmp_path, proxy.url, *OPTIONS) as daemon:
        with opened(daemon, subscribe(publisher, "room:1", "room:2")):
            told = [("occupied", "room:1"), ("occupied", "room:2")]
            events.wait_for(*told)
            [(former, lease)] = leases(redis_client).items()
            with away(proxy):
                if is_long:
                    eventually(lambda: time_of(redis_client) > leases(redis_client)[former])
            if is_long:
                eventually(
                    lambda: len(leases(redis_client)) == 1 and former not in leases(redis_client)
                )
            else:
                eventually(lambda: max(leases(redis_client).values()) > lease)
            # What is told of another channel comes after all that was told of these.
            publisher.channels.add("1", "room:3")
            told.append(("occupied", "room:3"))
            events.wait_for(*told)
        events.wait_for(*told, *(("vacated", name) for _, name in told))
        assert "Traceback" not in daemon.log


def wait_for_a_renewal(client: redis.Redis) -> None:
    """Return when a node has renewed its lease: it has looked before at what has come and gone."""
    former = max(leases(client).values())
    eventually(lambda: max(leases(client).values()) > former)


def time_of(client: redis.Redis) -> float:
    """Return the time of Redis, in milliseconds since 1970."""
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds / 1000


def test_a_redis_that_starts_again_tells_nothing_twice(tmp_path: Path) -> None:
    """Right then nobody is subscribed to anything: that is no end of any listener."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        running_redis(tmp_path, *options) as server,
        server.client() as client,
        Publisher(server.url) as publisher,
        running_daemon(tmp_path, server.url, "--presence") as one,
        running_daemon(tmp_path, server.url, "--presence") as other,
        opened(one, subscribe(publisher, "room:1", subject="1")),
        opened(other, subscribe(publisher, "room:2", subject="2")),
    ):
        eventually(lambda: occupied(client) == {b"room:1", b"room:2"})
        former = leases(client)
        server.kill()
        server.start()
        with contextlib.closing(Events(client, CHANNELS)) as events:
            # Each is there again, and has looked for nodes that are not.
            eventually(
                lambda: (
                    len(now := leases(client)) == len(former)
                    and min(now.values()) > max(former.values())
                )
            )
            publisher.channels.add("1", "room:3")
            events.wait_for(("occupied", "room:3"))


def test_the_pause_between_two_long_polls_is_no_absence(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    token = subscribe(publisher)
    with (
        running_daemon(tmp_path, redis_server.url, *OPTIONS) as daemon,
        redis_server.client() as client,
    ):
        after = position(daemon, token)
        for number in range(2):
            with waiting(daemon, token, after) as poll:
                eventually(lambda: occupied(client) == {b"room:1"})
                publisher.publish("room:1", f"{number}", retain=60)
                status, items = poll.answer()
            assert status == 200
            after = items[-1]["id"]
            eventually(lambda: publisher.audience("room:1").nodes == 0)
            # The daemon has looked at what has come and gone before it renews its lease.
            wait_for_a_renewal(client)
        # What is told of another channel comes after all that was told of this one.
        publisher.channels.add("1", "room:2")
        with contextlib.closing(Poll(daemon, token, after).connection):
            events.wait_for(("occupied", "room:1"), ("occupied", "room:2"))


def test_a_channel_whose_name_is_no_text_does_no_harm(
    tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    redis_client.sadd(PLAIN.channels_key("1"), b"\xff\xfe")
    with running_daemon(tmp_path, redis_server.url, *OPTIONS) as daemon:
        with opened(daemon, token):
            eventually(lambda: occupied(redis_client) == {b"room:1", b"\xff\xfe"})
        eventually(lambda: not occupied(redis_client))
        assert "Traceback" not in daemon.log


def test_thousands_of_channels_are_told_and_vacated(
    tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    names = [b"room:%d" % number for number in range(50_000)]
    for start in range(0, len(names), 5_000):
        redis_client.sadd(PLAIN.channels_key("1"), *names[start : start + 5_000])
    with running_daemon(tmp_path, redis_server.url, *OPTIONS) as daemon:
        with opened(daemon, token):
            eventually(lambda: len(occupied(redis_client)) == len(names))
        eventually(lambda: not occupied(redis_client))
        assert "Traceback" not in daemon.log


def test_of_several_redis_each_tells_of_its_own_channels(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_redis(folder)) for folder in folders]
        clients = [stack.enter_context(server.client()) for server in servers]
        heard = [
            stack.enter_context(contextlib.closing(Events(client, CHANNELS))) for client in clients
        ]
        urls = " ".join(server.url for server in servers)
        daemon = stack.enter_context(running_daemon(tmp_path, urls, *OPTIONS))
        publisher = stack.enter_context(Publisher(urls))
        names = [f"room:{number}" for number in range(8)]
        own = [
            [name for name in names if shard_of(name.encode(), len(servers)) == number]
            for number in range(len(servers))
        ]
        assert all(own)
        with opened(daemon, subscribe(publisher, *names)):
            for events, some in zip(heard, own, strict=True):
                events.wait_for(*(("occupied", name) for name in some))
        for events, some in zip(heard, own, strict=True):
            events.wait_for(*((kind, name) for kind in ("occupied", "vacated") for name in some))


def test_without_presence_nothing_is_told_or_written(
    daemon: Daemon, redis_client: redis.Redis, publisher: Publisher
) -> None:
    patterns = (PLAIN.occupied, PLAIN.vacated)
    with redis_client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(*patterns)
        with daemon.stream(subscribe(publisher)).opened() as stream:
            publisher.publish("room:1", "hello")
            stream.wait_for_message("hello")
        eventually(lambda: publisher.audience("room:1").nodes == 0)
        assert heard.get_message(timeout=0.5) is None
    assert redis_client.keys(f"{RESERVED}presence*") == []
