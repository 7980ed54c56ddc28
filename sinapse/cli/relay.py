"""``sinapse relay``: what waits in the outboxes of SQLAlchemy's databases is sent."""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from sinapse.cli.publishing import Refused, Unavailable, publishing
from sinapse.publisher import Publisher
from sinapse.publisher.outbox.relay import Relay
from sinapse.publisher.outbox.running import run
from sinapse.publisher.outbox.store import in_a_line

if TYPE_CHECKING:  # Only this command needs SQLAlchemy, which may not be there.
    from sinapse.publisher.sqlalchemy.database import Database
    from sinapse.publisher.sqlalchemy.store import TableStore

#: In the environment: the URL of the database.
VARIABLE = "DATABASE_URL"


@click.command("relay")
@click.option(
    "--database",
    "urls",
    multiple=True,
    metavar="URL",
    help=f"A database, as SQLAlchemy names it; may be repeated.  [default: {VARIABLE}]",
)
@click.option(
    "--table",
    default="sinapse_outbox",
    show_default=True,
    metavar="[SCHEMA.]NAME",
    help="The outbox in it.",
)
@click.option("--once", is_flag=True, help="Send what is there, and end.")
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve figures for Prometheus there; HOST is 127.0.0.1 if not given.",
)
@publishing
def command(
    publisher: Publisher, urls: tuple[str, ...], table: str, once: bool, metrics: str | None
) -> None:
    """Send what waits in the outbox of an application, until it is told to end.

    The application has the outbox with SQLAlchemy. Several relays may run.
    """
    try:
        from sinapse.publisher.sqlalchemy.database import at_work  # noqa: PLC0415
    except ImportError as error:
        raise Refused(
            f"{error.name} is not installed: pip install 'sinapse-push[sqlalchemy]'"
        ) from None
    found = _databases(urls)
    stores = [database.store(table) for _, database in found]
    if len({store.name for store in stores}) < len(stores):
        raise Refused("--database: one is given twice")
    relay = Relay(stores, lambda: publisher)

    def work() -> None:
        if once:
            _send_once(relay, found, stores)
            return
        for (option, database), store in zip(found, stores, strict=True):
            with suppress(Unavailable):  # It is asked again later.
                _check(option, database, store)
        try:
            run(relay, stores, metrics)
        except ValueError as error:
            raise Refused(str(error)) from None

    at_work([database for _, database in found], work)


def _databases(urls: Sequence[str]) -> "list[tuple[str, Database]]":
    """Return the databases, each with the option that names it."""
    from sinapse.publisher.sqlalchemy.database import Database  # noqa: PLC0415

    option = "--database"
    if not urls:
        option = VARIABLE
        urls = [url for url in [os.environ.get(VARIABLE)] if url]
        if not urls:
            raise click.UsageError(f"--database is needed, or {VARIABLE}")
    found = []
    for url in urls:
        try:
            database = Database(url)
        except ValueError as error:
            raise Refused(f"{option} {error}") from None
        found.append((f"{option} {database}", database))
    return found


def _check(option: str, database: "Database", store: "TableStore") -> None:
    """Refuse a database without the table, and say that one does not answer."""
    try:
        is_there = database.has(store)
    except Exception as error:  # noqa: BLE001  # Whatever its driver raises.
        raise Unavailable(f"{option}: {in_a_line(error)}") from None
    if not is_there:
        raise Refused(f"{option}: there is no table {store.table.fullname}: see --table")


def _send_once(
    relay: Relay, found: "Sequence[tuple[str, Database]]", stores: "Sequence[TableStore]"
) -> None:
    """Send what is there, of each database that answers; the first fault is told at the end."""
    faults: list[Exception] = []
    for (option, database), store in zip(found, stores, strict=True):
        try:
            _check(option, database, store)
            sent, refused = relay.send(store)
            waiting = store.statistics().waiting
        except click.ClickException as error:
            faults.append(error)
            continue
        except Exception as error:  # noqa: BLE001  # As above.
            faults.append(Unavailable(f"{store.name}: {in_a_line(error)}"))
            continue
        click.echo(f"{store.name}: {sent} sent, {waiting} wait.")
        if refused is not None:
            faults.append(Unavailable(str(refused)))
    if faults:
        raise faults[0]
