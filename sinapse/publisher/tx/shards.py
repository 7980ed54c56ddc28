"""Connections to several Redis on Twisted: see :mod:`sinapse.publisher.shards`."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.spread import Spread
from sinapse.publisher.tx.connections import Connections


class ShardedConnections:
    """What :class:`~sinapse.publisher.tx.connections.Connections` are to one Redis.

    They are asked at the same time.
    """

    def __init__(self, parts: Sequence[Connections]) -> None:
        self._parts = parts

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
        outcomes = await gatherResults(
            Deferred.fromCoroutine(self._ask(*part)) for part in parts.items()
        )
        return dict(zip(parts, outcomes, strict=True))

    async def _ask(
        self, shard: int, operations: Sequence[Operation[Any]]
    ) -> list[Any] | BrokerUnavailable:
        try:
            return await self._parts[shard].run_all(operations)
        except BrokerUnavailable as error:
            return error

    async def close(self) -> None:
        """Close every connection once what is on its way was answered."""
        for part in self._parts:
            await part.close()
