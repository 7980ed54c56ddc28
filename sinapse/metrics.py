"""What a node counts, in the terms of Prometheus: counted elsewhere, and read when asked for.

Everything but ``sinapse_build_info`` adds up: over nodes, and over the workers of one.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sinapse import __version__
from sinapse.admission import Table
from sinapse.counters import Backlog, Counters

#: How things stand now.
GAUGES = {
    "subjects": "Subjects with open streams.",
    "channels": "Channels that somebody here may read.",
    "redis_up": "1 if Redis is connected and everything subscribed.",
    "streams_behind": "Streams for which something waits to be written.",
    "pending_bytes": "Bytes that wait to be written to streams.",
}

#: Totals by the name of the counter, which is also that of the metric.
TOTALS = {
    "messages": "Messages received from Redis that somebody here may read.",
    "deliveries": "Messages handed to open streams: one a message and stream.",
    "delivered_bytes": "Bytes of these, as they go on the wire, before TLS.",
    "invalid_payloads": "Payloads from Redis that were no message, or too large for any stream.",
    "streams_opened": "Streams opened.",
    "history_reads": "Reads of the retained messages of a channel: one for all who wait.",
    "replays": "Streams that resumed after a last event ID.",
    "resets": "Streams that were told that messages are missing.",
    "redis_connects": "Times that Redis was reached and everything subscribed.",
    "redis_losses": "Times that Redis was lost after that.",
}

#: Totals by reason.
BY_REASON = {
    "streams_closed": "Streams closed, by reason.",
    "requests_refused": "Requests for a stream that were refused, by reason.",
    "connections_refused": "Connections that were closed as soon as they came, by reason.",
    "accepts_paused": "Times that no connections were accepted for a while, by reason.",
}

#: How long things take, in seconds.
HISTOGRAMS = {
    "fan_out_seconds": "From the encoding of messages to their last write: one a fan-out.",
    "delivery_seconds": "From the read of Redis that brought messages to their last write: "
    "one a fan-out.",
    "redis_probe_seconds": "From the publication of a message of the node's own until it is heard: "
    "one in four seconds.",
    "loop_lag_seconds": "How late the event loop was with something that was due: two a second.",
}


class NodeCollector(Collector):
    """Reads the counters and the table of a node.

    `is_ready` tells whether Redis is there, `backlog` what waits to be written.
    """

    def __init__(
        self,
        counters: Counters,
        hub: Table,
        *,
        is_ready: Callable[[], bool],
        backlog: Callable[[], Backlog],
    ) -> None:
        self._counters = counters
        self._hub = hub
        self._is_ready = is_ready
        self._backlog = backlog

    def gauges(self) -> dict[str, float]:
        """Return how things stand now, by the names of :data:`GAUGES`."""
        backlog = self._backlog()
        return {
            "subjects": len(self._hub.subjects),
            "channels": len(self._hub.channels),
            "redis_up": int(self._is_ready()),
            "streams_behind": backlog.streams,
            "pending_bytes": backlog.pending_bytes,
        }

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON has it: numbers, which all add up."""
        counters = self._counters
        return {
            "streams": sum(counters.streams.values()),
            "streams_by_transport": dict(counters.streams),
            **self.gauges(),
            **{name: getattr(counters, name) for name in TOTALS},
            **{name: by_text(getattr(counters, name)) for name in BY_REASON},
            **{
                name: {"buckets": histogram.buckets(), "sum": histogram.sum}
                for name in HISTOGRAMS
                if (histogram := getattr(counters, name))
            },
        }

    def collect(self) -> Iterator[Metric]:
        """Return everything as metrics, named as Prometheus recommends."""
        counters = self._counters
        info = GaugeMetricFamily("sinapse_build_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        streams = GaugeMetricFamily("sinapse_streams", "Open streams.", labels=["transport"])
        for transport, count in counters.streams.items():
            streams.add_metric([transport], count)
        yield streams
        for name, value in self.gauges().items():
            yield GaugeMetricFamily(f"sinapse_{name}", GAUGES[name], value=value)
        for name, text in TOTALS.items():
            yield CounterMetricFamily(f"sinapse_{name}", text, value=getattr(counters, name))
        for name, text in BY_REASON.items():
            family = CounterMetricFamily(f"sinapse_{name}", text, labels=["reason"])
            for reason, count in by_text(getattr(counters, name)).items():
                family.add_metric([reason], count)
            yield family
        for name, text in HISTOGRAMS.items():
            histogram = getattr(counters, name)
            buckets = list(histogram.buckets().items())
            yield HistogramMetricFamily(
                f"sinapse_{name}", text, buckets=buckets, sum_value=histogram.sum
            )


def by_text(counts: Mapping[Enum | str, int]) -> dict[str, int]:
    """Return counts with their reasons as people read them."""
    return {getattr(reason, "text", None) or str(reason): count for reason, count in counts.items()}


class Metrics:
    """The metrics of a node and its process, written out for a scraper."""

    def __init__(self, collector: NodeCollector) -> None:
        self._process = ProcessCollector(registry=None)
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._registry.register(self._process)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return body and content type, of the formats that an Accept header field names."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # A version that is none.
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def process(self) -> dict[str, float]:
        """Return the figures of the process: CPU seconds, bytes of memory, descriptors."""
        return {
            sample.name.removeprefix("process_"): sample.value
            for family in self._process.collect()
            for sample in family.samples
        }
