"""What a node counts, for whoever wants to look: plain numbers, no clock, no labels."""

from collections import Counter
from dataclasses import dataclass, field

from sinapse.errors import CloseReason


@dataclass(slots=True)
class Counters:
    """Totals since the start of the node."""

    messages: int = 0
    """Messages received from Redis that somebody here may read."""
    deliveries: int = 0
    """Messages handed to open streams: one a message and stream."""
    invalid_payloads: int = 0
    """Payloads that were no message, or too large for any stream."""
    streams_opened: int = 0
    """Streams opened."""
    streams_closed: Counter[CloseReason] = field(default_factory=Counter)
    """Streams closed, by reason."""
    requests_refused: Counter[str] = field(default_factory=Counter)
    """Requests for a stream that were refused, by reason."""
    history_reads: int = 0
    """Reads of the retained messages of a channel: one for all who wait."""
    replays: int = 0
    """Streams that resumed after a last event ID."""
    resets: int = 0
    """Streams that were told that messages are missing."""
    redis_connects: int = 0
    """Times that Redis was reached and everything subscribed."""
    redis_losses: int = 0
    """Times that Redis was lost after that."""
