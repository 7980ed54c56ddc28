"""Channels: what a subject may listen to, now and on its open streams."""

from twisted.internet.defer import Deferred

from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.identity import ChannelLike, SubjectId
from sinapse.publisher.tx.connections import Runner, ask


class Channels:
    """``publisher.channels``: as :class:`sinapse.publisher.channels.Channels`, in Deferreds."""

    def __init__(self, connections: Runner) -> None:
        self._connections = connections

    def list(self, subject: SubjectId) -> "Deferred[set[str]]":
        """Return the names of the channels that `subject` may listen to."""
        return ask(self._connections, ListChannels, subject)

    def has(self, subject: SubjectId, channel: ChannelLike) -> "Deferred[bool]":
        """Whether `subject` may listen to `channel`."""
        return ask(self._connections, HasChannel, subject, channel)

    def add(self, subject: SubjectId, channel: ChannelLike) -> "Deferred[bool]":
        """Let `subject` listen to `channel`; return whether that is new."""
        return ask(self._connections, AddChannel, subject, channel)

    def remove(self, subject: SubjectId, channel: ChannelLike) -> "Deferred[bool]":
        """Let `subject` listen to `channel` no longer; return whether it could before."""
        return ask(self._connections, RemoveChannel, subject, channel)

    def clear(self, subject: SubjectId) -> "Deferred[int]":
        """Let `subject` listen to nothing, which ends its streams; return how many were removed."""
        return ask(self._connections, ClearChannels, subject)
