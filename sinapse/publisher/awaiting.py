"""The library in coroutines, which both asyncio and Twisted can run."""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar, cast

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import Shards
from sinapse.publisher import channels, groups, sessions, tokens
from sinapse.publisher.base import BasePublisher
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.groups import GroupLike
from sinapse.publisher.operations.history import LIMIT, History, ReadHistory
from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, SubjectId, inbox
from sinapse.publisher.operations.messages import AnyOutgoing, Messages
from sinapse.publisher.operations.moving import carry_while_moving
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import Audience, IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.operations.runner import AwaitedRunner
from sinapse.publisher.operations.sessions import SESSIONS
from sinapse.publisher.operations.spread import Asked, Outcomes, carry
from sinapse.publisher.operations.step import checked
from sinapse.publisher.pipeline import Collection, settled
from sinapse.publisher.runs.awaited import Run, Runs, Turns
from sinapse.publisher.runs.block import ERROR_TEXT, RUN_RETAIN
from sinapse.publisher.signatures import showing

P = ParamSpec("P")

#: The results of the operations that one of several Redis gets.
R = TypeVar("R")

Outcome: TypeAlias = list[Any] | BrokerUnavailable

#: Runs coroutines at the same time, and returns their results, in their order.
Together: TypeAlias = Callable[[Iterable[Coroutine[Any, Any, Outcome]]], Awaitable[list[Outcome]]]


def awaited(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return `method` of the library for a class with an asynchronous ``_run``."""

    async def ask(self: Any, /, *values: P.args, **options: P.kwargs) -> T:
        asked: Any = method(self, *values, **options)
        return cast(T, await asked)

    return showing(ask, method)


class Tokens:
    """``publisher.tokens``: as :class:`sinapse.publisher.tokens.Tokens`, to be awaited."""

    def __init__(self, connections: AwaitedRunner, *, hashed: bool = False) -> None:
        self._run = connections.run
        self._hashed = hashed

    get: Final = awaited(tokens.Tokens.get)
    generate: Final = awaited(tokens.Tokens.generate)
    reset: Final = awaited(tokens.Tokens.reset)
    obtain: Final = awaited(tokens.Tokens.obtain)
    renew: Final = awaited(tokens.Tokens.renew)
    clear: Final = awaited(tokens.Tokens.clear)


class Sessions:
    """``publisher.sessions``: as :class:`sinapse.publisher.sessions.Sessions`, to be awaited."""

    def __init__(
        self, connections: AwaitedRunner, *, most: int = SESSIONS, hashed: bool = False
    ) -> None:
        self._run = connections.run
        self._most = most
        self._hashed = hashed

    open: Final = awaited(sessions.Sessions.open)
    list: Final = awaited(sessions.Sessions.list)
    renew: Final = awaited(sessions.Sessions.renew)
    end: Final = awaited(sessions.Sessions.end)
    end_all: Final = awaited(sessions.Sessions.end_all)


class Channels:
    """``publisher.channels``: as :class:`sinapse.publisher.channels.Channels`, to be awaited."""

    def __init__(self, connections: AwaitedRunner) -> None:
        self._run = connections.run

    list: Final = awaited(channels.Channels.list)
    has: Final = awaited(channels.Channels.has)
    add: Final = awaited(channels.Channels.add)
    remove: Final = awaited(channels.Channels.remove)
    clear: Final = awaited(channels.Channels.clear)


class Groups:
    """``publisher.groups``: as :class:`sinapse.publisher.groups.Groups`, to be awaited."""

    def __init__(self, connections: AwaitedRunner) -> None:
        self._connections = connections
        self._run = connections.run

    add: Final = awaited(groups.Groups.add)
    remove: Final = awaited(groups.Groups.remove)
    clear: Final = awaited(groups.Groups.clear)
    of: Final = awaited(groups.Groups.of)
    members: Final = awaited(groups.Groups.members)

    def channels(self, group: GroupLike) -> "GroupChannels":
        """Return the channels of `group`, to be changed."""
        return GroupChannels(self._connections, group)


class GroupChannels:
    """``publisher.groups.channels(group)``: the channels of one group, to be awaited."""

    def __init__(self, connections: AwaitedRunner, group: GroupLike) -> None:
        self._run = connections.run
        self._group = group

    list: Final = awaited(groups.GroupChannels.list)
    add: Final = awaited(groups.GroupChannels.add)
    remove: Final = awaited(groups.GroupChannels.remove)
    clear: Final = awaited(groups.GroupChannels.clear)


class Pipeline(Collection):
    """Collects operations, and sends them when its ``async with`` block ends, or by :meth:`send`.

    ::

        async with publisher.pipeline() as pipe:
            pipe.channels.add("42", "news")
            token = pipe.tokens.generate("42")
            pipe.publish("news", "hello")
        token.result

    Redis carries them out in their order; those of others may come between them. If the block ends
    with an exception, none is sent. A pipeline is for one task.
    """

    def __init__(
        self, connections: AwaitedRunner, messages: Messages, *, hashed: bool, max_sessions: int
    ) -> None:
        super().__init__(messages, hashed=hashed, max_sessions=max_sessions)
        self._connections = connections

    async def send(self) -> list[Any]:
        """Send the collected operations, return their results, and begin anew.

        Raises :class:`~sinapse.errors.Incomplete` if any of them failed.
        """
        operations, pending = self.take()
        return settled(pending, await self._connections.run_each(operations))

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


class Publisher(BasePublisher):
    """A publisher; `connect` makes connections to each Redis, `together` runs them at once.

    `turns` is the event loop, for runs.

    The rest is as in :class:`sinapse.publisher.Publisher`.
    """

    def __init__(
        self,
        url: str | RedisURL | Sequence[str | RedisURL] | None,
        max_message: int | None,
        retain: float | None,
        retain_messages: int | None,
        hash_tokens: bool | None,
        *,
        max_sessions: int | None,
        prefix: str | None,
        connect: Callable[[RedisURL], AwaitedRunner],
        together: Together,
        turns: Turns,
    ) -> None:
        super().__init__(
            url,
            max_message,
            retain,
            retain_messages,
            hash_tokens,
            max_sessions=max_sessions,
            prefix=prefix,
        )
        self._connections = joined([connect(each) for each in self.urls], self.shards, together)
        self.tokens: Tokens = Tokens(self._connections, hashed=self.hash_tokens)
        self.sessions: Sessions = Sessions(
            self._connections, most=self.max_sessions, hashed=self.hash_tokens
        )
        self.channels: Channels = Channels(self._connections)
        self.groups: Groups = Groups(self._connections)
        self.runs: Runs = Runs(self._connections, self.shards, self.max_message, turns)

    async def publish(
        self,
        channel: ChannelLike | ChannelsLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to all who may listen to `channel`; return how many nodes received it.

        See :meth:`sinapse.publisher.Publisher.publish`.
        """
        copies = self.messages.copies(
            channel,
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )
        if len(copies) == 1:
            return await self._connections.run(copies[0])
        return Published(sum(complete(await self._connections.run_each(copies))))

    async def publish_to(
        self,
        subject: SubjectId,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to one subject; return how many nodes received it.

        See :meth:`sinapse.publisher.Publisher.publish_to`.
        """
        return await self.publish(
            inbox(subject),
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )

    async def publish_many(self, messages: Iterable[AnyOutgoing]) -> list[Published]:
        """Send `messages` together, in their order; return how many nodes received each.

        See :meth:`sinapse.publisher.Publisher.publish_many`.
        """
        operations = self.messages.publish_many(messages)
        return complete(await self._connections.run_each(operations))

    def pipeline(self) -> Pipeline:
        """Return a :class:`~sinapse.publisher.awaiting.Pipeline`, for ``async with``."""
        return Pipeline(
            self._connections,
            self.messages,
            hashed=self.hash_tokens,
            max_sessions=self.max_sessions,
        )

    async def history(
        self, channel: ChannelLike, after: str | None = None, limit: int = LIMIT
    ) -> History:
        """Return what is retained of `channel`: see :meth:`sinapse.publisher.Publisher.history`."""
        return await self._connections.run(ReadHistory(channel, after, limit))

    def run(
        self,
        subject: SubjectId,
        name: str = "run",
        *,
        retain: float = RUN_RETAIN,
        error_text: str = ERROR_TEXT,
    ) -> Run:
        """Return a run for an ``async with`` block: see :meth:`sinapse.publisher.Publisher.run`."""
        return Run(self.runs, subject, name, retain, error_text)

    async def position(self) -> str:
        """Return the id of now: see :meth:`sinapse.publisher.Publisher.position`."""
        return await self._connections.run(Position())

    async def online(self, subject: SubjectId) -> bool:
        """Whether `subject` has a stream: see :meth:`sinapse.publisher.Publisher.online`."""
        return await self._connections.run(IsOnline(subject))

    async def online_in(self, channel: ChannelLike) -> set[str]:
        """Return the ids of subjects that are online and may listen to `channel`.

        See :meth:`sinapse.publisher.Publisher.online_in`.
        """
        return await self._connections.run(OnlineIn(channel))

    async def audience(self, channel: ChannelLike) -> Audience:
        """Return how many listen to `channel`: see :meth:`sinapse.publisher.Publisher.audience`."""
        return await self._connections.run(ReadAudience(channel))

    async def close(self) -> None:
        """Close the connections; a later operation opens new ones.

        On asyncio they are those of this event loop; on Twisted, it first waits for the answers to
        all commands.
        """
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def joined(parts: Sequence[AwaitedRunner], shards: Shards, together: Together) -> AwaitedRunner:
    """Return one runner for all operations, for connections to one Redis or several."""
    return ShardedConnections(parts, shards, together) if shards.are_spread else parts[0]


class ShardedConnections(AwaitedRunner):
    """Connections to several Redis, with the channels spread over them.

    `together` sends to all at once.
    """

    def __init__(self, parts: Sequence[AwaitedRunner], shards: Shards, together: Together) -> None:
        self._parts = parts
        self._shards = shards
        self._together = together
        self._is_checked = False

    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip to each Redis that takes part."""
        if not self._shards.moving:
            return await self._drive(carry(operations, self._shards))
        if not self._is_checked:
            await self._drive(checked(self._shards))
            self._is_checked = True
        return await self._drive(carry_while_moving(operations, self._shards))

    async def _drive(self, asking: Generator[Asked, Outcomes, R]) -> R:
        """Ask each Redis what `asking` yields, and return its result."""
        try:
            asked = next(asking)
            while True:
                asked = asking.send(await self._ask_all(asked))
        except StopIteration as end:
            return cast(R, end.value)

    async def _ask_all(self, parts: Asked) -> dict[int, Outcome]:
        outcomes = await self._together(self._ask(*part) for part in parts.items())
        return dict(zip(parts, outcomes, strict=True))

    async def _ask(self, shard: int, operations: Sequence[Operation[Any]]) -> Outcome:
        try:
            return await self._parts[shard].run_all(operations)
        except BrokerUnavailable as error:
            return error

    async def close(self) -> None:
        """Close the connections to each Redis."""
        for part in self._parts:
            await part.close()
