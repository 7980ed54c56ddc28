"""A relay as a process: until it is told to end, with its metrics for Prometheus."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sinapse.publisher.outbox.metrics import text
from sinapse.publisher.outbox.relay import Relay
from sinapse.publisher.outbox.store import Store
from sinapse.tracing.exporting import begun

#: Those that end a relay.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    relay: Relay,
    stores: Sequence[Store],
    metrics: str | None = None,
    *,
    asked: Callable[[], None] = lambda: None,
) -> None:
    """Let a relay work until SIGTERM, or Ctrl-C; it ends after what it is sending.

    A second signal ends it at once: its database may not answer.

    `metrics`, ``[HOST:]PORT``, is where it says what it has done. That asks the databases in
    threads; each calls `asked` in the end. Its spans go where the environment says. Raises
    ``ValueError`` if it cannot listen there, or for a variable that cannot be used.
    """
    over = threading.Event()
    server = None if metrics is None else serve(metrics, relay, stores, asked)
    exporting = begun(os.environ)
    former: dict[signal.Signals, Any] = {}

    def end(*_: object) -> None:
        over.set()
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    for number in _SIGNALS:
        former[number] = signal.signal(number, end)
    try:
        relay.run(over.is_set)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if server is not None:
            server.shutdown()
            server.server_close()
        if exporting is not None:
            exporting.end()


def serve(
    address: str,
    relay: Relay,
    stores: Sequence[Store],
    asked: Callable[[], None] = lambda: None,
) -> ThreadingHTTPServer:
    """Serve the metrics at `address` in threads; the arguments are those of :func:`run`."""
    host, _, port = address.rpartition(":")
    is_of_six = host.startswith("[") and host.endswith("]")
    is_port = port.isascii() and port.isdigit() and int(port) <= 65535
    if not is_port or (":" in host and not is_of_six):
        raise ValueError(f"--metrics {address}: must be a port, or HOST:PORT")

    class Handler(BaseHTTPRequestHandler):
        """Answers with the figures, whatever the path is."""

        def do_GET(self) -> None:
            """Ask the databases, on connections of this thread, and answer."""
            try:
                body, status = text(relay, stores).encode(), 200
            except Exception as error:  # noqa: BLE001  # Whatever the database says.
                body, status = f"{type(error).__name__}\n".encode(), 503
            finally:
                asked()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: it is asked every few seconds."""

    class Server(ThreadingHTTPServer):
        """Listens on IPv6 as well."""

        address_family = socket.AF_INET6 if is_of_six else socket.AF_INET

    try:
        server = Server((host.strip("[]") or "127.0.0.1", int(port)), Handler)
    except OSError as error:
        raise ValueError(f"--metrics {address}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
