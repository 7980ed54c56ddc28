"""Connections to several Redis on asyncio: see :mod:`sinapse.publisher.shards`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.spread import Spread


class ShardedConnections:
    """What :class:`~sinapse.publisher.aio.connections.Connections` are to one Redis.

    They are asked at the same time.
    """

    def __init__(
        self, urls: Sequence[RedisURL], *, size: int, connect_timeout: float, timeout: float
    ) -> None:
        self._parts = [
            Connections(url, size=size, connect_timeout=connect_timeout, timeout=timeout)
            for url in urls
        ]

    async def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`."""
        [result] = await self.run_all([operation])
        if isinstance(result, BrokerUnavailable):
            raise result
        return cast(T, result)

    async def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`: one round trip to each that is asked."""
        if (captured := standin.results(operations)) is not None:
            return captured
        spread = Spread(operations, len(self._parts))
        outcomes = await self._run(spread.parts)
        await self._run(spread.announcements())
        return spread.gather(outcomes)

    async def _run(
        self, parts: Mapping[int, Sequence[Operation[Any]]]
    ) -> dict[int, list[Any] | BrokerUnavailable]:
        outcomes = await asyncio.gather(*(self._ask(*part) for part in parts.items()))
        return dict(zip(parts, outcomes, strict=True))

    async def _ask(
        self, shard: int, operations: Sequence[Operation[Any]]
    ) -> list[Any] | BrokerUnavailable:
        try:
            return await self._parts[shard].run_all(operations)
        except BrokerUnavailable as error:
            return error

    async def close(self) -> None:
        """Close every connection of this event loop, those in use too."""
        for part in self._parts:
            await part.close()
