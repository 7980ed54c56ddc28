"""The administration endpoint: what the node counts, for scrapers and for people.

It has no authentication, so it is off unless asked for, and meant for a UNIX socket or the
loopback interface.
"""

import json
import time
from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import Request

from sinapse import __version__
from sinapse.answers import NotFound, Plain, Ready, respond
from sinapse.broker.broker import Broker
from sinapse.counters import Counters
from sinapse.hub import Hub
from sinapse.metrics import BY_REASON, TOTALS, Metrics, NodeCollector, by_text


class MetricsResource(Plain):
    """``/metrics``, for Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def answer(self, request: Request) -> int:
        """Answer in the format that is asked for."""
        accept = (request.getHeader(b"Accept") or b"").decode("latin-1")
        body, content_type = self._metrics.exposition(accept)
        return respond(request, 200, body, [(b"Content-Type", content_type.encode())])


class StatusResource(Plain):
    """``/status``, for people and their scripts: the same figures as JSON."""

    def __init__(
        self, collector: NodeCollector, counters: Counters, redis_state: Callable[[], str]
    ) -> None:
        super().__init__()
        self._collector = collector
        self._counters = counters
        self._redis_state = redis_state
        self._started = time.monotonic()

    def answer(self, request: Request) -> int:
        """Answer with everything that is known."""
        status = {
            "version": __version__,
            "uptime": round(time.monotonic() - self._started, 1),
            "redis": self._redis_state(),
            **{name: value for name, (_, value) in self._collector.gauges().items()},
            **{name: getattr(self._counters, name) for name in TOTALS},
            **{name: by_text(getattr(self._counters, name)) for name in BY_REASON},
        }
        body = json.dumps(status, indent=2).encode() + b"\n"
        return respond(request, 200, body, [(b"Content-Type", b"application/json")])


def admin_root(hub: Hub, broker: Broker, counters: Counters) -> Resource:
    """Return the root of the administration endpoint."""
    collector = NodeCollector(counters, hub, lambda: broker.ready)
    root = NotFound()
    root.putChild(b"metrics", MetricsResource(Metrics(collector)))
    root.putChild(b"ready", Ready(broker))
    root.putChild(b"status", StatusResource(collector, counters, lambda: broker.state))
    return root
