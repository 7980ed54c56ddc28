"""Pipelines: several operations that are sent together."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.pipeline import Collection, settle
from sinapse.publisher.tx.connections import Runner


async def run_each(connections: Runner, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Return what comes of each of `operations`, :class:`BrokerUnavailable` for what failed."""
    try:
        return await connections.run_all(operations) if operations else []
    except BrokerUnavailable as error:  # Nothing was sent.
        return [error] * len(operations)


class Pipeline(Collection):
    """Collects operations, and sends them when its ``async with`` block ends, or by :meth:`send`.

    See :class:`sinapse.publisher.pipeline.Pipeline`.
    """

    def __init__(self, connections: Runner, messages: Messages, *, hashed: bool) -> None:
        super().__init__(messages, hashed=hashed)
        self._connections = connections

    def send(self) -> "Deferred[list[Any]]":
        """Send what was collected, return what came of each, and begin anew.

        Fails with :class:`~sinapse.errors.Incomplete` if any of them failed.
        """
        operations, pending = self.take()

        async def run() -> list[Any]:
            results = await run_each(self._connections, operations)
            settle(pending, results)
            return complete(results)

        return Deferred.fromCoroutine(run())

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
