"""Channels: what a subject may listen to, now and on its open streams."""

from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.identity import ChannelLike, SubjectId
from sinapse.publisher.operations.runner import Runner


class Channels:
    """``publisher.channels``: the list of each subject, applied to its open streams at once.

    A channel is a name, or an object that has ``sinapse_channel``. Lists go by the id alone:
    ``User`` 1 and ``Admin`` 1 share theirs, as in Ruby's Sinapse; a class that defines
    ``sinapse_id`` can keep apart. What a subject may hear by its :class:`groups
    <sinapse.publisher.groups.Groups>` is not on its list. Every operation raises
    :class:`~sinapse.errors.InvalidSubject` or :class:`~sinapse.errors.InvalidChannel` for what
    is none, and :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses.
    """

    def __init__(self, connections: Runner) -> None:
        self._run = connections.run

    def list(self, subject: SubjectId) -> set[str]:
        """Return the names of the channels on the list of `subject`."""
        return self._run(ListChannels(subject))

    def has(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Whether `channel` is on the list of `subject`."""
        return self._run(HasChannel(subject, channel))

    def add(
        self, subject: SubjectId, channel: ChannelLike, expires_in: float | None = None
    ) -> bool:
        """Let `subject` listen to `channel`; return whether that is new.

        With `expires_in`, in seconds of Redis' clock, that ends by itself: then it is as if the
        channel was removed, on every node. Adding it again moves the end, to a later time or a
        nearer one; without `expires_in`, it lasts from then on. Raises ``ValueError`` for a time
        that is not above 0, or over 317 years.
        """
        return self._run(AddChannel(subject, channel, expires_in))

    def remove(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Let `subject` listen to `channel` no longer; return whether it could before."""
        return self._run(RemoveChannel(subject, channel))

    def clear(self, subject: SubjectId) -> int:
        """Let `subject` listen to nothing, which ends its streams; return how many were removed."""
        return self._run(ClearChannels(subject))
