"""The publisher of Twisted, where it differs: one connection, Deferreds that are cancelled."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from sinapse.errors import InvalidChannel, InvalidGroup
from sinapse.protocol.message import unpack
from sinapse.publisher import tx
from tests.support import RedisServer, running_redis
from tests.support.flavours import running_reactor, wait_for_deferred
from tests.support.listening import listening


@pytest.fixture(scope="module")
def redis_process(redis_of_module: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its clients."""
    return redis_of_module


def on_reactor(coroutine: Any) -> Any:
    """Run a coroutine in the thread of the reactor, and return what comes of it."""
    return wait_for_deferred(lambda: Deferred.fromCoroutine(coroutine))


def test_what_is_sent_together_shares_a_connection_and_keeps_its_order(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def publish() -> None:
        async with tx.Publisher(redis_server.url, reactor=running_reactor()) as publisher:
            sent = [publisher.publish("room:1", number) for number in range(50)]
            assert await gatherResults(sent) == [1] * 50
            assert len(redis_client.client_list()) == before + 1

    with listening(redis_server) as listener:
        before = len(redis_client.client_list())
        on_reactor(publish())
        heard = [unpack(payload).data for _, payload in listener.heard()]
    assert heard == [str(number) for number in range(50)]


def test_it_keeps_its_order_when_redis_knows_no_script(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def publish() -> None:
        async with tx.Publisher(redis_server.url, reactor=running_reactor()) as publisher:
            for start in (0, 40, 80):
                redis_client.script_flush()
                sent = [
                    publisher.publish("room:1", number, retain=number % 2, message_id=named)
                    for number in range(start, start + 40)
                    for named in [f"{number}" if number % 3 else None]
                ]
                assert await gatherResults(sent) == [1] * 40

    with listening(redis_server) as listener:
        on_reactor(publish())
        heard = [unpack(payload).data for _, payload in listener.heard()]
    assert heard == [str(number) for number in range(120)]


def test_it_keeps_its_order_when_redis_forgets_in_the_middle(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    ended = threading.Event()

    def forget() -> None:
        while not ended.wait(0.001):
            redis_client.script_flush()

    async def publish() -> None:
        reactor = running_reactor()
        async with tx.Publisher(redis_server.url, reactor=reactor) as publisher:
            sent = []
            for number in range(3000):
                sent.append(publisher.publish("room:1", number))
                await deferLater(reactor, 0)
            assert await gatherResults(sent) == [1] * 3000

    forgetting = threading.Thread(target=forget)
    with listening(redis_server) as listener:
        forgetting.start()
        try:
            on_reactor(publish())
        finally:
            ended.set()
            forgetting.join()
        heard = [unpack(payload).data for _, payload in listener.heard()]
    assert heard == [str(number) for number in range(3000)]


def test_what_is_invalid_is_a_failure_of_the_deferred() -> None:
    async def publish() -> None:
        publisher = tx.Publisher("redis://127.0.0.1:1", reactor=running_reactor())
        failing = publisher.publish("", "hello")
        with pytest.raises(InvalidChannel):
            await failing
        joining = publisher.groups.add("7", "a b")
        with pytest.raises(InvalidGroup):
            await joining
        listed = publisher.groups.channels("a b").list()
        with pytest.raises(InvalidGroup):
            await listed

    on_reactor(publish())


def test_a_cancelled_one_leaves_the_answers_of_the_others_alone(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, contextlib.closing(server.client()) as client:

        async def cancel() -> None:
            reactor = running_reactor()
            async with tx.Publisher(server.url, timeout=60, reactor=reactor) as publisher:
                await publisher.channels.add("7", "room:1")
                client.client_pause(60_000, all=False)
                cancelled = publisher.publish("room:1", "hello")
                listed = publisher.channels.list("7")
                await deferLater(reactor, 0)
                cancelled.cancel()
                with pytest.raises(CancelledError):
                    await cancelled
                client.client_unpause()
                assert await listed == {"room:1"}
                assert await publisher.channels.has("7", "room:1") is True

        on_reactor(cancel())


def test_a_connection_that_redis_closed_unseen_is_opened_again(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async def publish() -> None:
        async with tx.Publisher(redis_server.url, reactor=running_reactor()) as publisher:
            for _ in range(3):
                assert await publisher.publish("room:1", "hello") == 0
                # The reactor has no turn in between.
                ids = {each["id"] for each in redis_client.client_list()}
                for each in ids - {str(redis_client.client_id())}:
                    redis_client.client_kill_filter(_id=each)

    on_reactor(publish())


def test_without_a_reactor_it_takes_that_of_the_process(redis_server: RedisServer) -> None:
    running_reactor()

    async def publish() -> None:
        async with tx.Publisher(redis_server.url) as publisher:
            assert await publisher.publish("room:1", "hello") == 0

    on_reactor(publish())
