"""Pipelines: several operations in one round trip."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.aio.shards import ShardedConnections
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.pipeline import Collection, settle


async def run_each(
    connections: Connections | ShardedConnections, operations: Sequence[Operation[Any]]
) -> list[Any]:
    """Return what comes of each of `operations`, :class:`BrokerUnavailable` for what failed."""
    try:
        return await connections.run_all(operations) if operations else []
    except BrokerUnavailable as error:  # Nothing was sent.
        return [error] * len(operations)


class Pipeline(Collection):
    """Collects operations, and sends them when its ``async with`` block ends.

    ::

        async with publisher.pipeline() as pipe:
            pipe.channels.add("42", "news")
            token = pipe.tokens.generate("42")
            pipe.publish("news", "hello")
        token.result

    They are carried out in their order, and others' may come between them. If the block ends with
    an exception, none is sent. It is for one task.
    """

    def __init__(
        self, connections: Connections | ShardedConnections, messages: Messages, *, hashed: bool
    ) -> None:
        super().__init__(messages, hashed=hashed)
        self._connections = connections

    async def send(self) -> list[Any]:
        """Send what was collected, return what came of each, and begin anew.

        Raises :class:`~sinapse.errors.Incomplete` if any of them failed.
        """
        operations, pending = self.take()
        results = await run_each(self._connections, operations)
        settle(pending, results)
        return complete(results)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.send()
