"""The outbox, whoever is killed when: what streams hear is what was committed, once, in order."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port, running_redis
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.listening import heard as heard_by
from tests.support.listening import listening
from tests.support.mariadb import MariaDB, running_mariadb
from tests.support.postgres import Postgres, running_postgres
from tests.support.shop import CHANNELS

#: Databases, and what is between them and the application.
KINDS = [
    ("postgresql", "django"),
    ("postgresql", "sqlalchemy"),
    ("postgresql", "async sqlalchemy"),
    ("mariadb", "django"),
    ("mariadb", "sqlalchemy"),
    ("sqlite", "django"),
    ("sqlite", "sqlalchemy"),
    ("sqlite", "async sqlalchemy"),
]

#: How many runs of each: 200 are killed in all. ``SINAPSE_OUTBOX_RUNS`` is how many by hand.
RUNS = int(os.environ.get("SINAPSE_OUTBOX_RUNS", "1"))
SEED = int(os.environ.get("SINAPSE_SEED", "1"))

#: Things that are killed in one run.
KILLS = 25


class Shop:
    """Processes that take orders, and relays, with their database and their Redis."""

    def __init__(self, database: dict[str, Any], server: RedisServer, of: str) -> None:
        given = {"database": database, "redis": server.url, "async": of.startswith("async")}
        module = "shop" if of == "django" else "shop_sqlalchemy"
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", f"tests.support.{module}", json.dumps(given)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes: dict[str, int] = {}
        self._do("migrate")

    def _do(self, what: str) -> tuple[int, Any]:
        """Begin something, and return the id of its process, and what that says."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(f"{what}\n")
        self._nursery.stdin.flush()
        while True:
            number, said = json.loads(self._nursery.stdout.readline())
            if said != "done" or what == "migrate":
                return number, said

    def start(self, name: str, what: str | None = None) -> None:
        """Start a process, a shop or a relay, or what is said."""
        what = what or ("serve" if name.startswith("shop") else "relay")
        self._processes[name], _ = self._do(what)

    def state(self) -> tuple[dict[str, int], int]:
        """Return how many orders there are of each channel, and how many messages wait."""
        orders, waiting = self._do("show")[1]
        return orders, waiting

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        number = self._processes.pop(name)
        os.kill(number, how)
        eventually(lambda: not _is_there(number))

    def close(self) -> None:
        for name in list(self._processes):
            self.kill(name)
        self._nursery.communicate()


def _is_there(number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


@contextlib.contextmanager
def shop(database: dict[str, Any], server: RedisServer, of: str = "django") -> Iterator[Shop]:
    made = Shop(database, server, of)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with running_mariadb() as server:
        yield server


@pytest.fixture(scope="module")
def lasting_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that forgets nothing when it is killed."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with running_redis(tmp_path_factory.mktemp("redis"), *options) as server:
        yield server


@pytest.fixture(scope="module")
def node(lasting_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("node"), lasting_redis.url) as daemon:
        yield daemon


def heard(node: Daemon, token: str, after: str) -> dict[str, list[int]]:
    """Return what a stream hears after a position, until it is told that there is no more."""
    found: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
    with node.stream(token, after=after).opened() as stream:
        while (event := stream.next()).event != "end":
            assert event.event != "reset", event
            if event.event is None:
                channel, _, number = event.data.partition(" ")
                found[channel].append(int(number))
    return found


@pytest.mark.parametrize(("kind", "of"), KINDS, ids=map("-".join, KINDS))
@pytest.mark.timeout(120 * RUNS)
def test_what_is_heard_is_what_was_committed_whatever_is_killed_when(
    kind: str, of: str, lasting_redis: RedisServer, node: Daemon, request: pytest.FixtureRequest
) -> None:
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    mariadb = request.getfixturevalue("mariadb") if kind == "mariadb" else None
    tmp_path = request.getfixturevalue("tmp_path")
    with Publisher(lasting_redis.url) as publisher:
        for channel in CHANNELS:
            publisher.channels.add("everybody", channel)
        token = publisher.tokens.generate("everybody")
    for seed in range(SEED, SEED + RUNS):
        with Publisher(lasting_redis.url) as publisher:
            publisher.publish("nothing", "so that there is a position")
            after = publisher.position()
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / f"{seed}.sqlite3"),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
        if postgres is not None:
            name = f"{of.replace(' ', '_')}_{seed}"
            database = postgres.settings(name)
            create = f"CREATE DATABASE {name}"
            _ask_postgres(postgres, create)
        if mariadb is not None:
            database = mariadb.make(f"{of.replace(' ', '_')}_{seed}")
        with shop(database, lasting_redis, of) as made:
            _disturb(random.Random(seed), made, lasting_redis, postgres or mariadb)
            eventually(lambda: made.state()[1] == 0, timeout=60)
            last, _ = made.state()
        eventually(node.is_ready)
        with Publisher(lasting_redis.url) as publisher:
            # As many are kept as by the shop, so that none is gone.
            publisher.publish(CHANNELS[0], "", "end", retain=3600, retain_messages=100_000)
        found = heard(node, token, after)
        for channel in CHANNELS:
            assert last[channel]
            assert found[channel] == list(range(1, last[channel] + 1)), (seed, channel)


def _ask_postgres(postgres: Postgres, query: str, name: str = "postgres") -> Any:
    """Return the first value of the answer, if it has any."""
    import psycopg

    address = f"host=127.0.0.1 port={postgres.port} user=postgres dbname={name}"
    with psycopg.connect(address, autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def _disturb(
    dice: random.Random, made: Shop, server: RedisServer, database: Postgres | MariaDB | None
) -> None:
    """Kill one after the other, and start it again; in the end only relays are left."""
    names = ["shop 1", "shop 2", "relay 1", "relay 2"]
    for name in names:
        made.start(name)
    for _ in range(KILLS):
        time.sleep(dice.choice((0.0, 0.01, 0.1, 0.4)))  # The next moment: any will do.
        what = dice.choice([*names, *names, "redis", "database"])
        if what == "redis":
            server.kill()
            time.sleep(dice.choice((0.0, 0.3)))
            server.start()
        elif what == "database" and database is not None:
            database.kill()
            database.start()
        elif what in names:
            made.kill(what)
            made.start(what)
    for name in ("shop 1", "shop 2"):
        made.kill(name)


def test_a_relay_is_woken_by_the_database(
    postgres: Postgres, lasting_redis: RedisServer, tmp_path: Path
) -> None:
    """A row of a process that is killed before it can send it is not waited for."""
    _ask_postgres(postgres, "CREATE DATABASE woken")
    with shop(postgres.settings("woken"), lasting_redis) as made, listening(lasting_redis) as all_:
        made.start("relay 1")
        # One that has looked, in a transaction, has listened before.
        looked = "datname = 'woken' AND state = 'idle' AND query = 'COMMIT'"
        activity = f"SELECT count(*) FROM pg_stat_activity WHERE {looked}"
        eventually(lambda: _ask_postgres(postgres, activity) > 0)
        fields = "message_id, channel, message, event, retain, retain_messages, replay, but"
        row = "'1', 'news', 'hello', '', 0, 1, '', '', now(), ''"
        insert = f"INSERT INTO sinapse_outboxmessage ({fields}, created, refused) VALUES ({row})"
        _ask_postgres(postgres, insert, name="woken")
        eventually(lambda: ("news", "hello") in heard_by(all_))


def test_a_relay_says_what_it_has_done_and_ends_when_it_is_asked_to(
    lasting_redis: RedisServer, tmp_path: Path
) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "shop.sqlite3")}
    port = free_port()
    with shop(database, lasting_redis) as made:
        made.start("relay", f"relay {port}")

        def metrics() -> str:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics") as found:
                assert found.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return str(found.read().decode())
            return ""

        assert 'sinapse_outbox_waiting{outbox="default"} 0' in eventually(metrics)
        made.kill("relay", signal.SIGTERM)
