"""All figures of the node: ``/metrics`` for Prometheus, ``/status`` for people and scripts."""

import json
import os
import time
from collections.abc import Callable

from twisted.web.server import Request

from sinapse import __version__
from sinapse.answers import Plain, respond
from sinapse.metrics import Metrics, NodeCollector


class MetricsResource(Plain):
    """``/metrics``."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def answer(self, request: Request) -> int:
        """Answer in the format that is asked for."""
        accept = (request.getHeader(b"Accept") or b"").decode("latin-1")
        body, content_type = self._metrics.exposition(accept)
        return respond(request, 200, body, [(b"Content-Type", content_type.encode())])


class StatusResource(Plain):
    """``/status``: the same figures as JSON, and how Redis is in words."""

    def __init__(
        self, collector: NodeCollector, metrics: Metrics, redis_state: Callable[[], str]
    ) -> None:
        super().__init__()
        self._collector = collector
        self._metrics = metrics
        self._redis_state = redis_state
        self._started = time.monotonic()

    def answer(self, request: Request) -> int:
        """Answer with everything that is known."""
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started, 1),
            "redis": self._redis_state(),
            **self._collector.figures(),
            "process": self._metrics.process(),
        }
        return json_answer(request, status)


def json_answer(request: Request, content: object, status: int = 200) -> int:
    """Answer with `content` as JSON that can be read as well."""
    body = json.dumps(content, indent=2).encode() + b"\n"
    return respond(request, status, body, [(b"Content-Type", b"application/json")])
