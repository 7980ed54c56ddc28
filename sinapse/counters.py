"""What a node counts, for whoever wants to look: plain numbers and histograms, no clock."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sinapse.errors import CloseReason
from sinapse.timing import Histogram

#: What a stream can be, as the framings name themselves.
TRANSPORTS = ("event stream", "websocket", "long poll")


class Backlog(NamedTuple):
    """What waits to be written."""

    streams: int
    """Streams that are behind."""
    pending_bytes: int
    """Bytes that wait for them."""


@dataclass(slots=True)
class Counters:
    """Totals since the start of the node."""

    messages: int = 0
    """Messages received from Redis that somebody here may read."""
    deliveries: int = 0
    """Messages handed to open streams: one a message and stream."""
    delivered_bytes: int = 0
    """Bytes of these, as they go on the wire, before TLS."""
    invalid_payloads: int = 0
    """Payloads that were no message, or too large for any stream."""
    streams_opened: int = 0
    """Streams opened."""
    streams: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(TRANSPORTS, 0)))
    """Open streams, by transport."""
    streams_closed: Counter[CloseReason] = field(default_factory=Counter)
    """Streams closed, by reason."""
    requests_refused: Counter[str] = field(default_factory=Counter)
    """Requests for a stream that were refused, by reason."""
    connections_refused: Counter[str] = field(default_factory=Counter)
    """Connections that were closed as soon as they came, by reason."""
    accepts_paused: Counter[str] = field(default_factory=Counter)
    """Times that no connections were accepted for a while, by reason."""
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
    fan_out_seconds: Histogram = field(default_factory=Histogram)
    """From the encoding of messages to their last write: one a fan-out."""
    delivery_seconds: Histogram = field(default_factory=Histogram)
    """From the read of Redis that brought messages to their last write: one a fan-out."""
    redis_probe_seconds: Histogram = field(default_factory=Histogram)
    """From the publication of a message of this node's own until it is heard: one a probe."""
    loop_lag_seconds: Histogram = field(default_factory=Histogram)
    """How late the event loop was with something that was due: two a second."""
