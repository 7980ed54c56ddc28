"""The past of a channel: what a new stream gets, or one that is granted the channel."""

from __future__ import annotations

import pytest
import redis

from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.support.daemon import Daemon, Event, Stream
from tests.support.subscribing import subscribe


def replays(client: redis.Redis, channel: str, count: int | str) -> None:
    """Let new streams get that many messages of a channel."""
    client.hset(PLAIN.replay, channel, str(count))


def publish(publisher: Publisher, channel: str, *messages: object) -> None:
    for message in messages:
        publisher.publish(channel, message)


def messages(stream: Stream, end: str = "end") -> list[Event]:
    """Return the messages before the one that says that it is the last."""
    found = []
    while (event := stream.next()).data != end:
        if event.event != "position":
            found.append(event)
    return found


def data(stream: Stream, end: str = "end") -> list[str]:
    return [event.data for event in messages(stream, end)]


class TestNewStream:
    """What a stream gets that opens for the first time."""

    @pytest.mark.parametrize(
        ("count", "expected"), [(1, "5"), (3, "345"), (5, "12345"), (9, "12345"), ("all", "12345")]
    )
    def test_it_gets_the_last_messages_then_live_ones(
        self,
        daemon: Daemon,
        publisher: Publisher,
        redis_client: redis.Redis,
        count: int | str,
        expected: str,
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        replays(redis_client, "room:1", count)
        publish(publisher, "room:2", "not for new streams")
        publish(publisher, "room:1", *"12345")
        with daemon.stream(token).opened() as stream:
            publish(publisher, "room:2", "live")
            publish(publisher, "room:1", "end")
            assert data(stream) == [*expected, "live"]

    def test_pasts_come_in_the_order_of_ids_across_channels(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2", "room:3")
        for channel in ("room:1", "room:2"):
            replays(redis_client, channel, "all")
        for number in range(30):
            publish(publisher, f"room:{1 + number % 3}", number)
        with daemon.stream(token).opened() as stream:
            publish(publisher, "room:1", "end")
            assert data(stream) == [str(number) for number in range(30) if number % 3 != 2]

    def test_one_that_resumes_is_not_given_it_again(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1")
        replays(redis_client, "room:1", "all")
        publish(publisher, "room:1", *"123", "end")
        with daemon.stream(token).opened() as stream:
            assert data(stream) == [*"123"]
            last = stream.next().id
        publish(publisher, "room:1", "4", "end")
        with daemon.stream(token, after=last).opened() as stream:
            assert data(stream) == ["4"]

    def test_one_that_breaks_in_the_midst_goes_on_from_there(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2", "room:3")
        replays(redis_client, "room:1", "all")
        replays(redis_client, "room:2", 4)
        for number in range(30):
            publish(publisher, f"room:{1 + number % 3}", number)
        whole = [n for n in range(30) if n % 3 == 0 or (n % 3 == 1 and n > 18)]
        with daemon.stream(token).opened() as stream:
            first = messages(stream, "28")
        assert [int(event.data) for event in first] == whole[:-1]
        publish(publisher, "room:3", "live")
        publish(publisher, "room:1", "end")
        for got, event in enumerate(first, 1):
            with daemon.stream(token, after=event.id).opened() as stream:
                assert data(stream) == [*map(str, whole[got:]), "live"]

    def test_a_removed_channel_has_none(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        replays(redis_client, "room:1", "all")
        publish(publisher, "room:1", "secret")
        publisher.channels.remove("1", "room:1")
        with daemon.stream(token).opened() as stream:
            publish(publisher, "room:2", "end")
            assert data(stream) == []


class TestOpenStream:
    """What an open stream gets of a channel that it is granted."""

    @pytest.mark.parametrize("is_known", [True, False])
    def test_it_gets_the_past_then_live_messages(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, is_known: bool
    ) -> None:
        token = subscribe(publisher, "room:1")
        replays(redis_client, "room:2", 2)
        publish(publisher, "room:2", *"123")
        publisher.channels.add("2", "room:2" if is_known else "elsewhere")
        with (
            daemon.stream(publisher.tokens.generate("2")).opened(),
            daemon.stream(token).opened() as stream,
        ):
            publish(publisher, "room:1", "before")
            publisher.channels.add("1", "room:2")
            publish(publisher, "room:1", "after")
            publish(publisher, "room:2", "end")
            assert data(stream) == ["before", *"23", "after"]

    def test_ids_never_go_back(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        """Whatever message a stream breaks after, it goes on with the next one."""
        token = subscribe(publisher, "room:1")
        replays(redis_client, "room:2", "all")
        for number in range(6):
            publish(publisher, f"room:{1 + number % 2}", number)
        with daemon.stream(token).opened() as stream:
            publish(publisher, "room:1", "first")
            publisher.channels.add("1", "room:2")
            publish(publisher, "room:2", "second")
            publish(publisher, "room:1", "end")
            events = messages(stream)
        assert [event.data for event in events] == ["first", *"135", "second"]
        for got, event in enumerate(events, 1):
            with daemon.stream(token, after=event.id).opened() as stream:
                assert data(stream) == [each.data for each in events[got:]]
