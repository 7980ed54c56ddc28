"""The plain interface: everything by name and id."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from twisted.internet.defer import Deferred

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.base import CONNECT_TIMEOUT, TIMEOUT, BasePublisher
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, SubjectId
from sinapse.publisher.operations.messages import AnyOutgoing
from sinapse.publisher.operations.presence import IsOnline, OnlineIn
from sinapse.publisher.tx.channels import Channels
from sinapse.publisher.tx.connections import Connections, ask, run
from sinapse.publisher.tx.pipeline import Pipeline, run_each
from sinapse.publisher.tx.shards import ShardedConnections
from sinapse.publisher.tx.tokens import Tokens


class Publisher(BasePublisher):
    """Publishes to Redis, and keeps tokens and lists of channels there.

    One for a process is enough, to be used in the thread of the reactor. It has one connection to
    each Redis, on which commands follow each other without waiting; that is opened when it is
    needed, and again when Redis comes back. A Deferred may be cancelled, but what was sent may
    have been carried out.

    The settings are those of :class:`sinapse.publisher.Publisher`; `reactor` is Twisted's global
    one if none is given.
    """

    def __init__(
        self,
        url: str | RedisURL | Sequence[RedisURL] | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        hash_tokens: bool | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = TIMEOUT,
        reactor: Any = None,
    ) -> None:
        super().__init__(url, max_message, retain, retain_messages, hash_tokens)
        if reactor is None:
            # Importing it installs it, which is the application's to do before this.
            from twisted.internet import reactor  # noqa: PLC0415
        parts = [
            Connections(each, connect_timeout=connect_timeout, timeout=timeout, reactor=reactor)
            for each in self.urls
        ]
        self._connections = parts[0] if len(parts) == 1 else ShardedConnections(parts)
        self.tokens: Tokens = Tokens(self._connections, hashed=self.hash_tokens)
        self.channels: Channels = Channels(self._connections)

    def publish(
        self,
        channel: ChannelLike | ChannelsLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
    ) -> "Deferred[int]":
        """Send `message` to everybody who may listen to `channel`; return how many nodes heard it.

        See :meth:`sinapse.publisher.Publisher.publish`.
        """

        async def publish() -> int:
            copies = self._messages.copies(channel, message, event, retain, message_id)
            if len(copies) == 1:
                return await run(self._connections, copies[0])
            return sum(complete(await run_each(self._connections, copies)))

        return Deferred.fromCoroutine(publish())

    def publish_many(self, messages: Iterable[AnyOutgoing]) -> "Deferred[list[int]]":
        """Send `messages` together, in their order; return how many nodes heard each.

        See :meth:`sinapse.publisher.Publisher.publish_many`.
        """

        async def publish_many() -> list[int]:
            operations = self._messages.publish_many(messages)
            return complete(await run_each(self._connections, operations))

        return Deferred.fromCoroutine(publish_many())

    def pipeline(self) -> Pipeline:
        """Return a :class:`~sinapse.publisher.tx.pipeline.Pipeline`, for ``async with``."""
        return Pipeline(self._connections, self._messages, hashed=self.hash_tokens)

    def online(self, subject: SubjectId) -> "Deferred[bool]":
        """Whether `subject` has a stream: see :meth:`sinapse.publisher.Publisher.online`."""
        return ask(self._connections, IsOnline, subject)

    def online_in(self, channel: ChannelLike) -> "Deferred[set[str]]":
        """Return who is online and may listen to `channel`, by their ids.

        See :meth:`sinapse.publisher.Publisher.online_in`.
        """
        return ask(self._connections, OnlineIn, channel)

    def close(self) -> "Deferred[None]":
        """Close the connections once what is on its way was answered; later ones are new."""
        return Deferred.fromCoroutine(self._connections.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
