"""A message as a row of a database: all that is needed to publish it, and no more."""

import uuid
from typing import NamedTuple

from sinapse.protocol.trace import Trace, parse_trace
from sinapse.publisher.operations import spans
from sinapse.publisher.operations.messages import Messages, Outgoing, Publish
from sinapse.publisher.operations.retention import read_replay

#: Characters of a message id that is made for a row, and of what follows in it where the
#: transaction is in a trace that is recorded: a slash, and the ``traceparent``. So a row needs no
#: column for that, and a relay that knows nothing of traces sends it under the same id.
ID_LENGTH = 32
TRACE_LENGTH = 56

#: Characters that a table has room for: of a message id that an application chooses, of the number
#: of messages that new streams get, of the name of a stream, and of why a row is set aside.
MAX_MESSAGE_ID = 128
MAX_REPLAY = 16
MAX_STREAM = 64
MAX_REASON = 500

assert ID_LENGTH + TRACE_LENGTH <= MAX_MESSAGE_ID  # noqa: S101


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

    @property
    def trace(self) -> Trace | None:
        """The trace of its transaction, if it is known."""
        return parse_trace(self.message_id.partition("/")[2])

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
        message.message_id or _made_id(),
        str(message.channel),
        str(message.message),
        message.event or "",
        round((message.retain or 0) * 1000),
        message.retain_messages or 1,
        "" if message.replay is None else str(message.replay),
        message.but or "",
    )


def _made_id() -> str:
    trace = spans.caller()
    return uuid.uuid4().hex if trace is None else f"{uuid.uuid4().hex}/{trace.parent}"
