"""Grants that end by themselves: on open streams, on every node, as exactly as a removal."""

from __future__ import annotations

import contextlib
import random
import time
from functools import partial
from pathlib import Path

import pytest
import redis

from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import END_GRANTS
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher
from tests.support import eventually, running_redis
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.listening import Listener
from tests.support.proxy import Link, Proxy, running_proxy, unchanged

#: Seconds after which grants of these tests end.
SOON = 0.05
LONG = 3600


def data_of(stream: Stream, end: str = "end") -> list[str]:
    """Return the data of all messages before the one that says that it is the last."""
    found = []
    while (event := stream.next()).data != end or event.event is not None:
        found.append(event.data if event.event is None else f"{event.event} {event.data}")
    return found


def has_ended(client: redis.Redis, channel: str = "room:1", subject: str = "1") -> bool:
    """Whether Redis itself has removed a channel."""
    return not client.sismember(f"sinapse:channels:{subject}", channel)


def has_poll(node: Daemon) -> bool:
    """Whether a long poll waits there."""
    return node.metrics()["sinapse_streams long poll"] > 0


@pytest.fixture
def token(publisher: Publisher) -> str:
    publisher.channels.add("1", "anchor")
    return publisher.tokens.generate("1")


def test_on_all_nodes_an_open_stream_gets_nothing_from_then_on(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    publisher.channels.add("1", "room:1", LONG)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
        publisher.publish("room:1", "before")
        publisher.channels.add("1", "room:1", SOON)
        eventually(lambda: has_ended(redis_client), "it ends, though nothing is published")
        publisher.publish("room:1", "after")
        publisher.publish("room:1", "after", retain=0)
        publisher.publish("anchor", "end")
        for stream in streams:
            assert data_of(stream) == ["before"]


def test_added_to_an_open_stream_it_ends_there_too(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
        publisher.channels.add("1", "room:2", LONG)
        publisher.channels.add("1", "room:1", LONG)
        publisher.publish("room:1", "before")
        publisher.channels.add("1", "room:1", SOON)
        eventually(lambda: has_ended(redis_client), "it ends")
        publisher.publish("room:1", "after")
        publisher.publish("room:2", "another")
        publisher.publish("anchor", "end")
        for stream in streams:
            assert data_of(stream) == ["before", "another"]


@pytest.mark.parametrize("way", ["stream", "poll"])
def test_who_may_listen_to_nothing_else_is_sent_away(
    nodes: list[Daemon], publisher: Publisher, way: str
) -> None:
    publisher.channels.add("1", "room:1", LONG)
    token = publisher.tokens.generate("1")
    with contextlib.ExitStack() as stack:
        for node in nodes:
            if way == "poll":
                position = publisher.position()
                headers = {"Accept": "application/json", "Last-Event-ID": position}
                stream = stack.enter_context(node.stream(token, headers))
                eventually(partial(has_poll, node), "it waits")
            else:
                stream = stack.enter_context(node.stream(token).opened())
            stack.callback(stream.wait_for_end)
        publisher.channels.add("1", "room:1", SOON)
    for node in nodes:
        with node.stream(token) as refused:
            assert refused.status == 401


def test_it_goes_on_if_it_is_added_again(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    for number in (1, 2, 3):
        publisher.channels.add("1", f"room:{number}", LONG)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
        for number in (1, 2, 3):
            publisher.channels.add("1", f"room:{number}", SOON)
        publisher.channels.add("1", "room:1", LONG)
        publisher.channels.add("1", "room:2")
        eventually(lambda: has_ended(redis_client, "room:3"), "the one that is not added ends")
        for number in (1, 2, 3):
            publisher.publish(f"room:{number}", f"{number}")
        publisher.publish("anchor", "end")
        for stream in streams:
            assert data_of(stream) == ["1", "2"]


def test_added_after_the_end_nothing_of_between_is_delivered(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    publisher.channels.add("1", "room:1", LONG)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
        last = streams[0].position
        publisher.publish("room:1", "before")
        publisher.channels.add("1", "room:1", SOON)
        eventually(lambda: has_ended(redis_client), "it ends")
        publisher.publish("room:1", "between")
        publisher.channels.add("1", "room:1", LONG)
        publisher.publish("room:1", "granted")
        publisher.publish("anchor", "end")
        for stream in streams:
            assert data_of(stream) == ["before", "granted"]
        for node in nodes:
            with node.stream(token, after=last).opened() as resumed:
                assert data_of(resumed) == ["granted"]


def test_who_comes_back_after_the_end_gets_nothing_of_it(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    publisher.channels.add("1", "room:1", LONG)
    with daemon.stream(token).opened() as stream:
        last = stream.position
    publisher.publish("room:1", "before")
    publisher.channels.add("1", "room:1", SOON)
    eventually(lambda: has_ended(redis_client), "it ends without any stream")
    publisher.publish("room:1", "after")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data_of(stream) == []


def test_it_ends_while_its_node_is_cut_off(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    publisher.channels.add("2", "room:1")  # So that the node goes on listening to it.
    publisher.channels.add("1", "room:1", LONG)
    with (
        distant.stream(token).opened() as stream,
        distant.stream(publisher.tokens.generate("2")).opened() as other,
    ):
        proxy.stall()
        publisher.channels.add("1", "room:1", SOON)
        eventually(lambda: not publisher.channels.has("1", "room:1"), "it ends")
        publisher.publish("room:1", "after")
        publisher.publish("anchor", "end")
        proxy.cut()
        proxy.flow()
        assert data_of(stream) == []
        other.wait_for_message("after")


def test_a_node_that_cannot_ask_delivers_nothing_of_after(tmp_path: Path) -> None:
    """What it asks is lost on the way, and messages still arrive. There is no other node."""
    (tmp_path / "redis").mkdir()
    lost: list[Link] = []

    def up(link: Link, data: bytes) -> bytes:
        if link in lost or END_GRANTS.sha.encode() in data or END_GRANTS.source.encode() in data:
            lost.append(link)
            return b""
        return data

    with (
        running_redis(tmp_path / "redis") as server,
        running_proxy(server.port) as proxy,
        running_daemon(tmp_path, proxy.url) as node,
        Publisher(server.url) as publisher,
    ):
        publisher.channels.add("1", "anchor")
        publisher.channels.add("1", "room:1", LONG)
        with node.stream(publisher.tokens.generate("1")).opened() as stream:
            proxy.up = up
            publisher.channels.add("1", "room:1", SOON)
            eventually(lambda: not publisher.channels.has("1", "room:1"), "it ends")
            eventually(lambda: lost, "the node asks")
            with contextlib.closing(server.client()) as client:
                assert not has_ended(client)
            publisher.publish("room:1", "after", retain=0)
            publisher.publish("room:1", "after")
            publisher.publish("anchor", "end")
            assert data_of(stream) == []
        proxy.up = unchanged


def test_a_message_that_is_sent_at_the_end_is_on_one_side_of_it_on_all_nodes(
    nodes: list[Daemon], publisher: Publisher, listener: Listener, token: str
) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
        listener.heard()
        number = change_and_publish(publisher, seconds=3)
        publisher.publish("anchor", "end")
        expected = permitted(listener, {"anchor"})
        assert 50 < len(expected) < number
        for stream in streams:
            assert data_of(stream) == expected


def change_and_publish(publisher: Publisher, seconds: float) -> int:
    """Grant, remove and publish at random; return how many messages there were."""
    generator = random.Random(14)
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        channel = f"room:{generator.randrange(4)}"
        kind = generator.random()
        if kind < 0.25:
            publisher.channels.add("1", channel, generator.uniform(0.001, 0.03))
        elif kind < 0.3:
            publisher.channels.remove("1", channel)
        elif kind < 0.35:
            publisher.channels.add("1", channel)
        elif kind < 0.4:
            time.sleep(generator.uniform(0, 0.02))
        else:
            number += 1
            publisher.publish(channel, f"{number}")
    return number


def permitted(listener: Listener, listed: set[str]) -> list[str]:
    """Return the messages that are for the subject, by the order in which all was published.

    `listed` is what it may listen to at first.
    """
    found = []
    for name, payload in listener.heard():
        if name == "sinapse:channels:1:add":
            listed.add(payload.decode())
        elif name == "sinapse:channels:1:remove":
            listed.discard(payload.decode())
        elif name in listed and name != "anchor":
            found.append(unpack(payload).data)
    return found


def test_many_that_end_at_once_all_end(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    with nodes[0].stream(token).opened() as stream:
        with publisher.pipeline() as pipe:
            for number in range(1000):
                pipe.channels.add("1", f"room:{number}", SOON)
        eventually(lambda: not redis_client.exists("sinapse:ends"), "all end")
        assert publisher.channels.list("1") == {"anchor"}
        publisher.publish("room:999", "after")
        publisher.publish("anchor", "end")
        assert data_of(stream) == []


def test_it_ends_while_redis_takes_no_writes_as_soon_as_it_does_again(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    publisher.channels.add("1", "room:1", LONG)
    publisher.channels.add("2", "room:1", LONG)
    other = publisher.tokens.generate("2")
    with nodes[0].stream(token).opened() as stream, nodes[1].stream(other).opened() as only:
        publisher.channels.add("3", "room:1", 1)  # So that nodes ask then.
        with redis_client.pipeline(transaction=True) as both:
            both.zadd(PLAIN.ends, {"1\nroom:1": 1, "2\nroom:1": 1})
            both.config_set("min-replicas-to-write", 1)
            both.execute()
        try:
            eventually(lambda: not publisher.channels.has("3", "room:1"), "they ask")
            assert not publisher.channels.has("1", "room:1")
            assert not has_ended(redis_client)
            with nodes[0].stream(other) as refused:
                assert refused.status == 401
        finally:
            redis_client.config_set("min-replicas-to-write", 0)
        only.wait_for_end()
        publisher.publish("room:1", "after")
        publisher.publish("anchor", "end")
        assert data_of(stream) == []


def test_what_ended_while_redis_was_away_is_ended_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        running_redis(tmp_path / "redis", *kept) as server,
        running_daemon(tmp_path, server.url) as daemon,
        Publisher(server.url) as publisher,
    ):
        publisher.channels.add("1", "anchor")
        with publisher.pipeline() as pipe:
            for number in range(500):
                pipe.channels.add("2", f"room:{number}", 1)
        publisher.channels.add("1", "room:1", 1)
        token = publisher.tokens.generate("1")
        with daemon.stream(token).opened() as stream:
            server.stop()
            time.sleep(1)  # It is time itself that is waited for.
            server.start()
            eventually(daemon.is_ready, "the node is back")
            with contextlib.closing(server.client()) as client:
                assert client.keys("sinapse:ends") == []
                assert client.keys("sinapse:channels:*") == [b"sinapse:channels:1"]
            publisher.publish("room:1", "after")
            publisher.publish("anchor", "end")
            assert data_of(stream) == []
        assert "Traceback" not in daemon.log


def test_several_redis_end_what_is_theirs(tmp_path: Path) -> None:
    names = {shard_of(name.encode(), 2): name for name in map("room:{}".format, range(20))}
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(2):
            (tmp_path / f"{number}").mkdir()
            servers.append(stack.enter_context(running_redis(tmp_path / f"{number}")))
        url = " ".join(server.url for server in servers)
        daemon = stack.enter_context(running_daemon(tmp_path, url))
        publisher = stack.enter_context(Publisher(url))
        token = publisher.tokens.generate("1")
        publisher.channels.add("1", names[0])
        publisher.channels.add("1", names[1], LONG)
        stream = stack.enter_context(daemon.stream(token).opened())
        publisher.channels.add("1", names[1], SOON)
        with contextlib.closing(servers[1].client()) as client:
            eventually(lambda: has_ended(client, names[1]), "it ends")
        publisher.publish(names[1], "after")
        publisher.publish(names[0], "end")
        assert data_of(stream) == []
        publisher.channels.add("1", names[1], SOON)
        publisher.channels.add("1", names[0], SOON / 2)
        stream.wait_for_end()
        assert publisher.channels.list("1") == set()
        assert "Traceback" not in daemon.log


def test_a_bare_publish_is_heard_until_the_nodes_have_ended_the_grant(
    nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    """As Ruby's library publishes, which knows no ends."""
    publisher.channels.add("1", "room:1", LONG)
    with nodes[0].stream(token).opened() as stream:
        redis_client.publish("room:1", b"\xa6before")
        publisher.channels.add("1", "room:1", SOON)
        eventually(lambda: has_ended(redis_client), "it ends")
        redis_client.publish("room:1", b"\xa5after")
        publisher.publish("anchor", "end")
        assert data_of(stream) == ["before"]
