"""What a node counts, in the terms of Prometheus: counted elsewhere, and read when asked for.

Figures are what JSON can carry. They add up: over nodes, and over the workers of one, which has a
few more of its own. Metrics are made of figures.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields
from enum import Enum
from typing import Any

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sinapse import __version__
from sinapse.broker.interface import Broker
from sinapse.counters import Counters
from sinapse.streams.backlog import Backlog
from sinapse.streams.stream import Stream

#: The present state.
GAUGES = {
    "subjects": "Subjects with open streams.",
    "channels": "Channels that a stream here may read.",
    "redis_up": "1 if Redis is connected and everything subscribed; of several, each of them.",
    "streams_behind": "Streams that have pending bytes.",
    "pending_bytes": "Bytes that wait to be written to streams.",
}

#: What is counted, by the names of the counters: each is a metric of that name.
COUNTED = {each.name: each for each in fields(Counters)}


def _texts(of: Callable[[Field[Any]], bool]) -> dict[str, str]:
    return {name: each.metadata["text"] for name, each in COUNTED.items() if of(each)}


#: Totals, totals by reason, and how long things take, in seconds: names and texts.
TOTALS = _texts(lambda each: each.default == 0)
BY_REASON = _texts(lambda each: each.metadata.get("by") == "reason")
HISTOGRAMS = _texts(lambda each: each.metadata.get("unit") == "seconds")

#: Of the parent of workers: how they are, and what has happened to them.
WORKER_GAUGES = {
    "workers_wanted": "Workers that there should be.",
    "workers_serving": "Workers that serve.",
}
WORKER_TOTALS = {
    "worker_ends": "Workers, and the ear, that ended and were replaced.",
    "worker_silences": "Times that a worker did not report its figures when asked.",
}

Figures = dict[str, Any]


def blank() -> Figures:
    """Return the figures of a node to which nothing has happened."""
    return {
        "streams": 0,
        "streams_by_transport": {},
        "redis_by_name": {},
        **dict.fromkeys((*GAUGES, *TOTALS), 0),
        **{name: {} for name in BY_REASON},
    }


class Node:
    """Reads the counters and the table of a node.

    `backlog` says how much waits to be written.
    """

    def __init__(self, counters: Counters, broker: Broker[Stream], backlog: Backlog) -> None:
        self._counters = counters
        self._broker = broker
        self._backlog = backlog

    def figures(self) -> Figures:
        """Return everything that is counted."""
        counters, backlog = self._counters, self._backlog
        parts = {name: int(is_ready) for name, is_ready in self._broker.parts_ready.items()}
        return {
            "streams": sum(counters.streams.values()),
            "streams_by_transport": dict(counters.streams),
            "subjects": self._broker.subject_count,
            "channels": len(self._broker.channels),
            "redis_up": min(parts.values()),
            "redis_by_name": parts,
            "streams_behind": backlog.streams,
            "pending_bytes": backlog.bytes,
            **{name: getattr(counters, name) for name in TOTALS},
            **{name: by_text(getattr(counters, name)) for name in BY_REASON},
            **{
                name: {"buckets": histogram.buckets(), "sum": histogram.sum}
                for name in HISTOGRAMS
                if (histogram := getattr(counters, name))
            },
        }


def by_text(counts: Mapping[Enum | str, int]) -> dict[str, int]:
    """Return counts with their reasons as people read them."""
    return {getattr(reason, "text", None) or str(reason): count for reason, count in counts.items()}


def process_figures() -> dict[str, float]:
    """Return the figures of this process: CPU seconds, bytes of memory, descriptors."""
    return {
        sample.name.removeprefix("process_"): sample.value
        for family in PROCESS_COLLECTOR.collect()
        for sample in family.samples
    }


def exposition(
    accept: str,
    figures: Figures,
    processes: Mapping[str, Mapping[str, float]] | None = None,
    *,
    prefix: str,
) -> tuple[bytes, str]:
    """Write figures out for a scraper, in one of the formats that an Accept header field names.

    `prefix` is what names in Redis begin with. `processes` are the figures of several, by the name
    of each; if not given, this one has its own. Returns body and content type.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # A version that is none.
        encode, content_type = choose_encoder("")
    registry = CollectorRegistry()
    registry.register(_Given([_information(prefix), *_of_node(figures), *_of_processes(processes)]))
    return encode(registry), content_type


class _Given(Collector):
    """Metrics that are made already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _information(prefix: str) -> Metric:
    info = GaugeMetricFamily("sinapse_build_info", "Always 1.", labels=["version", "prefix"])
    info.add_metric([__version__, prefix], 1)
    return info


def _by_label(figures: Figures) -> Iterator[Metric]:
    """Return gauges with a label."""
    for (name, text, label), present in {
        ("streams", COUNTED["streams"].metadata["text"], "transport"): "streams_by_transport",
        ("redis_shard_up", "The same of each Redis, by its name.", "redis"): "redis_by_name",
    }.items():
        gauge = GaugeMetricFamily(f"sinapse_{name}", text, labels=[label])
        for value, number in figures[present].items():
            gauge.add_metric([value], number)
        yield gauge


def _of_node(figures: Figures) -> Iterator[Metric]:
    """Return figures as metrics, named as Prometheus recommends."""
    yield from _by_label(figures)
    for name, text in (GAUGES | WORKER_GAUGES).items():
        if name in figures:
            yield GaugeMetricFamily(f"sinapse_{name}", text, value=figures[name])
    for name, text in (TOTALS | WORKER_TOTALS).items():
        if name in figures:
            yield CounterMetricFamily(f"sinapse_{name}", text, value=figures[name])
    for name, text in BY_REASON.items():
        family = CounterMetricFamily(f"sinapse_{name}", text, labels=["reason"])
        for reason, count in figures[name].items():
            family.add_metric([reason], count)
        yield family
    for name, text in HISTOGRAMS.items():
        if (histogram := figures.get(name)) is not None:
            buckets = list(histogram["buckets"].items())
            yield HistogramMetricFamily(
                f"sinapse_{name}", text, buckets=buckets, sum_value=histogram["sum"]
            )


def _of_processes(processes: Mapping[str, Mapping[str, float]] | None) -> Iterator[Metric]:
    for own in PROCESS_COLLECTOR.collect():
        if processes is None:
            yield own
            continue
        family = Metric(own.name, own.documentation, own.type)
        for sample in own.samples:
            name = sample.name.removeprefix("process_")
            for worker, figures in processes.items():
                if name in figures:
                    family.add_sample(sample.name, {"worker": worker}, figures[name])
        yield family
