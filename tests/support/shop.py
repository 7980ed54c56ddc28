"""An application of its own process, whose every order is a row, and a message of its channel.

``python -m tests.support.shop SETTINGS serve``: the settings are JSON; it takes orders until it is
killed. ``migrate``, ``relay`` and ``orders`` do what they say.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from django.conf import settings

CHANNELS = ("lamps", "chairs", "books")


def set_up(given: dict[str, Any]) -> None:
    """Set Django up."""
    settings.configure(
        DATABASES={"default": given["database"]},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "sinapse.publisher.django",
        ],
        SINAPSE={"REDIS_URL": given["redis"], "OUTBOX": True, "TIMEOUT": 1, "CONNECT_TIMEOUT": 1},
        USE_TZ=True,
        LOGGING={"version": 1, "disable_existing_loggers": False},
    )
    import django

    django.setup()


def make_tables() -> None:
    """Make the table of the orders, which has a counter for each channel."""
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE counter (channel varchar(20) PRIMARY KEY, orders integer)")
        for channel in CHANNELS:
            cursor.execute("INSERT INTO counter VALUES (%s, 0)", [channel])


def order(dice: random.Random) -> None:
    """Take an order, or several, of which none is taken if the last one fails."""
    from django.db import connection, transaction

    from sinapse.publisher.django import publish

    with transaction.atomic():
        # In one order, or two such transactions could wait for each other.
        for channel in sorted(dice.sample(CHANNELS, dice.randint(1, len(CHANNELS)))):
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE counter SET orders = orders + 1 WHERE channel = %s", [channel]
                )
                cursor.execute("SELECT orders FROM counter WHERE channel = %s", [channel])
                (number,) = cursor.fetchone()
            publish(channel, f"{channel} {number}", retain=3600, retain_messages=100_000)
        if dice.random() < 0.1:
            transaction.set_rollback(True)


def serve() -> None:
    """Take orders for ever, whatever happens to the database."""
    from django.db import DatabaseError, connection

    dice = random.Random()
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    while True:
        try:
            order(dice)
        except DatabaseError:
            connection.close()


def orders() -> dict[str, int]:
    """Return how many orders there are, by their channels."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT channel, orders FROM counter")
        return dict(cursor.fetchall())


def main(given: str, what: str) -> None:
    """Do what is asked for."""
    set_up(json.loads(given))
    if what == "migrate":
        make_tables()
    elif what == "serve":
        serve()
    elif what == "orders":
        from sinapse.publisher.django.models import OutboxMessage

        sys.stdout.write(json.dumps([orders(), OutboxMessage.objects.count()]))
    else:
        from django.core.management import call_command

        call_command("sinapse_relay")


if __name__ == "__main__":
    main(*sys.argv[1:])
