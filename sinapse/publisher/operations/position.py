"""The position: how far all channels have got by now."""

from collections.abc import Sequence
from typing import Any

from sinapse.protocol.ids import position
from sinapse.protocol.names import Names
from sinapse.protocol.places import join
from sinapse.protocol.sharding import Shards, numbered
from sinapse.publisher.operations.operation import Operation, Request


class Position(Operation[str]):
    """The id of now; of several Redis each gives its part."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards = numbered(1)

    def spread_over(self, shards: Shards) -> None:
        """Note what the parts of an id are."""
        self._shards = shards

    def combine(self, results: Sequence[str]) -> str:
        """Return the parts as one id, in the order of the Redis."""
        return join(self._shards, results)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked: it reads, and writes nothing."""
        return Request(("HMGET", names.retention, "epoch", "counter"))

    def result(self, answer: Any) -> str:
        """Return the id; without an epoch no id was given yet."""
        epoch, counter = answer
        return str(position(epoch or b"", counter or b"0"))
