"""Messages from payloads, and which of them are too long for any stream."""

from collections.abc import Callable

from sinapse.counters import Counters
from sinapse.protocol.message import Message, unpack

#: Bytes that a line break in the data adds to its event stream: "data: ".
LINE_BREAK_COST = 6


class Payloads:
    """Reads payloads; `max_message` is in bytes of encoded event stream.

    A longer message is counted, and `complain` logs it.
    """

    def __init__(
        self, counters: Counters, complain: Callable[[str], None], *, max_message: int
    ) -> None:
        self._counters = counters
        self._complain = complain
        self._max_message = max_message

    def fitting(self, payload: bytes) -> Message | None:
        """Return the message of a payload; None for one that is longer than a stream may hold.

        Raises :class:`~sinapse.errors.InvalidPayload` if it is not a message.
        """
        message = unpack(payload)
        return None if self.is_too_long(payload, message) else message

    def is_too_long(self, payload: bytes, message: Message) -> bool:
        """Whether a message is longer than a stream may hold."""
        # Most messages are short enough whatever they contain.
        if len(payload) * (1 + LINE_BREAK_COST) <= self._max_message:
            return False
        breaks = message.data.count("\n") + message.data.count("\r")
        if len(payload) + breaks * LINE_BREAK_COST <= self._max_message:
            return False
        self._counters.invalid_payloads += 1
        self._complain(f"a message of {len(payload)} bytes is more than a stream may hold")
        return True
