"""What the outbox costs a transaction and a message, and how fast a relay is, with PostgreSQL.

Usage: python bench/outbox.py [ROUNDS]

Everything is on this machine, PostgreSQL with its default settings but for the port. A transaction
inserts a row of the application's, and publishes one message, with Django and with SQLAlchemy; ways
take turns in each round; figures are medians of the rounds, with the least and the most. Latency is
from the end of the commit to the message at a daemon's stream.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeAlias

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from django.conf import settings  # noqa: E402
from machine import description  # noqa: E402
from sqlalchemy import MetaData, create_engine, event, text  # noqa: E402
from sqlalchemy.orm import sessionmaker  # noqa: E402
from text import Figures, medians, note  # noqa: E402

from sinapse.publisher import default  # noqa: E402
from sinapse.publisher.frameworks.prepared import prepare  # noqa: E402
from sinapse.publisher.outbox.relay import Relay  # noqa: E402
from sinapse.publisher.outbox.rows import Row, row_of  # noqa: E402
from sinapse.publisher.outbox.store import Store  # noqa: E402
from sinapse.publisher.sqlalchemy import outbox, publish  # noqa: E402
from sinapse.publisher.sqlalchemy.store import TableStore, insert  # noqa: E402
from tests.support import running_redis  # noqa: E402
from tests.support.daemon import Daemon, Stream, running_daemon  # noqa: E402
from tests.support.postgres import Postgres, running_postgres  # noqa: E402

ROUNDS = 5

#: Transactions of a measure, and messages that a relay finds.
TRANSACTIONS = 500
BACKLOG = 20_000


class InDjango:
    """An application with Django."""

    name = "Django"

    def __init__(self, url: str, postgres: Postgres) -> None:
        settings.configure(
            DATABASES={"default": postgres.settings()},
            INSTALLED_APPS=[
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "sinapse.publisher.django",
            ],
            SINAPSE={"REDIS_URL": url},
            USE_TZ=True,
        )
        import django  # noqa: PLC0415

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        self._url = url

    @contextmanager
    def outbox(self, *, is_on: bool) -> Iterator[None]:
        """Publish with or without it."""
        from django.test import override_settings  # noqa: PLC0415

        with override_settings(SINAPSE={"REDIS_URL": self._url, "OUTBOX": is_on}):
            yield

    def transact(self, number: int, message: str | None) -> float:
        """Insert a row, and publish; return when it was committed."""
        from django.db import connection, transaction  # noqa: PLC0415

        from sinapse.publisher.django import publish  # noqa: PLC0415

        clock = Clock()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO entry (number) VALUES (%s)", [number])
            if message is not None:
                publish("news", message)
            connection.run_on_commit.insert(0, (set(), clock.read, False))
        return clock.at

    def backlog(self, rows: Sequence[Row]) -> Store:
        """Let rows wait, and return where."""
        from sinapse.publisher.django.models import OutboxMessage  # noqa: PLC0415
        from sinapse.publisher.django.outbox import DjangoStore  # noqa: PLC0415

        waiting = []
        for row in rows:
            values = row._asdict()
            del values["id"]
            waiting.append(OutboxMessage(**values))
        OutboxMessage.objects.bulk_create(waiting, batch_size=1000)
        return DjangoStore("default")

    def close(self) -> None:
        """Close its connections."""
        from django.db import connection  # noqa: PLC0415

        connection.close()


class InSQLAlchemy:
    """An application with SQLAlchemy, and synchronous sessions."""

    name = "SQLAlchemy"

    def __init__(self, postgres: Postgres) -> None:
        address = f"postgres@127.0.0.1:{postgres.port}/postgres"
        self._engine = create_engine(f"postgresql+psycopg://{address}")
        self._outbox = outbox(MetaData())
        self._outbox.metadata.create_all(self._engine)
        self._sessions = sessionmaker(self._engine)

    @contextmanager
    def outbox(self, *, is_on: bool) -> Iterator[None]:
        """Publish with or without it."""
        self._sessions.configure(info={"outbox": self._outbox if is_on else None})
        yield

    def transact(self, number: int, message: str | None) -> float:
        """Insert a row, and publish; return when it was committed."""
        clock = Clock()
        with self._sessions() as session:
            session.execute(text("INSERT INTO entry (number) VALUES (:n)"), {"n": number})
            if message is not None:
                publish(session, "news", message)
            event.listen(session, "after_commit", clock.read)
            session.commit()
        return clock.at

    def backlog(self, rows: Sequence[Row]) -> Store:
        """Let rows wait, and return where."""
        with self._engine.begin() as connection:
            insert(connection, self._outbox, rows, notify=False)
        return TableStore(self._engine, self._outbox)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


Application: TypeAlias = InDjango | InSQLAlchemy


class Clock:
    """Reads the time when a transaction has been committed, before anything that follows."""

    def __init__(self) -> None:
        self.at = 0.0

    def read(self, *_: object) -> None:
        """Read it."""
        self.at = time.perf_counter()


def transactions(figures: Figures, name: str, of: Application, *, is_told: bool) -> None:
    """Note the microseconds until a transaction has committed, and all is done after it."""
    committed = done = 0.0
    for number in range(TRANSACTIONS):
        begun = time.perf_counter()
        at = of.transact(number, f"message {number}" if is_told else None)
        done += time.perf_counter() - begun
        committed += at - begun
    note(figures, f"{name}: µs until the commit", committed / TRANSACTIONS * 1e6)
    note(figures, f"{name}: µs in all", done / TRANSACTIONS * 1e6)


def latencies(figures: Figures, name: str, of: Application, stream: Stream) -> None:
    """Note the microseconds from the commit to a stream."""
    taken = []

    def come(number: int) -> float:
        stream.wait_for_message(f"message {number}")
        return time.perf_counter()

    # Another thread listens: after it has sent the message, the transaction has more to do.
    with ThreadPoolExecutor(1) as listener:
        for number in range(TRANSACTIONS):
            coming = listener.submit(come, number)
            committed = of.transact(number, f"message {number}")
            taken.append(coming.result() - committed)
    note(figures, f"{name}: µs from the commit to a stream", median(taken) * 1e6)


def relay(figures: Figures, of: Application) -> None:
    """Note how many messages a second a relay moves."""
    store = of.backlog(
        [row_of(prepare(f"room:{number % 100}", f"message {number}")) for number in range(BACKLOG)]
    )
    begun = time.perf_counter()
    sent = Relay([store], default).send(store)
    elapsed = time.perf_counter() - begun
    if sent != BACKLOG:
        sys.exit(f"{sent} of {BACKLOG} were sent")
    note(figures, f"{of.name}, a relay: messages a second", BACKLOG / elapsed)


def measure(figures: Figures, of: Application, daemon: Daemon) -> None:
    """Measure everything once."""
    default().channels.add("1", "news")
    token = default().tokens.obtain("1")
    with of.outbox(is_on=False):
        transactions(figures, f"{of.name}, no message", of, is_told=False)
    for is_on in (False, True):
        name = f"{of.name}, {'with the outbox' if is_on else 'without it'}"
        with of.outbox(is_on=is_on):
            transactions(figures, name, of, is_told=True)
            with daemon.stream(token).opened() as stream:
                latencies(figures, name, of, stream)
    with of.outbox(is_on=True):
        relay(figures, of)


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    figures: Figures = {}
    with (
        tempfile.TemporaryDirectory() as name,
        running_redis(Path(name)) as server,
        running_postgres("-c", "fsync=on") as postgres,
        running_daemon(Path(name), server.url) as daemon,
    ):
        applications = (InDjango(server.url, postgres), InSQLAlchemy(postgres))
        engine = create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{postgres.port}/postgres")
        with engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE entry (id bigserial PRIMARY KEY, number integer)")
            )
            version = connection.scalar(text("SHOW server_version"))
        engine.dispose()
        for _ in range(rounds):
            for application in applications:
                measure(figures, application, daemon)
        for application in applications:
            application.close()
    print(f"{description()}, PostgreSQL {version}; medians of {rounds}, least and most\n")
    print(medians(figures))


if __name__ == "__main__":
    main()
