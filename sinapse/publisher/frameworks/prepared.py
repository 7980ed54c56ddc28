"""Messages that are checked now and sent later: when a transaction has been committed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sinapse.protocol.keys import channel_name
from sinapse.publisher.defaults import default
from sinapse.publisher.operations.content import checked
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.messages import Outgoing
from sinapse.publisher.operations.retention import checked_message_id, milliseconds


@dataclass(frozen=True)
class Prepared:
    """A message as it was when it was prepared, whatever becomes of its objects."""

    channel: str
    text: str
    event: str | None
    retain: float | None
    message_id: str | None

    def send(self) -> int:
        """Publish it with the default publisher; as :meth:`Publisher.publish`."""
        return default().publish(self.channel, self.text, self.event, self.retain, self.message_id)


def send_all(messages: Sequence[Prepared]) -> None:
    """Publish `messages` together, in their order; as :meth:`Publisher.publish_many`."""
    default().publish_many(
        Outgoing(each.channel, each.text, each.event, each.retain, each.message_id)
        for each in messages
    )


def prepare(
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    retain: float | None = None,
    message_id: str | None = None,
) -> Prepared:
    """Check what :meth:`Publisher.publish` would be called with, and raise what that would."""
    if retain is None:
        retain = getattr(channel, "sinapse_retain", None)
    if retain is not None:
        milliseconds(retain)
    if message_id is not None:
        message_id = checked_message_id(message_id)
    name = channel_name(channel)
    content = checked(message, event, default().max_message)
    return Prepared(name, content.data, event, retain, message_id)
