"""Channels: what a subject may listen to, now and on its open streams."""

from sinapse.keys import (
    ADD,
    GRANT,
    REMOVE,
    RETENTION,
    WITHDRAW,
    channel_name,
    channels_key,
    control_channel,
)
from sinapse.publisher.connections import Connections
from sinapse.publisher.identity import ChannelLike, SubjectId, given_id
from sinapse.scripts import ADD_CHANNEL, CLEAR_CHANNELS, REMOVE_CHANNEL, Script


class Channels:
    """``publisher.channels``: the list of each subject, applied to its open streams at once.

    A channel is a name, or an object that has ``sinapse_channel``. Lists go by the id alone:
    ``User`` 1 and ``Admin`` 1 share theirs, as in the origin; a class that defines
    ``sinapse_id`` can keep apart. Every operation raises
    :class:`~sinapse.errors.InvalidSubject` or :class:`~sinapse.errors.InvalidChannel` for what
    is none, and :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def list(self, subject: SubjectId) -> set[str]:
        """Return the names of the channels that `subject` may listen to."""
        names: list[bytes] = self._connections.execute("SMEMBERS", channels_key(given_id(subject)))
        return {name.decode(errors="replace") for name in names}

    def has(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Whether `subject` may listen to `channel`."""
        key = channels_key(given_id(subject))
        return bool(self._connections.execute("SISMEMBER", key, channel_name(channel)))

    def add(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Let `subject` listen to `channel`; return whether that is new."""
        return self._change(ADD_CHANNEL, subject, channel, ADD, GRANT)

    def remove(self, subject: SubjectId, channel: ChannelLike) -> bool:
        """Let `subject` listen to `channel` no longer; return whether it could before."""
        return self._change(REMOVE_CHANNEL, subject, channel, REMOVE, WITHDRAW)

    def clear(self, subject: SubjectId) -> int:
        """Let `subject` listen to nothing, which ends its streams; return how many were removed."""
        subject = given_id(subject)
        removed: int = self._connections.run(
            CLEAR_CHANNELS,
            [channels_key(subject), RETENTION],
            [control_channel(subject, REMOVE), control_channel(subject, WITHDRAW)],
        )
        return removed

    def _change(
        self, script: Script, subject: SubjectId, channel: ChannelLike, *actions: str
    ) -> bool:
        subject = given_id(subject)
        return bool(
            self._connections.run(
                script,
                [channels_key(subject), RETENTION],
                [channel_name(channel), *(control_channel(subject, each) for each in actions)],
            )
        )
