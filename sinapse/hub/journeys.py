"""Journeys: what becomes of messages here, told once their last stream has got them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sinapse.counters import Histogram
from sinapse.protocol.message import Message

#: Seconds to which ages are believed. A connection is given up long before it is so far behind:
#: what seems to be older, or yet to come by as much, is of a clock that was set.
MAX_AGE = 600.0


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
    """Counts in `ages` how old messages are by then, of those whose time of publication is known.

    It also tells `trace`, which may be set later, of those that belong to a trace. It looks at each
    message once, and at none of its deliveries.
    """

    def __init__(self, ages: Histogram) -> None:
        self._ages = ages
        self.trace: Callable[[Journey], None] | None = None
        #: By how many seconds the clock of Redis is ahead of that of laps; None if it is not known.
        self.redis_ahead: float | None = None

    def note_clock(self, ahead: float) -> None:
        """Note by how many seconds the clock of Redis is ahead."""
        self.redis_ahead = ahead

    def ended(self, sent: Sequence[Sent], read: float, now: float) -> None:
        """Take account of what was sent: it was read at `read`, and its last write was now."""
        for channel, messages, streams in sent:
            for message in messages:
                if message.at is not None and self.redis_ahead is not None:
                    age = now + self.redis_ahead - message.at
                    if abs(age) <= MAX_AGE:
                        # By as little as the clocks are not known, it may seem to be yet to come.
                        self._ages.observe(max(0.0, age))
                if message.trace is not None and self.trace is not None:
                    self.trace(Journey(channel, message, streams, now - read))
