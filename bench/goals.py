"""The goals of Sinapse, and how far they are reached.

All but two are ratios to peers in the same run, so that they hold on any machine; what is in
microseconds, milliseconds or bytes is meant for a server of today.
"""
# ruff: noqa: RUF001  # A multiplication sign is no letter.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from text import short

NCHAN = "nginx + nchan"
CENTRIFUGO = "Centrifugo"
FLOOR = "floor (C)"
STARLETTE = "sse-starlette"
AIOHTTP = "aiohttp-sse"
SINAPSE = "Sinapse"

#: What has to be run to know.
SCENARIOS = ["a", "b", "c", "c2", "d", "e", "f", "f2", "ha", "i", "ie"]
PEERS = [SINAPSE, NCHAN, CENTRIFUGO, FLOOR, STARLETTE, AIOHTTP]


class Figures(Protocol):
    """Where figures come from."""

    def figure(self, scenario: str, peer: str, name: str) -> float | None:
        """Return a figure of a peer in a scenario; nothing if there is none."""


@dataclass(frozen=True)
class Goal:
    """One goal: `reached` may be at most `limit`, or at least if it is `least`."""

    what: str
    limit: float
    unit: str
    reached: Callable[[Figures], float | None]
    least: bool = False

    def is_met(self, reached: float) -> bool:
        """Tell whether a figure is good enough."""
        return reached >= self.limit if self.least else reached <= self.limit

    def text(self) -> str:
        """Return the goal in words."""
        return f"{self.what} {'≥' if self.least else '≤'} {short(self.limit)}{self.unit}"


def _own(scenario: str, name: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.figure(scenario, SINAPSE, name)


def _of(
    scenario: str, name: str, peer: str, *, inverse: bool = False
) -> Callable[[Figures], float | None]:
    """Return how many times the figure of `peer` that of Sinapse is, or the other way round."""

    def ratio(figures: Figures) -> float | None:
        own = figures.figure(scenario, SINAPSE, name)
        other = figures.figure(scenario, peer, name)
        if not own or not other:
            return None
        return other / own if inverse else own / other

    return ratio


def _deliveries_per_core(figures: Figures) -> float | None:
    cost = figures.figure("b", SINAPSE, "cpu_us")
    return 1e6 / cost if cost else None


def _resume(figures: Figures) -> float | None:
    own, connect = (figures.figure(key, SINAPSE, "connect_us") for key in ("f2", "f"))
    return own / connect if own and connect else None


GOALS = (
    Goal("fan-out, CPU a delivery", 0.62, " × nchan", _of("a", "cpu_us", NCHAN)),
    Goal("fan-out, CPU a delivery", 1.12, " × floor", _of("a", "cpu_us", FLOOR)),
    Goal("fan-out, p99 latency", 0.75, " × nchan", _of("a", "p99_ms", NCHAN)),
    Goal("burst, CPU a delivery", 0.04, " × nchan", _of("b", "cpu_us", NCHAN)),
    Goal("burst", 2e6, " deliveries a second of CPU", _deliveries_per_core, least=True),
    Goal("own channels, 2,000/s, CPU a message", 1.2, " × nchan", _of("c", "cpu_us", NCHAN)),
    Goal("own channels, 10,000/s, CPU a message", 1, " × nchan", _of("c2", "cpu_us", NCHAN)),
    Goal("mixed, CPU a delivery", 1.15, " × floor", _of("d", "cpu_us", FLOOR)),
    Goal("idle stream, memory", 2.5, " KiB", _own("e", "memory_kib")),
    Goal("idle stream, memory", 0.5, " × nchan", _of("e", "memory_kib", NCHAN)),
    Goal("connect, CPU", 0.8, " × Centrifugo", _of("f", "connect_us", CENTRIFUGO)),
    Goal("resume, CPU", 1.3, " × connect", _resume),
    Goal("10,000 connects at once, refused", 0, "", _own("f", "refused")),
    Goal("10,000 connects at once, p99 latency of others", 60, " ms", _own("f", "others_p99_ms")),
    Goal("fan-out over WebSocket, CPU a delivery", 0.75, " × nchan", _of("ha", "cpu_us", NCHAN)),
    Goal("fan-out over TLS, CPU a delivery", 1, " × nchan", _of("i", "cpu_us", NCHAN)),
    Goal("connect over TLS, CPU", 1.5, " × nchan", _of("ie", "connect_us", NCHAN)),
    Goal(
        "fan-out, CPU a delivery of sse-starlette",
        4,
        " × Sinapse",
        _of("a", "cpu_us", STARLETTE, inverse=True),
        least=True,
    ),
    Goal(
        "fan-out, CPU a delivery of aiohttp-sse",
        4,
        " × Sinapse",
        _of("a", "cpu_us", AIOHTTP, inverse=True),
        least=True,
    ),
    Goal(
        "idle stream, memory of sse-starlette",
        8,
        " × Sinapse",
        _of("e", "memory_kib", STARLETTE, inverse=True),
        least=True,
    ),
)
