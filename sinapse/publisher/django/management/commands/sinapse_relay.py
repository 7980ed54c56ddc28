"""``manage.py sinapse_relay``: it sends what waits in the outboxes of the databases."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from sinapse.publisher import default
from sinapse.publisher.django.management.arguments import failing_in_one_line
from sinapse.publisher.django.outbox import DjangoStore, databases
from sinapse.publisher.outbox.relay import Relay
from sinapse.publisher.outbox.running import run


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
        try:
            run(relay, stores, options["metrics"], asked=connections.close_all)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def _send_once(self, relay: Relay, stores: list[DjangoStore]) -> None:
        faults: list[str] = []
        for store in stores:
            try:
                sent, refused = relay.send(store)
                waiting = store.statistics().waiting
            except Error as error:
                faults.append(f"{store.name}: {error}")
                continue
            self.stdout.write(f"{store.name}: {sent} sent, {waiting} wait.")
            if refused is not None:
                faults.append(str(refused))
        if faults:
            raise CommandError(faults[0])

    def _databases(self, given: list[str] | None) -> list[str]:
        known = databases()
        if not known:
            raise CommandError("no database may have an outbox: see allow_migrate of the routers")
        for using in given or ():
            if using not in known:
                raise CommandError(f"--database {using}: it has no outbox; {', '.join(known)} have")
        return given or known
