"""What the outbox costs a transaction and a message, and how fast a relay is, with PostgreSQL.

Usage: python bench/outbox.py [ROUNDS]

Everything is on this machine, PostgreSQL with its default settings but for the port. A transaction
inserts a row of the application's, and publishes one message; ways take turns in each round;
figures are medians of the rounds, with the least and the most. Latency is from the end of the
commit to the message at a daemon's stream.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from django.conf import settings  # noqa: E402
from machine import description  # noqa: E402
from text import Figures, medians, note  # noqa: E402

from tests.support import running_redis  # noqa: E402
from tests.support.daemon import Daemon, Stream, running_daemon  # noqa: E402
from tests.support.postgres import running_postgres  # noqa: E402

ROUNDS = 5

#: Transactions of a measure, and messages that a relay finds.
TRANSACTIONS = 500
BACKLOG = 20_000


@contextmanager
def outbox(url: str, *, is_on: bool) -> Iterator[None]:
    """Publish with or without it."""
    from django.test import override_settings  # noqa: PLC0415

    with override_settings(SINAPSE={"REDIS_URL": url, "OUTBOX": is_on}):
        yield


class Clock:
    """Reads the time when a transaction has been committed, before anything that follows."""

    def __init__(self, connection: Any) -> None:
        self.at = 0.0
        connection.run_on_commit.insert(0, (set(), self.read, False))

    def read(self) -> None:
        """Read it."""
        self.at = time.perf_counter()


def transactions(figures: Figures, name: str, publish: Callable[..., object] | None) -> None:
    """Note the microseconds until a transaction has committed, and all is done after it."""
    from django.db import connection, transaction  # noqa: PLC0415

    committed = done = 0.0
    for number in range(TRANSACTIONS):
        begun = time.perf_counter()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO entry (number) VALUES (%s)", [number])
            if publish is not None:
                publish("news", f"message {number}")
            committing = Clock(connection)
        done += time.perf_counter() - begun
        committed += committing.at - begun
    note(figures, f"{name}: µs until the commit", committed / TRANSACTIONS * 1e6)
    note(figures, f"{name}: µs in all", done / TRANSACTIONS * 1e6)


def latencies(figures: Figures, name: str, publish: Callable[..., object], stream: Stream) -> None:
    """Note the microseconds from the commit to a stream."""
    from django.db import connection, transaction  # noqa: PLC0415

    taken = []
    for number in range(TRANSACTIONS):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO entry (number) VALUES (%s)", [number])
            publish("news", f"message {number}")
            committing = Clock(connection)
        stream.wait_for_message(f"message {number}")
        taken.append(time.perf_counter() - committing.at)
    note(figures, f"{name}: µs from the commit to a stream", median(taken) * 1e6)


def relay(figures: Figures) -> None:
    """Note how many messages a second a relay moves."""
    from sinapse.publisher import default  # noqa: PLC0415
    from sinapse.publisher.django.models import OutboxMessage  # noqa: PLC0415
    from sinapse.publisher.django.outbox import DjangoStore  # noqa: PLC0415
    from sinapse.publisher.frameworks.prepared import prepare  # noqa: PLC0415
    from sinapse.publisher.outbox.relay import Relay  # noqa: PLC0415
    from sinapse.publisher.outbox.rows import row_of  # noqa: PLC0415

    values: list[dict[str, Any]] = []
    for number in range(BACKLOG):
        row = row_of(prepare(f"room:{number % 100}", f"message {number}"))._asdict()
        del row["id"]
        values.append(row)
    OutboxMessage.objects.bulk_create([OutboxMessage(**each) for each in values], batch_size=1000)
    store = DjangoStore("default")
    begun = time.perf_counter()
    sent = Relay([store], default).send(store)
    elapsed = time.perf_counter() - begun
    if sent != BACKLOG:
        sys.exit(f"{sent} of {BACKLOG} were sent")
    note(figures, "a relay: messages a second", BACKLOG / elapsed)


def measure(figures: Figures, url: str, daemon: Daemon) -> None:
    """Measure everything once."""
    from sinapse.publisher import default  # noqa: PLC0415
    from sinapse.publisher.django import publish  # noqa: PLC0415

    default().channels.add("1", "news")
    token = default().tokens.generate("1")
    transactions(figures, "no message", None)
    for is_on in (False, True):
        name = "with the outbox" if is_on else "without it"
        with outbox(url, is_on=is_on):
            transactions(figures, name, publish)
            with daemon.stream(token).opened() as stream:
                latencies(figures, name, publish, stream)
    with outbox(url, is_on=True):
        relay(figures)


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
        settings.configure(
            DATABASES={"default": postgres.settings()},
            INSTALLED_APPS=[
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "sinapse.publisher.django",
            ],
            SINAPSE={"REDIS_URL": server.url},
            USE_TZ=True,
        )
        import django  # noqa: PLC0415

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415
        from django.db import connection  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE entry (id bigserial PRIMARY KEY, number integer)")
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
        for _ in range(rounds):
            measure(figures, server.url, daemon)
        connection.close()
    print(f"{description()}, PostgreSQL {version}; medians of {rounds}, least and most\n")
    print(medians(figures))


if __name__ == "__main__":
    main()
