"""Adding up the figures of workers: JSON objects of numbers, and of objects of numbers."""

from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import Any

from sinapse.admin.metrics import BY_REASON, HISTOGRAMS, TOTALS, Figures, blank

#: What must never be less than it was: it outlives the process that has counted it.
LASTING = (*TOTALS, *BY_REASON, *HISTOGRAMS)


def add(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sum of two objects: of the numbers, and in turn of the objects in them."""
    result = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping):
            result[name] = add(result.get(name, {}), value)
        else:
            result[name] = result.get(name, 0) + value
    return result


def lasting(figures: Figures) -> Figures:
    """Return the figures that still count for a worker that is gone, or does not answer."""
    return {name: figures[name] for name in LASTING if name in figures}


def total(present: Iterable[Figures], absent: Iterable[Figures]) -> Figures:
    """Return the figures of a node with these workers; of those `absent` only what lasts counts.

    A Redis is there if it is for every worker.
    """
    present = list(present)
    known = set(blank()) | set(HISTOGRAMS)
    result = blank()
    for figures in present:
        result = add(result, {name: each for name, each in figures.items() if name in known})
    for figures in absent:
        result = add(result, lasting(figures))
    result["redis_up"] = min((figures["redis_up"] for figures in present), default=0)
    names = {name for figures in present for name in figures["redis_by_name"]}
    result["redis_by_name"] = {
        name: min(figures["redis_by_name"].get(name, 0) for figures in present)
        for name in sorted(names)
    }
    return result


def one_subject(parts: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a subject, from what each worker knows of it; streams name their worker."""
    channels = {channel for part in parts.values() for channel in part["channels"]}
    return {
        "channels": sorted(channels),
        "streams": [
            {**stream, "worker": number}
            for number, part in parts.items()
            for stream in part["streams"]
        ],
    }


def top_channels(parts: Iterable[Mapping[str, Any]], count: int, order: str) -> dict[str, Any]:
    """Return the `count` channels with the most of `order` in the sum of all workers."""
    sums: dict[str, dict[str, Any]] = {}
    largest = 0
    for part in parts:
        largest = max(largest, part["total"])
        for each in part["channels"]:
            numbers = {name: each[name] for name in each if name != "channel"}
            sums[each["channel"]] = add(sums.get(each["channel"], {}), numbers)
    top = nlargest(count, sums.items(), key=lambda item: item[1][order])
    return {
        "total": max(largest, len(sums)),
        "channels": [{"channel": name, **numbers} for name, numbers in top],
    }
