"""What a node counts, for whoever wants to look: plain numbers, and how long things take.

Messages carry no time of their publication. What is measured is the part of this node: from the
read of Redis that brought messages to the last write of them. How long Redis takes before that is
sampled by the node's own probes.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from sinapse.errors import CloseReason

#: What a stream can be, as the framings name themselves.
TRANSPORTS = ("event stream", "websocket", "long poll")


#: Seconds. A small fan-out takes some 50 µs; with 5 s somebody has noticed without any metrics.
BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class Histogram:
    """Values counted by size: in the bucket of the first of `bounds` that is not below them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        #: The last is that of the values above all bounds.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> dict[str, int]:
        """Return how many values were at most as large as each bound, as Prometheus counts."""
        total, buckets = 0, {}
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            buckets[str(bound)] = total
        return buckets


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


#: When something was read, and when it began to be sent.
Lap: TypeAlias = tuple[float, float]


class Stopwatch:
    """Times what one flush sends: looked at twice a flush, and never for a delivery.

    `fan_outs` gets the time from the encoding to the last write, with the turns of others between
    the slices of a large one; `deliveries` the time from the read of Redis to the last write.
    """

    __slots__ = ("_deliveries", "_fan_outs", "_read", "_seconds")

    def __init__(
        self,
        fan_outs: Histogram,
        deliveries: Histogram,
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._fan_outs = fan_outs
        self._deliveries = deliveries
        self._seconds = seconds
        self._read = seconds()

    def has_read(self) -> None:
        """Take note that messages come from Redis now."""
        self._read = self._seconds()

    def start(self) -> Lap:
        """Return what to stop with, when everything has been written."""
        return self._read, self._seconds()

    def stop(self, lap: Lap) -> None:
        """Count what was started."""
        read, began = lap
        now = self._seconds()
        self._fan_outs.observe(now - began)
        self._deliveries.observe(now - read)
