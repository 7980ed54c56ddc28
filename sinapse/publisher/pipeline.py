"""Pipelines: several operations in one round trip."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.pipeline import Collection, settle


class Runner(Protocol):
    """Who carries out operations: one Redis, several, or the API in their place."""

    def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`."""

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`."""

    def close(self) -> None:
        """Close all connections."""


def run_each(connections: Runner, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Return what comes of each of `operations`, :class:`BrokerUnavailable` for what failed."""
    try:
        return connections.run_all(operations) if operations else []
    except BrokerUnavailable as error:  # It is the same for all of them.
        return [error] * len(operations)


class Pipeline(Collection):
    """Collects operations, and sends them when its ``with`` block ends.

    ::

        with publisher.pipeline() as pipe:
            pipe.channels.add("42", "news")
            token = pipe.tokens.generate("42")
            pipe.publish("news", "hello")
        token.result

    They are carried out in their order, and others' may come between them. If the block ends with
    an exception, none is sent. It is for one thread.
    """

    def __init__(self, connections: Runner, messages: Messages, *, hashed: bool) -> None:
        super().__init__(messages, hashed=hashed)
        self._connections = connections

    def send(self) -> list[Any]:
        """Send what was collected, return what came of each, and begin anew.

        Raises :class:`~sinapse.errors.Incomplete` if any of them failed.
        """
        operations, pending = self.take()
        results = run_each(self._connections, operations)
        settle(pending, results)
        return complete(results)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.send()
