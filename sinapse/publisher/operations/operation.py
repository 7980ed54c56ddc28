"""What an operation is: commands for Redis, and what its answers mean."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from sinapse.errors import BrokerUnavailable
from sinapse.redisurl import RedisURL
from sinapse.scripts import Script

T = TypeVar("T")

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

#: How Redis 6.2, 7 and Valkey say that a script went on until a command that its user may not
#: call. It is the one failure of our scripts that can come after a first write.
_DENIED_IN_SCRIPT = ("executing the script can't", "ACL failure in script")


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

    def whole(self) -> Command:
        """Return the command for any Redis."""
        return (
            self.operands if self.script is None else ("EVAL", self.script.source, *self.operands)
        )


def call(script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Request:
    """Return the request to run `script`."""
    return Request((len(keys), *keys, *arguments), script)


class Operation(ABC, Generic[T]):
    """Something that Redis is asked for, in one round trip; `T` is what comes of it."""

    __slots__ = ()

    @property
    def spread_by(self) -> str | None:
        """The name that decides which of several Redis is asked; None if all are."""
        return None

    def spread_over(self, count: int) -> None:
        """Take note that there are `count` Redis."""

    def combine(self, results: Sequence[T]) -> T:
        """Return what comes of it as a whole where all are asked: each does its part."""
        raise NotImplementedError(f"{type(self).__name__} cannot be asked of several Redis")

    @abstractmethod
    def request(self) -> Request:
        """Return what Redis is asked."""

    @abstractmethod
    def result(self, answer: Any) -> "T | Operation[T]":
        """Return what `answer` means, or the operation to go on with. Strings in it are bytes."""


@dataclass(slots=True)
class Plain(Operation[Any]):
    """A command whose answer is taken as it is."""

    command: Command

    def request(self) -> Request:
        """Return the command."""
        return Request(self.command)

    def result(self, answer: Any) -> Any:
        """Return the answer."""
        return answer


class Refused(NamedTuple):
    """In the place of an answer: Redis said that it will not, or cannot."""

    text: str
    is_unknown_script: bool = False


class Lost(NamedTuple):
    """In the place of an answer: none came, so that nobody knows what Redis has done."""

    text: str
    cause: BaseException | None = None


def exchange(
    url: RedisURL, operations: Sequence[Operation[Any]]
) -> Generator[list[Command], list[Any], list[Any]]:
    """Yield commands to send together, take their answers, and return what came of each operation.

    In the place of an answer there can be :class:`Refused` or :class:`Lost`, and in that of a
    result :class:`~sinapse.errors.BrokerUnavailable`. Nothing is sent twice that Redis can have
    carried out. Of several, each script is sent whole the first time: none of them has to be sent
    again, out of order, because Redis does not know it yet.
    """
    results: list[Any] = [None] * len(operations)
    waiting = list(enumerate(operations))
    while waiting:
        requests = [operation.request() for _, operation in waiting]
        if len(requests) == 1:
            answers = yield [requests[0].short()]
            if type(answers[0]) is Refused and answers[0].is_unknown_script:
                answers = yield [requests[0].whole()]
        else:
            answers = yield _introduced(requests)
        further = []
        for (index, operation), answer in zip(waiting, answers, strict=True):
            if type(answer) is Refused or type(answer) is Lost:
                results[index] = _failure(url, answer)
                continue
            result = operation.result(answer)
            if isinstance(result, Operation):
                further.append((index, result))
            else:
                results[index] = result
        waiting = further
    return results


def _introduced(requests: Sequence[Request]) -> list[Command]:
    known: set[Script | None] = set()
    commands = []
    for request in requests:
        commands.append(request.short() if request.script in known else request.whole())
        known.add(request.script)
    return commands


def _failure(url: RedisURL, answer: Refused | Lost) -> BrokerUnavailable:
    if isinstance(answer, Lost):
        error = unavailable(url, answer.text, delivered=None)
        error.__cause__ = answer.cause
        return error
    denied_in_script = any(part in answer.text for part in _DENIED_IN_SCRIPT)
    return unavailable(url, answer.text, delivered=None if denied_in_script else False)


def unavailable(
    url: RedisURL, text: str, delivered: Literal[False] | None = False
) -> BrokerUnavailable:
    """Return the error for what has happened to the Redis of `url`."""
    return BrokerUnavailable(f"Redis at {url}: {text}", delivered)


def without_arguments(error: Exception) -> str:
    """Return the text of an error that Redis answered; the error itself must not be chained.

    Redis quotes an unknown command with its arguments: a token, or the password for AUTH.
    """
    return str(error).partition(", with args")[0]
