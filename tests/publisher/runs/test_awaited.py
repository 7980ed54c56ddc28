"""Runs on asyncio: tasks that are cancelled, event loops that end, groups of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from sinapse.errors import RunLost
from sinapse.protocol.names import PLAIN
from sinapse.publisher import aio
from sinapse.publisher.runs import RunState
from sinapse.publisher.runs.awaited import Run
from tests.support import EVENT_TIMEOUT, RedisServer
from tests.support.running import pieces, told


@pytest.fixture
def publisher(redis_server: RedisServer) -> aio.Publisher:
    return aio.Publisher(redis_server.url)


async def tell_for_ever(publisher: aio.Publisher, channels: list[str]) -> None:
    async with publisher.run("42", name="answer") as run:
        channels.append(run.channel)
        while True:
            await run.send("piece")
            await asyncio.sleep(0)


async def until(condition: object) -> None:
    async with asyncio.timeout(EVENT_TIMEOUT):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_task_that_is_cancelled_ends_its_run_as_failed(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    channels: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(tell_for_ever(publisher, channels))
        await until(lambda: channels and told(redis_client, channels[0]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The block has waited until Redis knows it.
        assert told(redis_client, channels[0])[-1].event == "error"

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_its_run_begins_leaves_none_that_runs(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    """In whatever turn: Redis may begin it all the same."""

    async def stay(run: Run) -> None:
        async with run:
            await asyncio.Future()

    async def cancelled_after(turns: int) -> str:
        run = publisher.run("42", name="answer")
        task = asyncio.create_task(stay(run))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run.id

    async def main() -> None:
        await publisher.position()  # The connection is there.
        for turns in [*range(1, 12)] * 3:
            run = await cancelled_after(turns)
            await until(lambda run=run: redis_client.hget(PLAIN.run_key(run), "state") == b"failed")

    asyncio.run(main())


def test_one_that_is_cancelled_again_while_it_ends_is_told_all_the_same(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    channels: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(tell_for_ever(publisher, channels))
        await until(lambda: channels and told(redis_client, channels[0]))
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        await until(lambda: told(redis_client, channels[0])[-1].event == "error")

    asyncio.run(main())


def test_the_end_of_an_event_loop_ends_the_runs_on_it(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    channels: list[str] = []

    async def main() -> None:
        tasks = [asyncio.create_task(tell_for_ever(publisher, channels)) for _ in range(5)]
        await until(lambda: len(channels) == len(tasks))
        # It returns, and asyncio cancels what is there still.

    for _ in range(2):
        channels.clear()
        asyncio.run(main())
        assert [told(redis_client, each)[-1].event for each in channels] == ["error"] * 5


def test_a_generator_that_is_closed_ends_its_run_as_failed(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    async def answer(channels: list[str]) -> AsyncIterator[str]:
        async with publisher.run("42") as run:
            channels.append(run.channel)
            for number in range(10):
                await run.send(number)
                yield str(number)

    async def main() -> str:
        channels: list[str] = []
        generator = answer(channels)
        async for text in generator:
            if text == "2":
                break
        await generator.aclose()  # type: ignore[attr-defined]
        return channels[0]

    messages = told(redis_client, asyncio.run(main()))
    assert pieces(messages) == [0, 1, 2]
    assert messages[-1].event == "error"


def test_a_stop_in_a_group_of_tasks_is_the_expected_end(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    async def main() -> RunState | None:
        async with publisher.run("42") as run:

            async def tell() -> None:
                while True:
                    await run.send("piece")
                    await run.flush()

            async with asyncio.TaskGroup() as group:
                group.create_task(tell())
                group.create_task(tell())
                await publisher.runs.stop(run.id)
        status = await publisher.runs.get(run.id)
        return None if status is None else status.state

    assert asyncio.run(main()) is RunState.STOPPED


def test_what_waits_for_room_wakes_when_the_run_is_lost(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    async def main() -> None:
        async with publisher.run("42") as run:
            redis_client.hset(PLAIN.run_key(run.id), "state", "lost")
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(run.send("x" * 20_000))

    with pytest.raises((RunLost, ExceptionGroup)):
        asyncio.run(main())


def test_two_hundred_runs_at_once_are_told_each_in_its_order(
    publisher: aio.Publisher, redis_client: redis.Redis
) -> None:
    async def work(number: int) -> str:
        async with publisher.run(number) as run:
            for piece in range(100):
                await run.send(piece)
                if piece % 10 == 0:
                    await asyncio.sleep(0)
        return run.channel

    async def main() -> list[str]:
        return await asyncio.gather(*map(work, range(200)))

    for channel in asyncio.run(main()):
        messages = told(redis_client, channel)
        assert pieces(messages) == [*range(100)]
        assert messages[-1].event == "end"
