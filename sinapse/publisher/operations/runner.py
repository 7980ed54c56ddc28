"""Who carries operations out: one Redis, several, or the API in their place."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from sinapse.errors import BrokerUnavailable, SinapseError
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.operation import Operation, T


class Runner(ABC):
    """Carries operations out in the thread that asks."""

    def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`; raises what it fails with."""
        return cast(T, _only(self.run_all([operation])))

    def run_each(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`, an error for what failed."""
        try:
            return self.run_all(operations) if operations else []
        except BrokerUnavailable as error:  # It is the same for all of them.
            return [error] * len(operations)

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`, sent together, in their order.

        That is :class:`~sinapse.errors.BrokerUnavailable` for what failed; it is raised if nothing
        was sent at all.
        """
        captured = standin.results(operations)
        return self.carry_out(operations) if captured is None else captured

    @abstractmethod
    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the same, whoever stands in for Redis."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; a later operation opens new ones."""


class AwaitedRunner(ABC):
    """A :class:`Runner` to be awaited, on asyncio or Twisted."""

    async def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`; raises what it fails with."""
        return cast(T, _only(await self.run_all([operation])))

    async def run_each(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`, an error for what failed."""
        try:
            return await self.run_all(operations) if operations else []
        except BrokerUnavailable as error:  # It is the same for all of them.
            return [error] * len(operations)

    async def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`, sent together, in their order.

        That is :class:`~sinapse.errors.BrokerUnavailable` for what failed; it is raised if nothing
        was sent at all.
        """
        captured = standin.results(operations)
        return await self.carry_out(operations) if captured is None else captured

    @abstractmethod
    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the same, whoever stands in for Redis."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections; a later operation opens new ones."""


def _only(results: Sequence[Any]) -> Any:
    [result] = results
    if isinstance(result, SinapseError):
        raise result
    return result
