"""``manage.py sinapse_relay``: it sends what waits in the outboxes of the databases."""

import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from sinapse.publisher import default
from sinapse.publisher.django.management.arguments import failing_in_one_line
from sinapse.publisher.django.outbox import DjangoStore, databases
from sinapse.publisher.outbox.metrics import text
from sinapse.publisher.outbox.relay import Relay


class Command(BaseCommand):
    """Send what waits."""

    help = "Sends what waits in the outbox, until it is stopped. It may run several times."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say for how long, and of which databases."""
        parser.add_argument("--once", action="store_true", help="send what is there, and end")
        parser.add_argument(
            "--database",
            action="append",
            metavar="ALIAS",
            help="only the outbox of this one; may be given several times",
        )
        parser.add_argument(
            "--metrics",
            metavar="[HOST:]PORT",
            help="serve figures for Prometheus there; HOST is 127.0.0.1 if not given",
        )

    @failing_in_one_line
    def handle(self, **options: Any) -> None:
        """Relay."""
        stores = [DjangoStore(using) for using in self._databases(options["database"])]
        relay = Relay(stores, default)
        if options["once"]:
            self._send_once(relay, stores)
            return
        over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
        server = None
        if options["metrics"] is not None:
            server = _serve(options["metrics"], relay, stores)
        relay.run(over.is_set)
        if server is not None:
            server.shutdown()

    def _send_once(self, relay: Relay, stores: list[DjangoStore]) -> None:
        for store in stores:
            try:
                sent = relay.send(store)
                waiting = store.statistics().waiting
            except DatabaseError as error:
                raise CommandError(f"{store.name}: {error}") from error
            self.stdout.write(f"{store.name}: {sent} sent, {waiting} wait.")

    def _databases(self, given: list[str] | None) -> list[str]:
        known = databases()
        if not known:
            raise CommandError("no database may have an outbox: see allow_migrate of the routers")
        for using in given or ():
            if using not in known:
                raise CommandError(f"--database {using}: it has no outbox; {', '.join(known)} have")
        return given or known


def _serve(address: str, relay: Relay, stores: list[DjangoStore]) -> ThreadingHTTPServer:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise CommandError(f"--metrics {address}: must be a port, or HOST:PORT")

    class Handler(BaseHTTPRequestHandler):
        """Answers with the figures, whatever the path is."""

        def do_GET(self) -> None:
            """Ask the databases, on connections of this thread, and answer."""
            try:
                body, status = text(relay, stores).encode(), 200
            except Exception as error:  # noqa: BLE001  # Whatever the database says.
                body, status = f"{type(error).__name__}\n".encode(), 503
            finally:
                connections.close_all()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: it is asked every few seconds."""

    try:
        server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler)
    except OSError as error:
        raise CommandError(f"--metrics {address}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
