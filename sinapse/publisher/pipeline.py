"""Pipelines: several operations in one round trip."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, cast

from sinapse.errors import SinapseError
from sinapse.publisher.channels import Channels
from sinapse.publisher.groups import GroupChannels, Groups
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.groups import GroupLike
from sinapse.publisher.operations.history import LIMIT, History, ReadHistory
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.sessions import Sessions
from sinapse.publisher.signatures import showing
from sinapse.publisher.tokens import Tokens

P = ParamSpec("P")

_NOT_SENT = object()


class Pending(Generic[T]):
    """The future result of an operation of a pipeline."""

    __slots__ = ("_result",)

    def __init__(self) -> None:
        self._result: Any = _NOT_SENT

    @property
    def result(self) -> T:
        """The result; raises the error of the operation, and ``RuntimeError`` before it is sent."""
        if self._result is _NOT_SENT:
            raise RuntimeError("the pipeline was not sent yet")
        if isinstance(self._result, SinapseError):
            raise self._result
        return cast(T, self._result)

    def settle(self, result: Any) -> None:
        """Set the result, or the error."""
        self._result = result


def collected(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Pending[T]]:
    """Return `method` of the library for a class whose ``_run`` collects operations."""

    def collect(self: Any, /, *values: P.args, **options: P.kwargs) -> Pending[T]:
        return cast(Pending[T], method(self, *values, **options))

    return showing(collect, method, Pending)


class Collection:
    """Operations, in the order of their calls."""

    def __init__(self, messages: Messages, *, hashed: bool, max_sessions: int) -> None:
        self._messages = messages
        self._operations: list[Operation[Any]] = []
        self._pending: list[Pending[Any]] = []
        self.tokens: CollectedTokens = CollectedTokens(self, hashed=hashed)
        self.sessions: CollectedSessions = CollectedSessions(self, most=max_sessions, hashed=hashed)
        self.channels: CollectedChannels = CollectedChannels(self)
        self.groups: CollectedGroups = CollectedGroups(self)

    def publish(
        self,
        channel: ChannelLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Pending[Published]:
        """Publish with the others, as the publisher does; invalid arguments raise at once."""
        return self.add(
            self._messages.publish(
                channel,
                message,
                event,
                retain,
                message_id,
                replay=replay,
                retain_messages=retain_messages,
                but=but,
            )
        )

    def history(
        self, channel: ChannelLike, after: str | None = None, limit: int = LIMIT
    ) -> Pending[History]:
        """Read what is retained with the others: as the publisher's, and of their moment."""
        return self.add(ReadHistory(channel, after, limit))

    def position(self) -> Pending[str]:
        """Read the position with the others: as the publisher's, and of their moment."""
        return self.add(Position())

    def add(self, operation: Operation[T]) -> Pending[T]:
        """Do `operation` with the others."""
        pending: Pending[T] = Pending()
        self._operations.append(operation)
        self._pending.append(pending)
        return pending

    def __len__(self) -> int:
        return len(self._operations)

    def take(self) -> tuple[list[Operation[Any]], list[Pending[Any]]]:
        """Return the operations and their future results, and begin anew."""
        taken = self._operations, self._pending
        self._operations, self._pending = [], []
        return taken


def settled(pending: list[Pending[Any]], results: list[Any]) -> list[Any]:
    """Set the result of each of `pending`, and return `results`; raises as :func:`complete`."""
    for each, result in zip(pending, results, strict=True):
        each.settle(result)
    return complete(results)


class CollectedTokens:
    """``pipe.tokens``: as :class:`sinapse.publisher.tokens.Tokens`, to be sent with the others."""

    def __init__(self, collection: Collection, *, hashed: bool) -> None:
        self._run = collection.add
        self._hashed = hashed

    get: Final = collected(Tokens.get)
    generate: Final = collected(Tokens.generate)
    reset: Final = collected(Tokens.reset)
    obtain: Final = collected(Tokens.obtain)
    renew: Final = collected(Tokens.renew)
    clear: Final = collected(Tokens.clear)


class CollectedSessions:
    """``pipe.sessions``: as :class:`sinapse.publisher.sessions.Sessions`, sent with the others."""

    def __init__(self, collection: Collection, *, most: int, hashed: bool) -> None:
        self._run = collection.add
        self._most = most
        self._hashed = hashed

    open: Final = collected(Sessions.open)
    list: Final = collected(Sessions.list)
    renew: Final = collected(Sessions.renew)
    end: Final = collected(Sessions.end)
    end_all: Final = collected(Sessions.end_all)


class CollectedChannels:
    """``pipe.channels``: as :class:`sinapse.publisher.channels.Channels`, sent with the others."""

    def __init__(self, collection: Collection) -> None:
        self._run = collection.add

    list: Final = collected(Channels.list)
    has: Final = collected(Channels.has)
    add: Final = collected(Channels.add)
    remove: Final = collected(Channels.remove)
    clear: Final = collected(Channels.clear)


class CollectedGroups:
    """``pipe.groups``: as :class:`sinapse.publisher.groups.Groups`, sent with the others."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._run = collection.add

    add: Final = collected(Groups.add)
    remove: Final = collected(Groups.remove)
    clear: Final = collected(Groups.clear)
    of: Final = collected(Groups.of)
    members: Final = collected(Groups.members)

    def channels(self, group: GroupLike) -> "CollectedGroupChannels":
        """Return the channels of `group`, to be changed."""
        return CollectedGroupChannels(self._collection, group)


class CollectedGroupChannels:
    """``pipe.groups.channels(group)``: the channels of one group, changed with the others."""

    def __init__(self, collection: Collection, group: GroupLike) -> None:
        self._run = collection.add
        self._group = group

    list: Final = collected(GroupChannels.list)
    add: Final = collected(GroupChannels.add)
    remove: Final = collected(GroupChannels.remove)
    clear: Final = collected(GroupChannels.clear)


class Pipeline(Collection):
    """Collects operations, and sends them when its ``with`` block ends.

    ::

        with publisher.pipeline() as pipe:
            pipe.channels.add("42", "news")
            token = pipe.tokens.generate("42")
            pipe.publish("news", "hello")
        token.result

    Redis carries them out in their order; those of others may come between them. If the block ends
    with an exception, none is sent. A pipeline is for one thread.
    """

    def __init__(
        self, connections: Runner, messages: Messages, *, hashed: bool, max_sessions: int
    ) -> None:
        super().__init__(messages, hashed=hashed, max_sessions=max_sessions)
        self._connections = connections

    def send(self) -> list[Any]:
        """Send the collected operations, return their results, and begin anew.

        Raises :class:`~sinapse.errors.Incomplete` if any of them failed.
        """
        operations, pending = self.take()
        return settled(pending, self._connections.run_each(operations))

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
