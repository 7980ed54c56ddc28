"""What an application needs beside its framework: who may hear what, and messages from Redis.

One connection is subscribed to what somebody hears; a message goes into the queue of everybody
who does. That is how it is usually done, and the cheapest way that these frameworks have.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import redis.asyncio


class Broadcast:
    """Queues by channel."""

    def __init__(self) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            os.environ["REDIS_URL"], max_connections=20, timeout=None, decode_responses=True
        )
        self._client = redis.asyncio.Redis(connection_pool=pool)
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._queues: dict[str, set[asyncio.Queue[str]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def channels(self, token: str) -> set[str]:
        """Return what the owner of a token may hear."""
        user = await self._client.get(f"token:{token}")
        if user is None:
            return set()
        return await self._client.smembers(f"channels:{user}")

    async def subscribe(self, numbers: set[str]) -> asyncio.Queue[str]:
        """Return a queue that gets the messages of some channels."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        new = []
        for number in numbers:
            name = f"room:{number}"
            queues = self._queues.setdefault(name, set())
            if not queues:
                new.append(name)
            queues.add(queue)
        if new:
            await self._subscription.subscribe(*new)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
        return queue

    def unsubscribe(self, numbers: set[str], queue: asyncio.Queue[str]) -> None:
        """Give a queue no more messages."""
        for number in numbers:
            self._queues[f"room:{number}"].discard(queue)

    async def _read(self) -> None:
        async for message in self._subscription.listen():
            for queue in self._queues[message["channel"]]:
                queue.put_nowait(message["data"])

    @contextlib.asynccontextmanager
    async def messages(self, numbers: set[str]) -> AsyncIterator[asyncio.Queue[str]]:
        """Subscribe for the length of a with block."""
        queue = await self.subscribe(numbers)
        try:
            yield queue
        finally:
            self.unsubscribe(numbers, queue)
