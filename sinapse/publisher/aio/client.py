"""The plain interface: everything by name and id."""

from collections.abc import Iterable
from typing import Self

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.aio.channels import Channels
from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.aio.pipeline import Pipeline, run_each
from sinapse.publisher.aio.shards import ShardedConnections
from sinapse.publisher.aio.tokens import Tokens
from sinapse.publisher.base import CONNECT_TIMEOUT, POOL_SIZE, TIMEOUT, BasePublisher
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, SubjectId
from sinapse.publisher.operations.messages import AnyOutgoing
from sinapse.publisher.operations.presence import IsOnline, OnlineIn


class Publisher(BasePublisher):
    """Publishes to Redis, and keeps tokens and lists of channels there.

    One for a process is enough: tasks share it, and each event loop has connections of its own.
    Nothing is opened before it is needed, and again when Redis comes back. A task that is
    cancelled leaves nothing behind, but what it has sent may have been carried out.

    The settings are those of :class:`sinapse.publisher.Publisher`; `max_connections` is for each
    event loop.
    """

    def __init__(
        self,
        url: str | RedisURL | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        hash_tokens: bool | None = None,
        max_connections: int = POOL_SIZE,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(url, max_message, retain, retain_messages, hash_tokens)
        options = {"connect_timeout": connect_timeout, "timeout": timeout}
        self._connections: Connections | ShardedConnections = (
            Connections(self.urls[0], size=max_connections, **options)
            if len(self.urls) == 1
            else ShardedConnections(self.urls, size=max_connections, **options)
        )
        self.tokens: Tokens = Tokens(self._connections, hashed=self.hash_tokens)
        self.channels: Channels = Channels(self._connections)

    async def publish(
        self,
        channel: ChannelLike | ChannelsLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
    ) -> int:
        """Send `message` to everybody who may listen to `channel`; return how many nodes heard it.

        See :meth:`sinapse.publisher.Publisher.publish`.
        """
        copies = self._messages.copies(channel, message, event, retain, message_id)
        if len(copies) == 1:
            return await self._connections.run(copies[0])
        return sum(complete(await run_each(self._connections, copies)))

    async def publish_many(self, messages: Iterable[AnyOutgoing]) -> list[int]:
        """Send `messages` in one round trip, in their order; return how many nodes heard each.

        See :meth:`sinapse.publisher.Publisher.publish_many`.
        """
        operations = self._messages.publish_many(messages)
        return complete(await run_each(self._connections, operations))

    def pipeline(self) -> Pipeline:
        """Return a :class:`~sinapse.publisher.aio.pipeline.Pipeline`, for ``async with``."""
        return Pipeline(self._connections, self._messages, hashed=self.hash_tokens)

    async def online(self, subject: SubjectId) -> bool:
        """Whether `subject` has a stream: see :meth:`sinapse.publisher.Publisher.online`."""
        return await self._connections.run(IsOnline(subject))

    async def online_in(self, channel: ChannelLike) -> set[str]:
        """Return who is online and may listen to `channel`, by their ids.

        See :meth:`sinapse.publisher.Publisher.online_in`.
        """
        return await self._connections.run(OnlineIn(channel))

    async def close(self) -> None:
        """Close the connections of this event loop; a later operation opens new ones."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
