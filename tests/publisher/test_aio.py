"""The publisher of asyncio, where it differs: event loops, cancelled tasks, mixins."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from asgiref.sync import async_to_sync

from sinapse.errors import BrokerUnavailable, InvalidChannel
from sinapse.protocol.message import unpack
from sinapse.publisher import Published, aio
from tests.support import RedisServer, eventually, running_redis
from tests.support.listening import listening
from tests.support.proxy import Proxy


@dataclass
class User(aio.Subject):
    id: int | None = 7


@dataclass
class Room(aio.Publishable):
    id: int | None = 1


@dataclass
class Team(aio.Group):
    id: int | None = 3


@pytest.fixture(scope="module")
def redis_process(redis_of_module: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its clients."""
    return redis_of_module


@pytest.fixture
def the_default(redis_server: RedisServer) -> Iterator[aio.Publisher]:
    """Make a publisher to the session's Redis the default, for the length of a test."""
    publisher = aio.Publisher(redis_server.url)
    former = aio.use(publisher)
    yield publisher
    aio.use(former)


def clients(client: redis.Redis) -> int:
    """Return how many are connected."""
    return len(client.client_list())


class TestEventLoops:
    def test_each_has_its_own_connections_which_end_with_it(
        self, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        publisher = aio.Publisher(redis_server.url)
        before = clients(redis_client)

        async def publish() -> list[Published]:
            nodes = await asyncio.gather(*(publisher.publish("room:1", n) for n in range(10)))
            assert before < clients(redis_client) <= before + 5
            return nodes

        for _ in range(3):
            assert asyncio.run(publish()) == [0] * 10
            eventually(lambda: clients(redis_client) == before, "the connections are closed")
        gc.collect()  # What was left open would warn now.

    def test_one_that_has_ended_is_forgotten(self, redis_server: RedisServer) -> None:
        publisher = aio.Publisher(redis_server.url)
        ended = []

        async def publish() -> None:
            ended.append(weakref.ref(asyncio.get_running_loop()))
            await publisher.publish("room:1", "hello")

        for _ in range(3):
            asyncio.run(publish())
            async_to_sync(publish)()
        gc.collect()
        assert [loop() for loop in ended] == [None] * 6

    def test_two_at_the_same_time(self, redis_server: RedisServer) -> None:
        publisher = aio.Publisher(redis_server.url, max_connections=1)

        async def publish_in_two_loops() -> None:
            assert await publisher.publish("room:1", "hello") == 0
            await asyncio.to_thread(asyncio.run, publisher.publish("room:1", "hello"))
            assert await publisher.publish("room:1", "hello") == 0

        asyncio.run(publish_in_two_loops())

    def test_a_publisher_that_is_forgotten_closes_its_connections(
        self, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        before = clients(redis_client)

        async def forget() -> None:
            await aio.Publisher(redis_server.url).publish("room:1", "hello")
            gc.collect()
            await until(lambda: clients(redis_client) == before)

        asyncio.run(forget())

    def test_a_closed_publisher_opens_again(
        self, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        before = clients(redis_client)

        async def use() -> None:
            async with aio.Publisher(redis_server.url) as publisher:
                await publisher.publish("room:1", "hello")
                await publisher.close()
                await publisher.close()
                assert clients(redis_client) == before
                await publisher.publish("room:1", "hello")
            assert clients(redis_client) == before

        asyncio.run(use())

    def test_a_connection_that_redis_closed_unseen_is_opened_again(
        self, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        async def publish() -> None:
            async with aio.Publisher(redis_server.url, max_connections=1) as publisher:
                for _ in range(3):
                    await publisher.publish("room:1", "hello")
                    # The event loop has no turn in between.
                    ids = {each["id"] for each in redis_client.client_list()}
                    for each in ids - {str(redis_client.client_id())}:
                        redis_client.client_kill_filter(_id=each)

        asyncio.run(publish())

    def test_a_connection_that_was_reset_is_opened_again(self, proxy: Proxy) -> None:
        async def publish() -> None:
            async with aio.Publisher(proxy.url, max_connections=1) as publisher:
                for _ in range(3):
                    assert await publisher.publish("room:1", "hello") == 0
                    [opened] = publisher._connections._opened.values()  # type: ignore[attr-defined]
                    [connection] = opened.pool._idle
                    proxy.cut()
                    await asyncio.to_thread(eventually, connection._writer.is_closing)

        asyncio.run(publish())


class TestClose:
    @pytest.mark.parametrize("is_cancelled", [False, True])
    def test_nothing_stays_open_whatever_is_under_way(
        self, proxy: Proxy, redis_client: redis.Redis, is_cancelled: bool
    ) -> None:
        own = {each["id"] for each in redis_client.client_list()}

        async def use() -> None:
            publisher = aio.Publisher(proxy.url, max_connections=3)
            await asyncio.gather(*(publisher.position() for _ in range(3)))
            proxy.stall("down")
            asked = [asyncio.create_task(publisher.position()) for _ in range(5)]
            await asyncio.sleep(0)
            closing = asyncio.create_task(publisher.close())
            if is_cancelled:
                await asyncio.sleep(0)
                closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            proxy.flow()
            await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.to_thread(
                eventually,
                lambda: {each["id"] for each in redis_client.client_list()} <= own,
            )

        asyncio.run(use())


class TestTasksThatShareConnections:
    def test_all_get_one_in_turn_though_each_asks_again_at_once(
        self, redis_server: RedisServer
    ) -> None:
        counts = [0] * 20

        async def publish_some(publisher: aio.Publisher, number: int) -> None:
            while sum(counts) < 1000:
                await publisher.publish("room:1", "hello")
                counts[number] += 1

        async def publish() -> None:
            async with aio.Publisher(redis_server.url, max_connections=2) as publisher:
                await asyncio.gather(*(publish_some(publisher, each) for each in range(20)))

        asyncio.run(publish())
        assert max(counts) - min(counts) <= 2, counts

    def test_one_that_none_becomes_free_for_is_told(self, tmp_path: Path) -> None:
        with running_redis(tmp_path) as server, contextlib.closing(server.client()) as client:

            async def publish() -> None:
                async with aio.Publisher(server.url, max_connections=1) as patient:
                    await patient.publish("room:1", "hello")
                    waits = aio.Publisher(
                        server.url, max_connections=1, connect_timeout=0.2, timeout=0.2
                    )
                    await waits.publish("room:1", "hello")
                    client.client_pause(60_000, all=False)
                    tasks = [
                        asyncio.create_task(waits.channels.add("7", f"room:{n}")) for n in range(4)
                    ]
                    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                    client.client_unpause()
                    assert all(isinstance(each, BrokerUnavailable) for each in outcomes)
                    assert "no connection was free within 0.4 s" in {
                        str(each).partition(": ")[2] for each in outcomes
                    }
                    await waits.publish("room:1", "hello")
                    await waits.close()

            asyncio.run(publish())


class TestCancelledTasks:
    def test_no_answer_is_taken_for_that_to_the_next_command(self, tmp_path: Path) -> None:
        with running_redis(tmp_path) as server, contextlib.closing(server.client()) as client:

            async def cancel() -> None:
                async with aio.Publisher(server.url, max_connections=1, timeout=60) as publisher:
                    await publisher.channels.add("7", "room:1")
                    await publisher.publish("room:1", "before")  # Redis knows the script now.
                    await publisher.channels.list("7")
                    client.client_pause(60_000, all=False)
                    task = asyncio.create_task(publisher.publish("room:1", "hello"))
                    await until(lambda: "evalsha" in commands(client))
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    client.client_unpause()
                    assert await publisher.channels.list("7") == {"room:1"}

            asyncio.run(cancel())

    def test_one_that_waits_for_a_connection_leaves_the_place_to_the_next(
        self, tmp_path: Path
    ) -> None:
        with running_redis(tmp_path) as server, contextlib.closing(server.client()) as client:

            async def cancel() -> None:
                async with aio.Publisher(server.url, max_connections=1, timeout=60) as publisher:
                    await publisher.channels.add("7", "room:1")  # Redis knows the script now.
                    client.client_pause(60_000, all=False)
                    first, *others = [
                        asyncio.create_task(publisher.channels.add("7", f"room:1{n}"))
                        for n in range(4)
                    ]
                    await until(lambda: "evalsha" in commands(client))
                    for task in others[:2]:
                        task.cancel()
                    await asyncio.gather(*others[:2], return_exceptions=True)
                    client.client_unpause()
                    assert [await first, await others[2]] == [True, True]
                    assert await publisher.channels.list("7") == {"room:1", "room:10", "room:13"}

            asyncio.run(cancel())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, while the event loop goes on."""
    await asyncio.to_thread(eventually, condition)


def commands(client: redis.Redis) -> list[str]:
    """Return the last command of each client."""
    return [each["cmd"] for each in client.client_list()]


class TestMixins:
    def test_a_subject_and_what_it_listens_to(
        self, redis_server: RedisServer, the_default: aio.Publisher
    ) -> None:
        async def live() -> None:
            user, room = User(), Room()
            token = await user.sinapse.auth.generate(expires_in=60)
            assert await user.sinapse.auth.token == token
            assert await user.sinapse.auth.renew(expires_in=600)
            assert await user.sinapse.add_channel(room, expires_in=60)
            assert await user.sinapse.channels == {"room:1"}
            assert await user.sinapse.has_channel("room:1")
            assert await room.publish({"a": 1}, event="msg") == 1
            assert await user.sinapse.remove_channel(room)
            assert await user.sinapse.auth.reset() != token
            sessions = user.sinapse.sessions
            phone = await sessions.open(device="phone", only=[room], expires_in=60)
            laptop = await sessions.open()
            assert [each.device for each in await sessions.list()] == ["phone", None]
            assert await sessions.renew(phone.id)
            assert await sessions.end(phone.id)
            assert await sessions.end_all(but=laptop.id) == 0
            team = Team()
            assert await user.sinapse.add_group(team)
            assert await user.sinapse.groups == {"team:3"}
            assert await team.sinapse_members.add("8")
            assert await team.sinapse_members.list() == ["7", "8"]
            assert await team.sinapse_members.list(after=user, limit=5) == ["8"]
            assert await team.sinapse_members.remove("8")
            assert await team.sinapse_channels.add(room)
            assert await team.sinapse_channels.add("news")
            assert await team.sinapse_channels.remove("news")
            assert await team.sinapse_channels.list() == {"room:1"}
            assert await team.sinapse_channels.clear() == 1
            assert await user.sinapse.remove_group(team)
            assert await user.sinapse.add_group("all")
            await user.sinapse.destroy()
            assert await user.sinapse.groups == set()
            assert await sessions.list() == []
            assert await user.sinapse.auth.token is None
            assert await user.sinapse.clear() == 0

        with listening(redis_server) as listener:
            asyncio.run(live())
            [payload] = [payload for channel, payload in listener.heard() if channel == "room:1"]
        assert unpack(payload)[:2] == ('{"a":1}', "msg")

    def test_the_default_is_made_of_the_environment(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        former = aio.use(None)
        try:
            assert str(aio.default().url) == redis_server.url
            assert aio.default() is aio.default()
            assert asyncio.run(Room().publish("hello")) == 0
        finally:
            aio.use(former)


def test_what_is_invalid_is_refused_when_it_is_awaited() -> None:
    publisher = aio.Publisher("redis://127.0.0.1:1")
    with pytest.raises(InvalidChannel):
        asyncio.run(publisher.publish("", "hello"))
    with pytest.raises(BrokerUnavailable) as raised:
        asyncio.run(publisher.publish("room:1", "hello"))
    assert raised.value.delivered is False
