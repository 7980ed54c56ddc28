"""Operations on several Redis: which Redis gets which part, and the result of the whole."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.operation import Operation

#: Operations for each Redis, by its place in the list, without those that have none.
Asked: TypeAlias = Mapping[int, Sequence[Operation[Any]]]

#: The results of each, or why there are none.
Outcomes: TypeAlias = Mapping[int, list[Any] | BrokerUnavailable]

#: Yields what to ask, is sent the outcomes, and returns the results.
Asking: TypeAlias = Generator[Asked, Outcomes, list[Any]]


def carry(operations: Sequence[Operation[Any]], shards: Shards) -> Asking:
    """Carry operations out on several Redis: one round trip to each that takes part."""
    spread = Spread(operations, shards)
    outcomes = yield spread.parts
    if announcements := spread.announcements():
        yield announcements
    return spread.gather(outcomes)


class Spread:
    """`operations`, spread over several Redis. Their order is kept in each, and not between them.

    If an operation concerns all Redis, each does its part, and the results are combined.
    """

    def __init__(self, operations: Sequence[Operation[Any]], shards: Shards) -> None:
        self._operations = operations
        self._count = len(shards)
        #: The operations for each Redis.
        self.parts: dict[int, list[Operation[Any]]] = {}
        self._places: list[list[tuple[int, int]]] = []
        for operation in operations:
            operation.spread_over(shards)
            place = operation.place(shards)
            asked = range(len(shards)) if place is None else (place,)
            self._places.append([self._put(operation, shard) for shard in asked])

    def _put(self, operation: Operation[Any], shard: int) -> tuple[int, int]:
        part = self.parts.setdefault(shard, [])
        part.append(operation)
        return shard, len(part) - 1

    def gather(self, outcomes: Outcomes) -> list[Any]:
        """Return the result of each operation.

        `outcomes` are those of :attr:`parts`. If a part of an operation fails, the whole fails,
        though its other parts may have been carried out. Raises
        :class:`~sinapse.errors.BrokerUnavailable` if nothing was sent at all.
        """
        refusals = [each for each in outcomes.values() if isinstance(each, BrokerUnavailable)]
        if refusals and len(refusals) == len(outcomes):
            raise refusals[0]
        return [
            self._whole(operation, [found(outcomes[shard], at) for shard, at in places])
            for operation, places in zip(self._operations, self._places, strict=True)
        ]

    def announcements(self) -> Mapping[int, Sequence[Operation[Any]]]:
        """Return the announcements to each Redis of changes elsewhere, once :attr:`parts` are done.

        It does not matter if some fail: nodes get them from any Redis that is there.
        """
        told: dict[int, list[Operation[Any]]] = {}
        for operation, places in zip(self._operations, self._places, strict=True):
            if announcements := operation.announcements():
                asked = {shard for shard, _ in places}
                for shard in range(self._count):
                    if shard not in asked:
                        told.setdefault(shard, []).extend(announcements)
        return told

    def _whole(self, operation: Operation[Any], results: list[Any]) -> Any:
        failures = [each for each in results if isinstance(each, BrokerUnavailable)]
        if not failures:
            return results[0] if operation.spread_by is not None else operation.combine(results)
        if len(failures) == len(results):
            return failures[0]
        # Other parts were carried out, so that delivered=False would be wrong.
        return BrokerUnavailable(str(failures[0]), delivered=None)


def found(outcome: list[Any] | BrokerUnavailable, place: int) -> Any:
    """Return the result of one of the operations that a Redis was asked."""
    return outcome if isinstance(outcome, BrokerUnavailable) else outcome[place]
