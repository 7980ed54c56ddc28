"""Connections to several Redis, with the channels spread over them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.connections import Connections
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.spread import Spread


class ShardedConnections:
    """What :class:`~sinapse.publisher.connections.Connections` are to one Redis.

    They are asked one after the other.
    """

    def __init__(
        self, urls: Sequence[RedisURL], *, size: int, connect_timeout: float, timeout: float
    ) -> None:
        self._parts = [
            Connections(url, size=size, connect_timeout=connect_timeout, timeout=timeout)
            for url in urls
        ]

    def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`."""
        [result] = self.run_all([operation])
        if isinstance(result, BrokerUnavailable):
            raise result
        return cast(T, result)

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`: one round trip to each that is asked."""
        if (captured := standin.results(operations)) is not None:
            return captured
        spread = Spread(operations, len(self._parts))
        outcomes = self._run(spread.parts)
        self._run(spread.announcements())
        return spread.gather(outcomes)

    def _run(
        self, parts: Mapping[int, Sequence[Operation[Any]]]
    ) -> dict[int, list[Any] | BrokerUnavailable]:
        outcomes: dict[int, list[Any] | BrokerUnavailable] = {}
        for shard, part in parts.items():
            try:
                outcomes[shard] = self._parts[shard].run_all(part)
            except BrokerUnavailable as error:
                outcomes[shard] = error
        return outcomes

    def close(self) -> None:
        """Close every connection, those in use too."""
        for part in self._parts:
            part.close()
