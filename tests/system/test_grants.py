"""A channel that is taken away and given back delivers nothing of between, by whatever way."""

from __future__ import annotations

import random
import threading

import pytest
import redis

from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, eventually
from tests.support.daemon import Daemon, Stream
from tests.support.proxy import Link, Proxy, unchanged


def received(stream: Stream, end: str = "end") -> list[str]:
    """Return the data of all messages before the one that says that it is the last."""
    data = []
    while (event := stream.next()).data != end or event.event is not None:
        data.append(event.data if event.event is None else f"{event.event} {event.data}")
    return data


def take_away_and_give_back(publisher: Publisher, channel: str = "room:1") -> None:
    publisher.publish(channel, "before")
    publisher.channels.remove("1", channel)
    publisher.publish(channel, "forbidden")
    publisher.channels.add("1", channel)
    publisher.publish(channel, "granted")


@pytest.fixture
def token(publisher: Publisher) -> str:
    for channel in ("room:1", "anchor"):
        publisher.channels.add("1", channel)
    return publisher.tokens.generate("1")


def test_nothing_of_between_is_delivered_live(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream:
        take_away_and_give_back(publisher)
        publisher.publish("anchor", "end")
        assert received(stream) == ["before", "granted"]


@pytest.mark.parametrize("is_held_by_another", [False, True])
def test_nothing_of_between_is_delivered_to_who_comes_back(
    daemon: Daemon, publisher: Publisher, token: str, is_held_by_another: bool
) -> None:
    publisher.channels.add("2", "room:1")
    with daemon.stream(token).opened() as stream:
        last = stream.position
    other = daemon.stream(publisher.tokens.generate("2")) if is_held_by_another else None
    take_away_and_give_back(publisher)
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        # What was published before it was taken away was for it, but it is another grant now.
        assert received(stream) == ["granted"]
    if other is not None:
        other.close()


def test_nothing_of_before_is_delivered_of_a_channel_that_is_new(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream:
        last = stream.position
    publisher.publish("room:2", "before")
    publisher.channels.add("1", "room:2")
    publisher.channels.add("1", "room:2")  # It has been there: nothing has changed.
    publisher.publish("room:2", "after")
    publisher.channels.add("1", "room:2")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert received(stream) == ["after"]


def test_nothing_of_between_is_delivered_after_a_break_of_redis(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    publisher.channels.add("2", "room:1")
    with (
        distant.stream(token).opened() as stream,
        distant.stream(publisher.tokens.generate("2")).opened() as other,
    ):
        proxy.stall()
        take_away_and_give_back(publisher)
        publisher.channels.remove("2", "room:1")
        publisher.channels.add("2", "anchor")
        publisher.publish("anchor", "end")
        proxy.cut()
        proxy.flow()
        assert received(stream) == ["granted"]
        assert received(other) == []


def test_a_channel_that_is_given_back_during_a_replay_has_nothing_of_between(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    """The answer that is on its way was made before."""
    publisher.channels.add("2", "room:1")
    with distant.stream(token).opened() as stream:
        last = stream.position
    is_done = threading.Event()

    def up(_link: Link, data: bytes) -> bytes:
        if b"sinapse:retained:room:1" in data and not is_done.is_set():
            take_away_and_give_back(publisher)
            publisher.publish("anchor", "end")
            is_done.set()
        return data

    with distant.stream(publisher.tokens.generate("2")).opened():
        proxy.up = up
        with distant.stream(token, after=last).opened() as stream:
            assert received(stream) == ["granted"]
    proxy.up = unchanged
    assert is_done.is_set()


def test_lists_without_grants_are_read_from_the_id_on(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    """As Ruby's library writes them."""
    redis_client.delete(PLAIN.grants_key("1"))
    redis_client.sadd(PLAIN.channels_key("1"), "room:2")
    with daemon.stream(token).opened() as stream:
        last = stream.position
    publisher.publish("room:2", "missed")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert received(stream) == ["missed"]


def test_nothing_is_left_of_grants(publisher: Publisher, redis_client: redis.Redis) -> None:
    for channel in ("a", "b", "c"):
        publisher.channels.add("1", channel)
    publisher.channels.remove("1", "a")
    assert set(redis_client.hkeys(PLAIN.grants_key("1"))) == {b"b", b"c"}
    publisher.channels.clear("1")
    assert not redis_client.exists(PLAIN.grants_key("1"))


# While a node reads the lists again


def test_what_changes_while_lists_are_read_again_counts_more_than_a_late_answer(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    is_asked, is_done = threading.Event(), threading.Event()
    asking: list[Link] = []

    def up(link: Link, data: bytes) -> bytes:
        if f"sinapse:tokens:{token}".encode() in data:
            asking.append(link)
        return data

    def down(link: Link, data: bytes) -> bytes:
        if link in asking and not is_asked.is_set():
            # Redis has answered; on its other connection the node hears what comes after that.
            is_asked.set()
            publisher.channels.remove("1", "room:1")
            publisher.channels.add("1", "room:2")
            is_done.set()
        return data

    with distant.stream(token).opened() as stream:
        proxy.up, proxy.down = up, down
        proxy.cut()
        assert is_done.wait(EVENT_TIMEOUT)
        eventually(distant.is_ready)
        publisher.publish("room:1", "forbidden")
        publisher.publish("room:2", "granted")
        publisher.publish("anchor", "end")
        assert received(stream) == ["granted"]
    proxy.up = proxy.down = unchanged


def test_a_list_that_is_empty_on_its_way_to_another_ends_nothing(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    """The node hears of a removal, and of nothing that was added while it was cut off."""
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    is_asked = threading.Event()

    def up(link: Link, data: bytes) -> bytes:
        if b"sinapse:retention" in data and not is_asked.is_set() and not link.is_subscriber:
            publisher.channels.remove("1", "room:1")
            publisher.channels.add("1", "room:1")
            is_asked.set()
        return data

    with distant.stream(token).opened() as stream:
        proxy.cut()
        publisher.channels.add("1", "room:2")
        publisher.channels.remove("1", "room:1")
        publisher.channels.add("1", "room:1")
        proxy.up = up
        assert is_asked.wait(EVENT_TIMEOUT)
        publisher.publish("room:2", "end")
        assert received(stream) == []
    proxy.up = unchanged


def test_no_removal_leaks_while_a_node_with_many_streams_comes_back(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    count = 150
    names = [str(number) for number in range(count)]
    with publisher.pipeline() as pipe:
        for name in names:
            pipe.channels.add(name, "anchor")
            pipe.channels.add(name, "secret")
        tokens = {name: pipe.tokens.generate(name) for name in names}
    streams = {name: daemon.stream(token.result).opened() for name, token in tokens.items()}
    chance = random.Random(7)
    try:
        for turn in range(3):
            removed = chance.sample(names, count // 2)
            redis_client.client_kill_filter(_type="pubsub")
            for name in removed:
                publisher.channels.remove(name, "secret")
            eventually(daemon.is_ready)
            publisher.publish("secret", f"secret {turn}")
            publisher.publish("anchor", f"end {turn}")
            for name, stream in streams.items():
                expected = [] if name in removed else [f"secret {turn}"]
                assert received(stream, f"end {turn}") == expected
            for name in removed:
                publisher.channels.add(name, "secret")
    finally:
        for stream in streams.values():
            stream.close()
