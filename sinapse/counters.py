"""What a node counts, and how long things take: plain numbers, for metrics and the live page.

Of all messages the part of this node is measured: from the read that brought them from Redis to
their last write. Of some it is known when they were published, by the clock of Redis. The node's
own probes sample how long Redis takes.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sinapse.errors import CloseReason

#: What a stream can be, as the framings name themselves.
TRANSPORTS = ("event stream", "websocket", "long poll")


#: Seconds. A small fan-out takes some 50 µs; with 5 s somebody has noticed without any metrics.
BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)

#: The same of the age of messages, which clocks of two machines tell: less than 1 ms is not known.
AGE_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
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


def _total(text: str) -> Any:
    return field(default=0, metadata={"text": text})


def _by(label: str, text: str, known: Iterable[str] = ()) -> Any:
    made = dict.fromkeys(known, 0)
    return field(default_factory=lambda: Counter(made), metadata={"text": text, "by": label})


def _times(text: str, bounds: Sequence[float] = BOUNDS) -> Any:
    metadata = {"text": text, "unit": "seconds"}
    return field(default_factory=lambda: Histogram(bounds), metadata=metadata)


@dataclass(slots=True)
class Counters:
    """Totals since the start of the node: metrics of the same names, with the texts given here."""

    messages: int = _total("Messages received from Redis that a stream here may read.")
    deliveries: int = _total("Messages handed to open streams: one for each message and stream.")
    delivered_bytes: int = _total("Bytes of these, as they go on the wire, before TLS.")
    invalid_payloads: int = _total(
        "Payloads from Redis that were no message, or too large for any stream."
    )
    streams_opened: int = _total("Streams opened.")
    streams: Counter[str] = _by("transport", "Open streams.", TRANSPORTS)
    streams_closed: Counter[CloseReason] = _by("reason", "Streams closed, by reason.")
    requests_refused: Counter[str] = _by(
        "reason", "Requests for a stream that were refused, by reason."
    )
    connections_refused: Counter[str] = _by(
        "reason", "Connections that were closed right after the accept, by reason."
    )
    accepts_paused: Counter[str] = _by(
        "reason", "Times that the node stopped accepting for a while, by reason."
    )
    history_reads: int = _total(
        "Reads of the retained messages of a channel: one for all streams that wait."
    )
    replays: int = _total("Streams that resumed after a last event ID.")
    resets: int = _total("Streams that were told that messages are missing.")
    redis_connects: int = _total("Times that Redis was reached and everything subscribed.")
    redis_losses: int = _total("Times that Redis was lost after that.")
    message_age_seconds: Histogram = _times(
        "From the publication of a message, by the clock of Redis, to its last write: one in seven"
        " of those that are retained.",
        AGE_BOUNDS,
    )
    fan_out_seconds: Histogram = _times(
        "From the encoding of messages to their last write: one for each fan-out."
    )
    delivery_seconds: Histogram = _times(
        "From the read of Redis that brought messages to their last write: one for each fan-out."
    )
    redis_probe_seconds: Histogram = _times(
        "From the publication of the node's own message until it receives it: one in four seconds."
    )
    loop_lag_seconds: Histogram = _times("How late the event loop ran a timer: two a second.")


#: When something was read, and when it began to be sent, in seconds; and what is to be known of it
#: at the end, for :attr:`Stopwatch.stopped`, None for nothing.
Lap: TypeAlias = tuple[float, float, list[Any] | None]


class Stopwatch:
    """Times what one flush sends: looked at twice a flush, and never for a delivery.

    `fan_outs` gets the time from the encoding to the last write, with the turns of others between
    the slices of a large one; `deliveries` the time from the read of Redis to the last write.
    """

    __slots__ = ("_deliveries", "_fan_outs", "_read", "_seconds", "stopped")

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
        #: Called at the end of a lap with what is to be known of it, when it was read, and that
        #: moment.
        self.stopped: Callable[[list[Any], float, float], object] = lambda *_: None

    def has_read(self) -> None:
        """Take note that messages come from Redis now."""
        self._read = self._seconds()

    def start(self, sent: list[Any] | None = None) -> Lap:
        """Return what to stop with, when everything has been written."""
        return self._read, self._seconds(), sent

    def stop(self, lap: Lap) -> None:
        """Count what was started."""
        read, began, sent = lap
        now = self._seconds()
        self._fan_outs.observe(now - began)
        self._deliveries.observe(now - read)
        if sent is not None:
            self.stopped(sent, read, now)
