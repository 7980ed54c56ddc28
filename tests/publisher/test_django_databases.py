"""The outbox of Django in the databases of applications: PostgreSQL and MariaDB."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pymysql
import pytest
import redis

from tests.support import django_site

django_site.set_up()
pymysql.install_as_MySQLdb()

from django.db import connections, transaction  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from sinapse.protocol.keys import MAX_NAME_BYTES  # noqa: E402
from sinapse.publisher import default  # noqa: E402
from sinapse.publisher.django import publish  # noqa: E402
from sinapse.publisher.django.models import OutboxMessage  # noqa: E402
from sinapse.publisher.django.outbox import DjangoStore  # noqa: E402
from sinapse.publisher.outbox import committed  # noqa: E402
from sinapse.publisher.outbox.relay import Relay  # noqa: E402
from tests.support import RedisServer, free_port  # noqa: E402
from tests.support.listening import Listener, heard  # noqa: E402
from tests.support.mariadb import MariaDB, running_mariadb  # noqa: E402
from tests.support.postgres import Postgres, running_postgres  # noqa: E402

#: A connection of this process to the database, and one as another process has it.
HERE, THERE = "here", "there"

#: One to another database of the same server.
ELSEWHERE = "elsewhere"

#: What lets all that follows see what was there when it began, and end rather than wait for long.
SESSION = {
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET lock_timeout = '1s'",
    ),
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION innodb_lock_wait_timeout = 1",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with django_site.running(tmp_path_factory.mktemp("django")):
        yield


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | MariaDB]:
    """Yield each kind in turn; its databases are as it makes them without being asked."""
    with running_postgres() if request.param == "postgresql" else running_mariadb() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _databases(server: Postgres | MariaDB, _project: None) -> Iterator[None]:
    settings = {name: server.make(name) for name in (HERE, ELSEWHERE)}
    settings[THERE] = dict(settings[HERE])
    connections.settings.update(
        connections.configure_settings({**connections.settings, **settings})
    )
    for using in (HERE, ELSEWHERE):
        executor = MigrationExecutor(connections[using])
        executor.migrate(executor.loader.graph.leaf_nodes("sinapse"))
    yield
    for using in settings:
        connections[using].close()
        del connections[using]
        del connections.settings[using]


@pytest.fixture(autouse=True)
def redis_url(redis_server: RedisServer, _databases: None) -> Iterator[str]:
    """Let the settings name the session's Redis, with an outbox; begin without rows."""
    with override_settings(SINAPSE={"REDIS_URL": redis_server.url, "OUTBOX": True}):
        yield redis_server.url
        default().close()
    committed.Pause.until = 0.0
    for using in (HERE, THERE, ELSEWHERE):
        OutboxMessage.objects.using(using).all().delete()
        connections[using].close()


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Let Redis be away, and let nobody rest after that."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with override_settings(SINAPSE={"REDIS_URL": url, "OUTBOX": True}):
        yield
        default().close()
    committed.Pause.until = 0.0


def do(using: str, *statements: str) -> Any:
    """Return the first value of the last answer."""
    with connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def strict(using: str) -> None:
    """Let a session see what was there when its transaction began, and wait for a second."""
    do(using, *SESSION[connections[using].vendor])


def waiting(using: str = HERE) -> list[str]:
    return [row.message for row in OutboxMessage.objects.using(using).order_by("id")]


def relay(*using: str) -> int:
    """Let a relay look once, and return what it has sent."""
    stores = [DjangoStore(each) for each in using or (HERE,)]
    sender = Relay(stores, default)
    for store in stores:
        sender.attempt(store)
    return sum(sender.sent.values())


#: Names that some databases take for one.
ALIKE = ["news", "News", "n\u00e9ws", "news ", "news\u00ad"]


class TestTexts:
    @pytest.mark.parametrize(
        "message",
        ["\U0001f986 \u00e9 \\ ' % \"", " ", "x" * 1024 * 1024],
        ids=["all characters", "a space", "1 MiB"],
    )
    def test_a_message_is_sent_as_it_is(self, listener: Listener, message: str) -> None:
        with away(), transaction.atomic(HERE):
            publish("news", message, using=HERE)
        assert waiting() == [message]
        assert relay() == 1
        assert heard(listener) == [("news", message)]

    def test_names_may_have_their_full_length(self, listener: Listener) -> None:
        name = "\U0001f986" * (MAX_NAME_BYTES // 4 - 1) + "news"
        with transaction.atomic(HERE):
            publish(name, "hello", event=name, message_id="x" * 128, using=HERE)
            publish(name, "again", using=HERE)
        assert heard(listener) == [(name, "hello"), (name, "again")]
        assert waiting() == []

    def test_names_that_are_alike_are_not_the_same(self) -> None:
        with away(), transaction.atomic(HERE):
            for name in ALIKE:
                publish(name, name, using=HERE)
        store = DjangoStore(HERE)
        for name in ALIKE:
            others = [each for each in ALIKE if each != name]
            assert [row.channel for row in store.waiting(10, only=[name])] == [name]
            assert [row.channel for row in store.waiting(10, but=[name])] == others
            assert [row.channel for row in store.waiting(10, only=others)] == others

    def test_a_channel_that_waits_holds_none_up_that_is_alike(
        self, listener: Listener, redis_client: redis.Redis
    ) -> None:
        """More of it wait than are read at once."""
        with away(), transaction.atomic(HERE):
            for number in range(1001):
                publish("news", str(number), using=HERE)
            for name in ALIKE[1:]:
                publish(name, name, using=HERE)
        redis_client.set("sinapse:retained:news", "not ours")
        assert relay() == len(ALIKE) - 1
        assert heard(listener) == [(name, name) for name in ALIKE[1:]]


class TestTransactions:
    def test_what_is_rolled_back_was_never_there(self, listener: Listener) -> None:
        with transaction.atomic(HERE):
            publish("news", "kept", using=HERE)
            with transaction.atomic(HERE):
                publish("news", "rolled back", using=HERE)
                transaction.set_rollback(True, using=HERE)
        with transaction.atomic(HERE):
            publish("news", "rolled back as well", using=HERE)
            transaction.set_rollback(True, using=HERE)
        assert heard(listener) == [("news", "kept")]
        assert waiting() == []

    @pytest.mark.parametrize("count", [1, 3])
    def test_one_that_is_open_holds_none_up(self, listener: Listener, count: int) -> None:
        for using in (HERE, THERE):
            strict(using)
        with transaction.atomic(THERE):
            publish("news", "open", using=THERE)
            with transaction.atomic(HERE):
                for number in range(count):
                    publish("news", str(number), using=HERE)
            assert heard(listener) == [("news", str(number)) for number in range(count)]
            assert waiting() == []
            assert relay() == 0
        assert heard(listener) == [("news", "open")]
        assert waiting() == []

    @pytest.mark.parametrize("count", [1, 2])
    def test_what_was_committed_before_comes_before_whatever_a_transaction_sees(
        self, listener: Listener, count: int
    ) -> None:
        """It sees what was there when it began; its message came later."""
        strict(HERE)
        with transaction.atomic(HERE):
            assert waiting() == []
            with away(), transaction.atomic(THERE):
                publish("news", "first", using=THERE)
            for number in range(count):
                publish("news", str(number), using=HERE)
        assert [data for _, data in heard(listener)] == ["first", *map(str, range(count))]
        assert waiting() == []


class TestRelay:
    def test_one_works_at_a_time(self) -> None:
        with away(), transaction.atomic(HERE):
            publish("news", "hello", using=HERE)
        with DjangoStore(HERE).alone() as is_alone:
            assert is_alone
            with DjangoStore(THERE).alone() as is_another:
                assert not is_another
            assert relay(THERE) == 0
        assert relay(THERE) == 1

    def test_another_database_of_the_server_has_its_own(self, listener: Listener) -> None:
        with away(), transaction.atomic(ELSEWHERE):
            publish("news", "elsewhere", using=ELSEWHERE)
        with DjangoStore(HERE).alone() as is_alone:
            assert is_alone
            assert relay(ELSEWHERE) == 1
        assert heard(listener) == [("news", "elsewhere")]

    def test_a_server_that_was_away_is_asked_again(
        self, server: Postgres | MariaDB, listener: Listener
    ) -> None:
        """Each of its databases."""
        with away():
            for using in (HERE, ELSEWHERE):
                with transaction.atomic(using):
                    publish("news", using, using=using)
        server.kill()
        for _ in range(2):
            assert relay(HERE, ELSEWHERE) == 0
        server.start()
        assert relay(HERE, ELSEWHERE) == 2
        assert heard(listener) == [("news", HERE), ("news", ELSEWHERE)]

    def test_it_commits_where_the_settings_leave_that_to_the_application(
        self, listener: Listener
    ) -> None:
        connections[HERE].settings_dict["AUTOCOMMIT"] = False
        try:
            do(HERE, "SELECT 1")
            publish("news", "hello", using=HERE)
            connections[HERE].commit()
            assert waiting(THERE) == ["hello"]
            connections[HERE].close()
            assert relay() == 1
            assert waiting(THERE) == []
            with away(), transaction.atomic(THERE):  # And it sees what comes next.
                publish("news", "again", using=THERE)
            assert relay() == 1
            assert waiting(THERE) == []
        finally:
            connections[HERE].close()
            connections[HERE].settings_dict["AUTOCOMMIT"] = True
        assert heard(listener) == [("news", "hello"), ("news", "again")]

    @pytest.mark.parametrize("has_zones", [True, False])
    def test_it_knows_for_how_long_the_oldest_waits(self, has_zones: bool) -> None:
        with override_settings(USE_TZ=has_zones, TIME_ZONE="Asia/Tokyo"), away():
            with transaction.atomic(HERE):
                publish("news", "hello", using=HERE)
            before = DjangoStore(HERE).statistics()
            OutboxMessage.objects.using(HERE).update(created=timezone.now() - timedelta(hours=1))
            after = DjangoStore(HERE).statistics()
        assert (before.waiting, after.waiting) == (1, 1)
        assert 0 <= before.oldest < 600
        assert 3600 <= after.oldest < 4200
