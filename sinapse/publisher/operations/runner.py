"""Runners carry operations out: on one Redis, on several, or through the API."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from sinapse.errors import BrokerUnavailable, SinapseError
from sinapse.publisher.operations import spans, standin
from sinapse.publisher.operations.operation import Operation, T


class Runner(ABC):
    """Carries operations out in the thread of the caller."""

    def run(self, operation: Operation[T]) -> T:
        """Return the result of `operation`; raises its error."""
        return cast(T, _only(self.run_all([operation])))

    def run_each(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each of `operations`, an error for those that failed."""
        try:
            return self.run_all(operations) if operations else []
        except BrokerUnavailable as error:  # It is the same for all of them.
            return [error] * len(operations)

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each of `operations`, sent together, in their order.

        It is :class:`~sinapse.errors.BrokerUnavailable` for those that failed; this is raised if
        nothing was sent at all.
        """
        captured = standin.results(operations)
        if captured is not None:
            return captured
        sending = spans.sending(operations)
        if sending is None:
            return self.carry_out(operations)
        with sending:
            return sending.ended(self.carry_out(operations))

    @abstractmethod
    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the same, without a stand-in."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; a later operation opens new ones."""


class AwaitedRunner(ABC):
    """A :class:`Runner` to be awaited, on asyncio or Twisted."""

    async def run(self, operation: Operation[T]) -> T:
        """Return the result of `operation`; raises its error."""
        return cast(T, _only(await self.run_all([operation])))

    async def run_each(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each of `operations`, an error for those that failed."""
        try:
            return await self.run_all(operations) if operations else []
        except BrokerUnavailable as error:  # It is the same for all of them.
            return [error] * len(operations)

    def run_all(self, operations: Sequence[Operation[Any]]) -> Coroutine[Any, Any, list[Any]]:
        """Return the result of each of `operations`, sent together, in their order.

        It is :class:`~sinapse.errors.BrokerUnavailable` for those that failed; this is raised if
        nothing was sent at all.
        """
        captured = standin.results(operations)
        if captured is not None:
            return _known(captured)
        sending = spans.sending(operations)
        carrying = self.carry_out(operations)
        return carrying if sending is None else sending.awaited(carrying)

    @abstractmethod
    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the same, without a stand-in."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections; a later operation opens new ones."""


async def _known(results: list[Any]) -> list[Any]:
    return results


def _only(results: Sequence[Any]) -> Any:
    [result] = results
    if isinstance(result, SinapseError):
        raise result
    return result
