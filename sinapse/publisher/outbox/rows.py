"""A message as a row of a database: all that is needed to publish it, and no more."""

import uuid
from typing import NamedTuple

from sinapse.publisher.operations.messages import Messages, Outgoing, Publish
from sinapse.publisher.operations.retention import read_replay

#: Characters of a message id that is made for a row.
ID_LENGTH = 32

#: Characters that a table has room for: of a message id that an application chooses, of the number
#: of messages that new streams get, of the name of a stream, and of why a row is set aside.
MAX_MESSAGE_ID = 128
MAX_REPLAY = 16
MAX_STREAM = 64
MAX_REASON = 500

assert ID_LENGTH <= MAX_MESSAGE_ID  # noqa: S101


class Row(NamedTuple):
    """A message that waits."""

    id: int
    """Its place: rows of a channel are sent in this order."""
    message_id: str
    channel: str
    message: str
    event: str
    """Empty for none, as the last two."""
    retain: int
    """Milliseconds."""
    retain_messages: int
    replay: str
    but: str

    def operation(self, messages: Messages) -> Publish:
        """Return what publishes it; raises ``ValueError`` if it cannot be published any more."""
        return messages.publish(
            self.channel,
            self.message,
            self.event or None,
            self.retain / 1000,
            self.message_id,
            replay=read_replay(self.replay) if self.replay else None,
            retain_messages=self.retain_messages,
            but=self.but or None,
        )


def row_of(message: Outgoing, place: int = 0) -> Row:
    """Return the row of a message that has been checked.

    One without a message id gets one, by which Redis knows it if it is sent again.
    """
    return Row(
        place,
        message.message_id or uuid.uuid4().hex,
        str(message.channel),
        str(message.message),
        message.event or "",
        round((message.retain or 0) * 1000),
        message.retain_messages or 1,
        "" if message.replay is None else str(message.replay),
        message.but or "",
    )
