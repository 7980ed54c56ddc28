"""A collector of OpenTelemetry on the loopback interface: spans as OTLP over HTTP brings them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Encoded

from tests.support import EVENT_TIMEOUT, PYTHON, eventually
from tests.support.daemon import ROOT

#: What an application does that traces: OpenTelemetry is set up, and `span` opens one of its own.
SETUP = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
span = trace.get_tracer("application").start_as_current_span
"""


class Span(NamedTuple):
    """A span as it has arrived."""

    name: str
    service: str
    trace: str
    id: str
    parent: str
    kind: str
    start: int
    end: int
    is_error: bool
    attributes: Mapping[str, Any]


class Collector:
    """Keeps all spans that come."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._lock = threading.Lock()
        self._spans: list[Span] = []

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _span(each, _values(resource.resource.attributes)["service.name"])
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for each in scope.spans
        ]
        with self._lock:
            self._spans += found

    @property
    def spans(self) -> list[Span]:
        """All that have come, in the order of their beginnings."""
        with self._lock:
            return sorted(self._spans, key=lambda span: span.start)

    def wait_for(self, name: str, count: int = 1) -> list[Span]:
        """Return the spans of a name, once there are so many."""

        def found() -> list[Span]:
            spans = [span for span in self.spans if span.name == name]
            return spans if len(spans) >= count else []

        return eventually(found, f"{count} spans {name!r}")

    @property
    def environment(self) -> dict[str, str]:
        """What names it to a process, which sends soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def run(self, program: str, *arguments: str, **environment: str) -> str:
        """Run an application that traces, and return what it prints."""
        ended = subprocess.run(
            [PYTHON, "-c", f"import sys\n{SETUP}\n{program}\nprovider.shutdown()", *arguments],
            cwd=ROOT,
            env={
                "PYTHONPATH": str(ROOT),
                "OTEL_SERVICE_NAME": "application",
                **self.environment,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=EVENT_TIMEOUT,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Run one for the length of a with block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            body = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _span(span: Encoded, service: str) -> Span:
    return Span(
        span.name,
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        Encoded.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _values(span.attributes),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
