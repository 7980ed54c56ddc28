"""Channels: what a subject may listen to, now and on its open streams."""

from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.aio.shards import ShardedConnections
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.identity import ChannelLike, SubjectId


class Channels:
    """``publisher.channels``: as :class:`sinapse.publisher.channels.Channels`, to be awaited."""

    def __init__(self, connections: Connections | ShardedConnections) -> None:
        self._run = connections.run

    async def list(self, subject: SubjectId) -> set[str]:
        """Return the names of the channels that `subject` may listen to."""
        return await self._run(ListChannels(subject))

    async def has(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Whether `subject` may listen to `channel`."""
        return await self._run(HasChannel(subject, channel))

    async def add(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Let `subject` listen to `channel`; return whether that is new."""
        return await self._run(AddChannel(subject, channel))

    async def remove(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Let `subject` listen to `channel` no longer; return whether it could before."""
        return await self._run(RemoveChannel(subject, channel))

    async def clear(self, subject: SubjectId) -> int:
        """Let `subject` listen to nothing, which ends its streams; return how many were removed."""
        return await self._run(ClearChannels(subject))
