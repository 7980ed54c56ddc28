"""Journeys: what becomes of messages here, told once their last stream has got them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sinapse.counters import Lap
from sinapse.protocol.message import Message


class Sent(NamedTuple):
    """Messages of one channel that a flush sends, and to how many streams."""

    channel: bytes
    messages: Sequence[Message]
    streams: int


class Journey(NamedTuple):
    """A message of a trace that has been written to all its streams here."""

    channel: bytes
    message: Message
    streams: int
    seconds: float
    """How long ago it was read of Redis."""


class Journeys:
    """Tells `trace`, which may be set later, of messages that belong to a trace.

    It is looked at once for each message, and never for a delivery.
    """

    def __init__(self) -> None:
        self.trace: Callable[[Journey], None] | None = None

    def ended(self, lap: Lap, now: float) -> None:
        """Tell of what was sent in a lap that has ended now."""
        if self.trace is None:
            return
        for sent in lap.sent:
            for message in sent.messages:
                if message.trace is not None:
                    self.trace(Journey(sent.channel, message, sent.streams, now - lap.read))
