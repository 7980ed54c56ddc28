"""Presence: who is there, on which node whatever, and when a node has died."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sinapse.errors import InvalidChannel, InvalidSubject
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher, aio
from tests.support import RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.presence import HOUR, Events, Node


@pytest.fixture
def events(redis_client: redis.Redis) -> Iterator[Events]:
    with contextlib.closing(Events(redis_client)) as events:
        yield events


@pytest.fixture
def nodes(redis_client: redis.Redis) -> list[Node]:
    nodes = [Node(redis_client, name) for name in ("a1", "b2", "c3")]
    for node in nodes:
        node.hold(begin=True)
    return nodes


# The scripts


def test_a_subject_on_several_nodes_joins_once_and_leaves_once(
    nodes: list[Node], events: Events, publisher: Publisher
) -> None:
    one, two, _ = nodes
    assert one.join("1", "2") == two.join("1") == 1
    assert one.join("1") == 1  # Said again, it is not told again.
    assert publisher.online("1")
    one.leave("1")
    assert publisher.online("1")
    two.leave("1")
    two.leave("1", "nobody")
    assert not publisher.online("1")
    events.wait_for(("join", "1"), ("join", "2"), ("leave", "1"))


def test_a_node_that_is_gone_is_not_asked_and_its_leaves_are_told_once(
    nodes: list[Node], events: Events, publisher: Publisher, redis_client: redis.Redis
) -> None:
    one, two, three = nodes
    one.join("1", "2", "3")
    two.join("2")
    one.die()
    assert [publisher.online(each) for each in "123"] == [False, True, False]
    assert one.join("4") == one.leave("1") == one.hold() == 0
    # Whoever comes first, and in steps.
    while two.sweep(1) or three.sweep(1):
        pass
    events.wait_for(*(("join", each) for each in "123"), *(("leave", each) for each in "13"))
    assert redis_client.zrange(PLAIN.presence, 0, -1) == [b"b2", b"c3"]
    assert not redis_client.exists(PLAIN.presence_key("a1"))


def test_who_comes_back_before_it_is_told_that_the_node_is_gone_was_never_away(
    nodes: list[Node], events: Events, publisher: Publisher
) -> None:
    one, two, three = nodes
    one.join("1")
    one.die()
    two.join("1")
    assert publisher.online("1")
    while three.sweep():
        pass
    events.wait_for(("join", "1"))


def test_of_two_nodes_that_die_together_leaves_are_told_once(
    nodes: list[Node], events: Events
) -> None:
    one, two, three = nodes
    one.join("1")
    two.join("1")
    one.die()
    two.die()
    while three.sweep():
        pass
    events.wait_for(("join", "1"), ("leave", "1"))


def test_nothing_is_kept_for_ever(nodes: list[Node], redis_client: redis.Redis) -> None:
    nodes[0].join("1")
    for key in (PLAIN.presence, PLAIN.presence_key("a1")):
        assert 0 < redis_client.pttl(key) <= HOUR


def test_who_is_there_and_may_listen_is_found_page_by_page(
    nodes: list[Node], publisher: Publisher
) -> None:
    everybody = [str(number) for number in range(2000)]
    for number, node in enumerate(nodes):
        for start in range(0, 1500, 500):
            node.join(*everybody[number * 200 + start : number * 200 + start + 500])
    members = everybody[::7]
    for member in members:
        publisher.channels.add(member, "room:1")
    publisher.channels.add("not there", "room:1")
    assert publisher.online_in("room:1") == {each for each in members if int(each) < 1900}
    nodes[2].die()
    assert publisher.online_in("room:1") == {each for each in members if int(each) < 1700}
    assert publisher.online_in("room:2") == set()
    assert publisher.audience("room:1") == (0, sum(int(each) < 1700 for each in members))


def test_the_audience_of_a_channel_is_counted(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    publisher.channels.add("1", "room:1")
    assert publisher.audience("room:1") == (0, None)
    with daemon.stream(publisher.tokens.generate("1")).opened():
        assert publisher.audience("room:1") == (1, None)
        assert publisher.audience("room:1").nodes == publisher.publish("room:1", "hello")
        node = Node(redis_client, "n")
        node.hold(begin=True)
        node.join("1", "2")
        assert publisher.audience("room:1") == (1, 1)
        assert publisher.audience("room:2") == (0, 0)


def test_it_can_be_asked_from_asyncio_as_well(
    nodes: list[Node], publisher: Publisher, redis_server: RedisServer
) -> None:
    nodes[0].join("1", "2")
    publisher.channels.add("1", "room:1")

    async def ask() -> None:
        async with aio.Publisher(redis_server.url) as asked:
            assert await asked.online("1")
            assert not await asked.online("3")
            assert await asked.online_in("room:1") == {"1"}

    asyncio.run(ask())


def test_what_is_no_subject_and_no_channel_is_refused(publisher: Publisher) -> None:
    with pytest.raises(InvalidSubject):
        publisher.online("")
    with pytest.raises(InvalidChannel):
        publisher.online_in("sinapse:x")
    with pytest.raises(InvalidChannel):
        publisher.audience("sinapse:x")
    assert not publisher.online("1")  # Where no node tells, nobody is there.


# Daemons


def open_stream(daemon: Daemon, publisher: Publisher, subject: str) -> Stream:
    publisher.channels.add(subject, "room:1")
    token = publisher.tokens.get(subject) or publisher.tokens.generate(subject)
    stream = daemon.stream(token)
    assert stream.next().event == "authentication"
    return stream


def test_a_node_that_is_killed_is_gone_and_the_other_tells(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    options = ("--presence", "--retry", "0")
    publisher.channels.add("elsewhere", "room:1")
    with (
        running_daemon(tmp_path, redis_server.url, *options) as one,
        running_daemon(tmp_path, redis_server.url, *options) as other,
        open_stream(one, publisher, "1"),
        open_stream(one, publisher, "2"),
        open_stream(other, publisher, "2"),
        open_stream(other, publisher, "3"),
    ):
        everybody = {"1", "2", "3"}
        eventually(lambda: publisher.online_in("room:1") == everybody)
        assert not publisher.online("elsewhere")
        events.wait_for(*(("join", each) for each in everybody))
        assert one.process is not None
        one.process.kill()
        events.wait_for(*(("join", each) for each in everybody), ("leave", "1"))
        assert publisher.online_in("room:1") == {"2", "3"}
        assert not publisher.online("1")
        assert "Traceback" not in other.log


def test_tabs_count_once_and_a_reload_is_no_absence(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    # Nobody is away for a minute.
    with running_daemon(tmp_path, redis_server.url, "--presence", "--retry", "60") as daemon:
        first = open_stream(daemon, publisher, "1")
        events.wait_for(("join", "1"))
        with open_stream(daemon, publisher, "1"):
            first.close()
        eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
        assert publisher.online("1")
        with open_stream(daemon, publisher, "1"), open_stream(daemon, publisher, "2"):
            # What was told of the second comes after all that was told of the first.
            events.wait_for(("join", "1"), ("join", "2"))


def test_who_closes_the_last_tab_leaves(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, events: Events
) -> None:
    with running_daemon(tmp_path, redis_server.url, "--presence", "--retry", "0") as daemon:
        open_stream(daemon, publisher, "1").close()
        events.wait_for(("join", "1"), ("leave", "1"))
        assert not publisher.online("1")


def test_a_redis_without_its_data_is_told_again(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        running_redis(tmp_path / "redis") as server,
        running_daemon(tmp_path, server.url, "--presence") as daemon,
        Publisher(server.url) as publisher,
        open_stream(daemon, publisher, "1"),
    ):
        eventually(lambda: publisher.online("1"))
        with server.client() as client:
            client.delete(*client.keys(PLAIN.presence + "*"))
        eventually(lambda: publisher.online("1"), "it is told of again, at the next renewal")
        assert "Traceback" not in daemon.log


def test_without_it_nothing_is_written(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    with open_stream(daemon, publisher, "1"):
        assert not publisher.online("1")
    assert redis_client.keys(PLAIN.presence + "*") == []


def test_of_several_redis_each_knows(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_redis(folder)) for folder in folders]
        urls = " ".join(server.url for server in servers)
        daemon = stack.enter_context(running_daemon(tmp_path, urls, "--presence"))
        publisher = stack.enter_context(Publisher(urls))
        subjects = [str(number) for number in range(8)]
        for subject in subjects:
            publisher.channels.add(subject, f"room:{subject}")
            stack.enter_context(open_stream(daemon, publisher, subject))
        eventually(lambda: all(map(publisher.online, subjects)))
        eventually(lambda: publisher.online_in("room:1") == set(subjects))
        assert publisher.online_in("room:3") == {"3"}
        clients = [stack.enter_context(server.client()) for server in servers]
        assert all(client.exists(PLAIN.presence) for client in clients)
