"""The library on Twisted: its coroutines, as Deferreds."""

from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self

from twisted.internet.defer import Deferred, gatherResults

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher import awaiting
from sinapse.publisher.base import ANSWER_TIMEOUT, CONNECT_TIMEOUT, BasePublisher
from sinapse.publisher.operations.groups import GroupLike
from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import T
from sinapse.publisher.operations.runner import AwaitedRunner
from sinapse.publisher.operations.sessions import SESSIONS
from sinapse.publisher.pipeline import Collection
from sinapse.publisher.runs import awaited
from sinapse.publisher.runs.awaited import Run
from sinapse.publisher.runs.block import ERROR_TEXT, RUN_RETAIN
from sinapse.publisher.signatures import showing
from sinapse.publisher.tx.connections import Connections
from sinapse.publisher.tx.turns import ReactorTurns

P = ParamSpec("P")


def deferred(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], "Deferred[T]"]:
    """Return `method` as one that starts at once; for invalid arguments too, its Deferred fails."""

    def begin(self: Any, /, *values: P.args, **options: P.kwargs) -> "Deferred[T]":
        return Deferred.fromCoroutine(method(self, *values, **options))

    return showing(begin, method, Deferred)


class Tokens:
    """``publisher.tokens``: as :class:`sinapse.publisher.tokens.Tokens`, in Deferreds."""

    def __init__(self, connections: AwaitedRunner, *, hashed: bool = False) -> None:
        self._run = connections.run
        self._hashed = hashed

    get: Final = deferred(awaiting.Tokens.get)
    generate: Final = deferred(awaiting.Tokens.generate)
    reset: Final = deferred(awaiting.Tokens.reset)
    obtain: Final = deferred(awaiting.Tokens.obtain)
    renew: Final = deferred(awaiting.Tokens.renew)
    clear: Final = deferred(awaiting.Tokens.clear)


class Sessions:
    """``publisher.sessions``: as :class:`sinapse.publisher.sessions.Sessions`, in Deferreds."""

    def __init__(
        self, connections: AwaitedRunner, *, most: int = SESSIONS, hashed: bool = False
    ) -> None:
        self._run = connections.run
        self._most = most
        self._hashed = hashed

    open: Final = deferred(awaiting.Sessions.open)
    list: Final = deferred(awaiting.Sessions.list)
    renew: Final = deferred(awaiting.Sessions.renew)
    end: Final = deferred(awaiting.Sessions.end)
    end_all: Final = deferred(awaiting.Sessions.end_all)


class Channels:
    """``publisher.channels``: as :class:`sinapse.publisher.channels.Channels`, in Deferreds."""

    def __init__(self, connections: AwaitedRunner) -> None:
        self._run = connections.run

    list: Final = deferred(awaiting.Channels.list)
    has: Final = deferred(awaiting.Channels.has)
    add: Final = deferred(awaiting.Channels.add)
    remove: Final = deferred(awaiting.Channels.remove)
    clear: Final = deferred(awaiting.Channels.clear)


class Groups:
    """``publisher.groups``: as :class:`sinapse.publisher.groups.Groups`, in Deferreds."""

    def __init__(self, connections: AwaitedRunner) -> None:
        self._connections = connections
        self._run = connections.run

    add: Final = deferred(awaiting.Groups.add)
    remove: Final = deferred(awaiting.Groups.remove)
    clear: Final = deferred(awaiting.Groups.clear)
    of: Final = deferred(awaiting.Groups.of)
    members: Final = deferred(awaiting.Groups.members)

    def channels(self, group: GroupLike) -> "GroupChannels":
        """Return the channels of `group`, to be changed."""
        return GroupChannels(self._connections, group)


class GroupChannels:
    """``publisher.groups.channels(group)``: the channels of one group, in Deferreds."""

    def __init__(self, connections: AwaitedRunner, group: GroupLike) -> None:
        self._run = connections.run
        self._group = group

    list: Final = deferred(awaiting.GroupChannels.list)
    add: Final = deferred(awaiting.GroupChannels.add)
    remove: Final = deferred(awaiting.GroupChannels.remove)
    clear: Final = deferred(awaiting.GroupChannels.clear)


class Runs(awaited.Runs):
    """``publisher.runs``: as :class:`sinapse.publisher.runs.Runs`, in Deferreds."""

    get: Final = deferred(awaited.Runs.get)  # type: ignore[assignment]  # A Deferred can be awaited too.
    stop: Final = deferred(awaited.Runs.stop)  # type: ignore[assignment]


class Pipeline(Collection):
    """Collects operations, and sends them when its ``async with`` block ends, or by :meth:`send`.

    See :class:`sinapse.publisher.pipeline.Pipeline`.
    """

    def __init__(
        self, connections: AwaitedRunner, messages: Messages, *, hashed: bool, max_sessions: int
    ) -> None:
        super().__init__(messages, hashed=hashed, max_sessions=max_sessions)
        self._connections = connections

    send: Final = deferred(awaiting.Pipeline.send)

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
    """Publishes to Redis, and keeps tokens and lists of channels there.

    One for a process is enough; use it in the thread of the reactor. It has one connection to each
    Redis, opened when it is needed, and again when Redis comes back. Commands are sent without
    waiting for earlier answers. A Deferred may be cancelled, but Redis may carry out a command that
    was sent.

    The settings are those of :class:`sinapse.publisher.Publisher`; `reactor` is Twisted's global
    one if none is given.
    """

    def __init__(
        self,
        url: str | RedisURL | Sequence[str | RedisURL] | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        hash_tokens: bool | None = None,
        max_sessions: int | None = None,
        prefix: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = ANSWER_TIMEOUT,
        batch: bool = True,
        reactor: Any = None,
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
        if reactor is None:
            # The import installs it; an application that wants a different one does so before.
            from twisted.internet import reactor  # noqa: PLC0415
        parts = [
            Connections(
                each,
                connect_timeout=connect_timeout,
                timeout=timeout,
                reactor=reactor,
                batch=batch,
            )
            for each in self.urls
        ]
        self._connections = awaiting.joined(
            parts,
            self.shards,
            lambda coroutines: gatherResults(map(Deferred.fromCoroutine, coroutines)),
        )
        self.tokens: Tokens = Tokens(self._connections, hashed=self.hash_tokens)
        self.sessions: Sessions = Sessions(
            self._connections, most=self.max_sessions, hashed=self.hash_tokens
        )
        self.channels: Channels = Channels(self._connections)
        self.groups: Groups = Groups(self._connections)
        turns = ReactorTurns(reactor)
        self.runs: Runs = Runs(self._connections, self.shards, self.max_message, turns)

    publish: Final = deferred(awaiting.Publisher.publish)
    publish_to: Final = deferred(awaiting.Publisher.publish_to)
    publish_many: Final = deferred(awaiting.Publisher.publish_many)
    history: Final = deferred(awaiting.Publisher.history)
    position: Final = deferred(awaiting.Publisher.position)
    online: Final = deferred(awaiting.Publisher.online)
    online_in: Final = deferred(awaiting.Publisher.online_in)
    audience: Final = deferred(awaiting.Publisher.audience)
    close: Final = deferred(awaiting.Publisher.close)

    def run(
        self,
        subject: SubjectId,
        name: str = "run",
        *,
        retain: float = RUN_RETAIN,
        error_text: str = ERROR_TEXT,
    ) -> Run:
        """Return a run for ``async with``, whose methods are coroutines.

        See :meth:`sinapse.publisher.Publisher.run`.
        """
        return Run(self.runs, subject, name, retain, error_text)

    def pipeline(self) -> Pipeline:
        """Return a :class:`~sinapse.publisher.tx.client.Pipeline`, for ``async with``."""
        return Pipeline(
            self._connections,
            self.messages,
            hashed=self.hash_tokens,
            max_sessions=self.max_sessions,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
