"""An operation: commands for Redis, and the meaning of its answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import Names
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import Script
from sinapse.protocol.sharding import Shards

T = TypeVar("T")

#: No number: see :func:`sinapse.publisher.connections.packed`.
Argument: TypeAlias = str | bytes
Command: TypeAlias = tuple[Argument, ...]


class Request(NamedTuple):
    """One command, or one call of a script."""

    operands: Command
    """The command; for a script, the number of keys, the keys and the arguments."""
    script: Script | None = None

    def short(self) -> Command:
        """Return the command for a Redis that knows the script."""
        return (
            self.operands if self.script is None else ("EVALSHA", self.script.sha, *self.operands)
        )

    def refused(self, text: str, names: Names) -> str:
        """Return the text with which Redis refused the request, made clearer if possible."""
        if self.script is None:
            return names.of_another_type(text, self.operands[1:2])
        last = 1 + int(self.operands[0])
        return names.of_another_type(text, self.operands[1:last], self.operands[last:])

    def whole(self) -> Command:
        """Return the command for any Redis, with the whole script."""
        return (
            self.operands if self.script is None else ("EVAL", self.script.source, *self.operands)
        )


def call(
    names: Names, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
) -> Request:
    """Return the request to run `script` where the names are `names`."""
    return Request((str(len(keys)), *keys, *arguments), script.under(names))


class Operation(ABC, Generic[T]):
    """A request to Redis, in one round trip; `T` is the type of its result."""

    __slots__ = ()

    @property
    def spread_by(self) -> str | None:
        """The name that decides which of several Redis gets it; None for all of them."""
        return None

    def place(self, shards: Shards) -> int | None:
        """Return which of several Redis gets it; None for all of them."""
        name = self.spread_by
        return None if name is None else shards.of(name.encode())

    def other(self, shards: Shards) -> int | None:
        """Return the other place of what it changes, if that moves."""
        name = self.spread_by
        return None if name is None else shards.other(name.encode())

    @property
    def entries(self) -> "Sequence[Entry]":
        """What it changes, or has changed, that has two places while it moves."""
        return ()

    @property
    def left(self) -> "Operation[Mapping[str, Entry]] | None":
        """What lists the rights that are left of what it has removed everywhere, by channels.

        While channels move these are made the same in both places.
        """
        return None

    @property
    def guard(self) -> "Operation[Any] | None":
        """What the place where its channel was is asked before it is carried out in the new one.

        If the result is not None, it is that of the operation, which is not carried out.
        """
        return None

    def is_claimed(self, result: Any) -> bool:  # noqa: ARG002
        """Whether the place where its channel was leaves it to the new one."""
        return False

    def elsewhere(self, place: int) -> "Operation[Any] | None":  # noqa: ARG002
        """Return what the other place is asked as well, while its channel moves, if anything."""
        return None

    def joined(self, result: T, other: Any) -> T:  # noqa: ARG002
        """Return the result of both, where `other` is that of :meth:`elsewhere`."""
        return result

    def spread_over(self, shards: Shards) -> None:
        """Note that it is for one or all of several Redis."""

    def combine(self, results: Sequence[T]) -> T:
        """Return the whole result from those of all Redis, if each does a part."""
        raise NotImplementedError(f"{type(self).__name__} cannot be asked of several Redis")

    def announcements(self) -> "Sequence[Operation[Any]]":
        """Return the announcements to the other Redis after the operation."""
        return ()

    @abstractmethod
    def request(self, names: Names) -> Request:
        """Return what the Redis is asked whose names are `names`."""

    @abstractmethod
    def result(self, answer: Any) -> "T | Operation[T]":
        """Return the meaning of `answer`, whose strings are bytes, or the operation to continue."""


class Entry(Protocol):
    """A right to a channel, or a token, as it stands in one place.

    It can be a key of a mapping, and is not equal to an entry of a different kind.
    """

    def read(self) -> Operation[Any]:
        """Return what reads it; two results are equal if it has not changed between."""

    def write(self, state: Any) -> Operation[Any]:
        """Return what makes it the same in another place as it was read."""


@dataclass(slots=True)
class Plain(Operation[Any]):
    """A command whose answer is taken as it is."""

    command: Command

    def request(self, _names: Names) -> Request:
        """Return the command."""
        return Request(self.command)

    def result(self, answer: Any) -> Any:
        """Return the answer."""
        return answer


class Refused(NamedTuple):
    """In the place of an answer: Redis has refused the command."""

    text: str
    is_unknown_script: bool = False


class Lost(NamedTuple):
    """In place of an answer: none came, so it is unknown what Redis has done."""

    text: str
    cause: BaseException | None = None


def unavailable(
    url: RedisURL, text: str, delivered: Literal[False] | None = False
) -> BrokerUnavailable:
    """Return the error for a failure of the Redis at `url`."""
    return BrokerUnavailable(f"Redis at {url}: {text}", delivered)


def without_arguments(error: Exception) -> str:
    """Return the text of an error that Redis answered; the error itself must not be chained.

    Redis quotes an unknown command with its arguments: a token, or the password for AUTH.
    """
    return str(error).partition(", with args")[0]
