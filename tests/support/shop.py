"""An application of its own process, whose every order is a row, and a message of its channel.

``python -m tests.support.shop SETTINGS``: the settings are JSON, and each line of the input is what
another process is to do.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import pymysql
from django.conf import settings

CHANNELS = ("lamps", "chairs", "books")


def set_up(given: dict[str, Any]) -> None:
    """Set Django up."""
    pymysql.install_as_MySQLdb()
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
    from django.db import Error, connection

    dice = random.Random()
    tell("serving")
    while True:
        try:
            order(dice)
        except Error:  # PyMySQL calls what is cut off an error of its interface.
            connection.close()


def relay(metrics: str | None = None) -> None:
    """Send what waits, until it is killed; with a port, say there what it has done."""
    from django.core.management import call_command

    tell("relaying")
    call_command("sinapse_relay", metrics=metrics)


def show() -> None:
    """Say how many orders there are of each channel, and how many messages wait."""
    from django.db import connection

    from sinapse.publisher.django.models import OutboxMessage

    with connection.cursor() as cursor:
        cursor.execute("SELECT channel, orders FROM counter")
        orders = dict(cursor.fetchall())
    tell([orders, OutboxMessage.objects.count()])


def tell(what: object) -> None:
    """Say something to the test: a process id, and that."""
    sys.stdout.write(json.dumps([os.getpid(), what]) + "\n")
    sys.stdout.flush()


WORK: dict[str, Callable[..., None]] = {
    "migrate": make_tables,
    "serve": serve,
    "relay": relay,
    "show": show,
}


def fork(work: dict[str, Callable[..., None]]) -> None:
    """Fork a process for each line of the input, which says what it does: so it starts at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for those that are killed.
    for line in sys.stdin:
        if os.fork() == 0:
            status = 1
            try:
                what, *arguments = line.split()
                work[what](*arguments)
                tell("done")
                status = 0
            finally:
                os._exit(status)


if __name__ == "__main__":
    set_up(json.loads(sys.argv[1]))
    fork(WORK)
