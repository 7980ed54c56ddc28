"""All figures of the node: ``/metrics`` for Prometheus, ``/status`` for people and scripts."""

import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from sinapse import __version__
from sinapse.admin.metrics import Node, exposition, process_figures
from sinapse.broker.interface import Broker
from sinapse.web.answers import Plain, respond, tell_fault

#: A body and its content type.
Text = tuple[bytes, str]

#: What JSON can carry, now or once it is known.
Content = dict[str, Any] | Awaitable[dict[str, Any]]


class MetricsResource(Plain):
    """``/metrics``; `exposition` makes it for an Accept header field."""

    def __init__(self, exposition: Callable[[str], Text | Awaitable[Text]]) -> None:
        super().__init__()
        self._exposition = exposition

    def answer(self, request: Request) -> int:
        """Answer in the format that is asked for."""
        accept = (request.getHeader(b"Accept") or b"").decode("latin-1")

        def send(text: Text) -> None:
            body, content_type = text
            respond(request, 200, body, [(b"Content-Type", content_type.encode())])

        return when_known(request, self._exposition(accept), send)


class StatusResource(Plain):
    """``/status``; `status` makes it."""

    def __init__(self, status: Callable[[], Content]) -> None:
        super().__init__()
        self._status = status

    def answer(self, request: Request) -> int:
        """Answer with everything that is known."""
        return json_answer(request, self._status())


class NodeFigures:
    """The figures of one node in one process; `prefix` is what its names in Redis begin with."""

    def __init__(self, node: Node, broker: Broker[Any], prefix: str) -> None:
        self._node = node
        self._broker = broker
        self._prefix = prefix
        self._started = time.monotonic()

    def exposition(self, accept: str) -> Text:
        """Return what ``/metrics`` answers."""
        return exposition(accept, self._node.figures(), prefix=self._prefix)

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` answers."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started, 1),
            "redis": self._broker.state,
            "ready": self._broker.ready,
            "prefix": self._prefix,
            **self._node.figures(),
            "process": process_figures(),
        }


def when_known(request: Request, result: Any, send: Callable[[Any], object]) -> int:
    """Call `send` with `result`, once it is there, unless the client has gone by then."""
    if not isinstance(result, Awaitable):
        send(result)
        return NOT_DONE_YET
    waiting = Deferred.fromCoroutine(_wait_for(result))
    request.notifyFinish().addErrback(lambda _: waiting.cancel())
    waiting.addCallback(send)
    waiting.addErrback(_failed, request)
    return NOT_DONE_YET


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result


def _failed(failure: Failure, request: Request) -> None:
    if request.channel is not None and not request.startedWriting:
        tell_fault(request, "a request for figures failed", failure)
        respond(request, 500, b"500 Internal Server Error\n")


def json_answer(request: Request, content: Content, status: int = 200) -> int:
    """Answer with `content` as JSON that can be read as well."""

    def send(known: object) -> None:
        body = json.dumps(known, indent=2).encode() + b"\n"
        respond(request, status, body, [(b"Content-Type", b"application/json")])

    return when_known(request, content, send)
