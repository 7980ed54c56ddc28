"""What a node counts, in the terms of Prometheus: counted elsewhere, and read when asked for."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sinapse import __version__
from sinapse.counters import Counters
from sinapse.hub import Hub

#: Totals by the name of the counter, which is also that of the metric.
TOTALS = {
    "messages": "Messages received from Redis that somebody here may read.",
    "deliveries": "Messages handed to open streams: one a message and stream.",
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
}


class NodeCollector(Collector):
    """Reads the counters and the table of a node; `is_ready` tells whether Redis is there."""

    def __init__(self, counters: Counters, hub: Hub, is_ready: Callable[[], bool]) -> None:
        self._counters = counters
        self._hub = hub
        self._is_ready = is_ready

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Return how things stand now: what it is, and its value."""
        closed = sum(self._counters.streams_closed.values())
        return {
            "streams": ("Open streams.", self._counters.streams_opened - closed),
            "subjects": ("Subjects with open streams.", len(self._hub.subjects)),
            "channels": ("Channels that somebody here may read.", len(self._hub.channels)),
            "redis_up": ("1 if Redis is connected and everything subscribed.", self._is_ready()),
        }

    def collect(self) -> Iterator[Metric]:
        """Return everything as metrics, named as Prometheus recommends."""
        info = GaugeMetricFamily("sinapse_build_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for name, (text, value) in self.gauges().items():
            yield GaugeMetricFamily(f"sinapse_{name}", text, value=value)
        for name, text in TOTALS.items():
            yield CounterMetricFamily(f"sinapse_{name}", text, value=getattr(self._counters, name))
        for name, text in BY_REASON.items():
            family = CounterMetricFamily(f"sinapse_{name}", text, labels=["reason"])
            for reason, count in by_text(getattr(self._counters, name)).items():
                family.add_metric([reason], count)
            yield family


def by_text(counts: Mapping[Enum | str, int]) -> dict[str, int]:
    """Return counts with their reasons as people read them."""
    return {getattr(reason, "text", None) or str(reason): count for reason, count in counts.items()}


class Metrics:
    """The metrics of a node and its process, written out for a scraper."""

    def __init__(self, collector: NodeCollector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return body and content type, of the formats that an Accept header field names."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # A version that is none.
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type
