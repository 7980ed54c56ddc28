"""The outbox of SQLAlchemy: a message is a row of its transaction until Redis has it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy
from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    MetaData,
    String,
    Table,
    Update,
    create_engine,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sinapse.publisher import Publisher, default, use
from sinapse.publisher.outbox import committed, metrics
from sinapse.publisher.outbox import relay as relays
from sinapse.publisher.outbox.relay import Relay
from sinapse.publisher.sqlalchemy import Publishable, outbox, publish
from sinapse.publisher.sqlalchemy import table as tables
from sinapse.publisher.sqlalchemy.store import TableStore
from sinapse.testing import capture
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port
from tests.support.daemon import ROOT
from tests.support.listening import Listener, heard
from tests.support.mariadb import MariaDB, running_mariadb
from tests.support.postgres import Postgres, running_postgres
from tests.support.proxy import Proxy, running_proxy
from tests.support.walkthrough import program


class Base(DeclarativeBase):
    pass


class Room(Publishable, Base):
    __tablename__ = "rooms"

    key: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100), unique=True)


#: What goes to a leader: not what is inserted, which is a flush.
WRITING = (Update, Delete)

#: Of which sessions know in the tests of this module only.
MESSAGES = tables.table_of(Base.metadata, tables.NAME, None)


@pytest.fixture(autouse=True)
def _outbox(redis_server: RedisServer) -> Iterator[None]:
    with Publisher(redis_server.url) as publisher:
        former = use(publisher)
        assert outbox(Base.metadata) is MESSAGES
        yield
        use(former)
    tables._outboxes.clear()
    committed.Pause.until = 0.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres("-c", "max_prepared_transactions=5") as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with running_mariadb() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        server.ask("DROP DATABASE IF EXISTS shop")
        server.ask("CREATE DATABASE shop CHARACTER SET latin1")
        return f"mariadb+pymysql://root@127.0.0.1:{server.port}/shop"
    return empty(request.getfixturevalue("postgres"))


def empty(server: Postgres) -> str:
    found = f"postgresql+psycopg://postgres@127.0.0.1:{server.port}/postgres"
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(postgres: Postgres) -> Iterator[Engine]:
    engine = create_engine(empty(postgres))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def real_transactions(engine: Engine) -> None:
    """Let SQLite begin a transaction when SQLAlchemy says so: its driver begins it later."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    engine.dispose()


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Let Redis be away."""
    with Publisher(f"redis://127.0.0.1:{free_port()}") as nobody:
        former = use(nobody)
        yield
        use(former)


def waiting(bind: Engine | Connection, table: Table = MESSAGES) -> list[str]:
    query = select(table.c.message).order_by(table.c.id)
    if isinstance(bind, Connection):
        return list(bind.scalars(query))
    with bind.connect() as connection:
        return list(connection.scalars(query))


def relay(engine: Engine, table: Table = MESSAGES) -> int:
    store = TableStore(engine, table)
    return Relay([store], default).send(store).messages


def data(listener: Listener) -> list[str]:
    return [each for _, each in heard(listener)]


class TestCommit:
    def test_it_is_a_row_of_the_transaction_and_is_sent_after_it(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        seen = []

        def look(session: Session) -> None:
            seen.append(waiting(session.connection()))
            assert heard(listener) == []

        session.add(Room(title="Lobby"))
        publish(session, "news", "first", event="headline", but="mine")
        publish(session, "news", {"n": 2}, retain=60, replay="all")
        event.listen(session, "before_commit", look)
        session.commit()
        assert seen == [["first", '{"n":2}']]
        assert waiting(engine) == []
        assert heard(listener) == [("news", "first"), ("news", '{"n":2}')]
        history = default().history("news").messages
        assert [each.data for each in history] == ["first", '{"n":2}']
        assert history[0].event == "headline"

    def test_all_of_a_message_is_kept(self, engine: Engine, session: Session) -> None:
        session.connection()
        with away():
            publish(
                session,
                "news",
                "Grüße 🙂",
                "greeting",
                retain=1.5,
                message_id="mine",
                replay=3,
                retain_messages=5,
                but="tab",
            )
            session.commit()
        [row] = TableStore(engine, MESSAGES).waiting(10)
        assert row[1:] == ("mine", "news", "Grüße 🙂", "greeting", 1500, 5, "3", "tab")

    def test_without_a_transaction_it_is_sent_at_once(
        self, session: Session, listener: Listener
    ) -> None:
        assert publish(session, "news", "hello") == 1
        assert heard(listener) == [("news", "hello")]

    def test_what_is_rolled_back_was_never_there(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        session.connection()
        publish(session, "news", "not this")
        session.rollback()
        session.connection()
        publish(session, "news", "but this")
        session.commit()
        assert data(listener) == ["but this"]
        assert waiting(engine) == []

    @pytest.mark.parametrize("inner", [True, False])
    @pytest.mark.parametrize("outer", [True, False])
    def test_rows_of_savepoints_that_are_rolled_back_are_never_there(
        self, engine: Engine, session: Session, listener: Listener, inner: bool, outer: bool
    ) -> None:
        session.connection()
        publish(session, "news", "whole")
        first = session.begin_nested()
        publish(session, "news", "outer")
        second = session.begin_nested()
        publish(session, "news", "inner")
        (second.commit if inner else second.rollback)()
        (first.commit if outer else first.rollback)()
        publish(session, "news", "after")
        session.commit()
        kept = ["whole", *(["outer"] if outer else []), *(["inner"] if outer and inner else [])]
        assert data(listener) == [*kept, "after"]
        assert waiting(engine) == []

    @pytest.mark.parametrize("depth", [1, 2])
    def test_savepoints_that_are_left_open_are_committed_with_the_rest(
        self, engine: Engine, session: Session, depth: int
    ) -> None:
        with away():
            with session.begin():
                publish(session, "news", "whole")
                for number in range(depth):
                    session.begin_nested()
                    publish(session, "news", str(number))
            assert waiting(engine) == ["whole", *map(str, range(depth))]
            session.begin()
            publish(session, "news", "again")
            session.begin_nested()
            session.commit()
            assert waiting(engine)[-1] == "again"

    def test_a_commit_that_is_tried_again_has_its_messages(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        session.connection()
        publish(session, "news", "hello")

        @event.listens_for(engine, "before_cursor_execute", once=True)
        def fail(*_: Any) -> None:
            raise OSError("the table is locked")

        with pytest.raises(OSError, match="locked"):
            session.commit()
        session.commit()
        assert data(listener) == ["hello"]

    def test_rows_are_inserted_one_by_one_where_an_engine_is_told_so(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        engine = create_engine(postgres_engine.url, use_insertmanyvalues=False)
        with Session(engine) as session, session.begin():
            session.connection()
            publish(session, "news", "1")
            publish(session, "news", "2")
        engine.dispose()
        assert data(listener) == ["1", "2"]
        assert waiting(postgres_engine) == []

    def test_a_commit_that_fails_leaves_nothing(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        session.add(Room(title="Lobby"))
        session.commit()
        session.add(Room(title="Lobby"))
        publish(session, "news", "not this")
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        session.add(Room(title="Hall"))
        publish(session, "news", "this")
        session.commit()
        assert data(listener) == ["this"]
        assert waiting(engine) == []

    def test_a_session_that_only_read_sends_without_a_row(
        self, engine: Engine, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *values: statements.append(values[2]))
        with Session(engine) as session:
            session.scalars(select(Room)).all()
            publish(session, "news", "hello")
        assert data(listener) == ["hello"]
        assert not [each for each in statements if "INSERT" in each]
        assert caplog.records == []
        with Session(engine) as session:
            session.add(Room(title="Hall"))
            publish(session, "news", "not this")
        assert heard(listener) == []
        assert [each.getMessage() for each in caplog.records] == [
            "1 not published: the session ended without a commit"
        ]

    def test_what_listeners_of_the_commit_publish_is_a_row_as_well(
        self, engine: Engine, session: Session
    ) -> None:
        """Also when it is the flush of the commit that they hear of."""

        more = [Room(title="another")]

        def announce(_mapper: object, _connection: object, room: Room) -> None:
            room.publish(f"made {room.title}")

        def begun(session: Session) -> None:
            assert session.new, "it is not flushed yet"
            publish(session, "news", "begun")

        def flushed(session: Session, _: object) -> None:
            publish(session, "news", "flushed")
            if more:
                session.add(more.pop())

        hooks: list[tuple[Any, str, Callable[..., None]]] = [
            (Room, "after_insert", announce),
            (Session, "before_commit", begun),
            (Session, "after_flush_postexec", flushed),
        ]
        for hook in hooks:
            event.listen(*hook)
        try:
            session.add(Room(title="Lobby"))
            publish(session, "news", "first")
            with away():
                session.commit()
        finally:
            for hook in hooks:
                event.remove(*hook)
        told = ["first", "begun", "made Lobby", "flushed", "made another", "flushed"]
        assert waiting(engine) == told

    def test_what_is_published_in_the_flush_of_a_commit_without_other_messages(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        def announce(_mapper: object, _connection: object, room: Room) -> None:
            room.publish(room.title)

        event.listen(Room, "after_insert", announce)
        try:
            session.add(Room(title="Lobby"))
            with away():
                session.commit()
        finally:
            event.remove(Room, "after_insert", announce)
        assert waiting(engine) == ["Lobby"]
        assert relay(engine) == 1
        assert data(listener) == ["Lobby"]

    def test_what_is_published_when_it_is_committed_follows_without_a_row(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        event.listen(session, "after_commit", lambda it: publish(it, "news", "after"))
        session.add(Room(title="Lobby"))
        publish(session, "news", "before")
        session.commit()
        assert data(listener) == ["before", "after"]
        assert waiting(engine) == []

    def test_a_savepoint_in_a_listener_that_is_rolled_back_sends_nothing(
        self, engine: Engine, session: Session, listener: Listener
    ) -> None:
        def listen(session: Session) -> None:
            with session.begin_nested() as savepoint:
                publish(session, "news", "not this")
                savepoint.rollback()

        session.connection()
        event.listen(session, "before_commit", listen)
        session.commit()
        assert heard(listener) == []
        assert waiting(engine) == []

    def test_two_phases_are_a_transaction_as_well(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        with Session(postgres_engine, twophase=True) as session:
            session.add(Room(title="Lobby"))
            publish(session, "news", "hello")
            session.prepare()
            assert heard(listener) == []
            session.commit()
            assert data(listener) == ["hello"]
            session.add(Room(title="Hall"))
            publish(session, "news", "not this")
            session.prepare()
            session.rollback()
        assert heard(listener) == []
        assert waiting(postgres_engine) == []

    def test_one_statement_has_all_messages(self, engine: Engine, session: Session) -> None:
        session.connection()
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *values: statements.append(values[2]))
        with away():
            for number in range(100):
                publish(session, "news", str(number))
            session.commit()
        assert len([each for each in statements if each.startswith("INSERT")]) == 1
        assert waiting(engine) == list(map(str, range(100)))


class TestDatabase:
    def test_nothing_is_asked_between_commit_and_sending_where_nothing_waits(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        statements: list[str] = []
        with Session(postgres_engine) as session:
            session.connection()
            publish(session, "news", "a")
            publish(session, "other", "b")
            event.listen(
                postgres_engine,
                "before_cursor_execute",
                lambda *values: statements.append(values[2].partition(" ")[0]),
            )
            session.commit()
        assert statements == ["INSERT", "DELETE"]
        assert data(listener) == ["a", "b"]
        assert waiting(postgres_engine) == []

    def test_in_another_isolation_what_waits_is_asked_for_after_the_commit(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        """A transaction that has waited for a lock does not see there what was committed."""
        with Session(postgres_engine) as first, Session(postgres_engine) as second:
            second.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            second.execute(select(func.now()))
            first.connection()
            publish(first, "news", "1")
            with away():
                first.commit()
            publish(second, "news", "2")
            second.commit()
        assert data(listener) == ["1", "2"]

    def test_serializable_transactions_do_not_fail_because_of_it(
        self, postgres_engine: Engine
    ) -> None:
        """They have nothing in common but the table."""
        engine = postgres_engine.execution_options(isolation_level="SERIALIZABLE")
        with Session(engine) as first, Session(engine) as second:
            for number, session in enumerate((first, second)):
                session.add(Room(title=f"Hall {number}"))
                session.flush()
                publish(session, f"news:{number}", "hello")
            # Both rows are there before the first commit ends.
            event.listen(first, "before_commit", lambda _: second.commit())
            first.commit()
        assert waiting(postgres_engine) == []

    def test_the_removal_does_not_wait_for_the_disk(self, postgres_engine: Engine) -> None:
        keep(postgres_engine, "news", "hello")
        store = TableStore(postgres_engine, MESSAGES)
        with store.alone():
            assert store._held is not None
            assert store._held.scalar(text("SHOW synchronous_commit")) == "on"
            store.remove([row.id for row in store.waiting(10)])
            assert store._held.scalar(text("SHOW synchronous_commit")) == "off"
        assert waiting(postgres_engine) == []

    def test_one_relay_works_at_a_time(self, postgres_engine: Engine, listener: Listener) -> None:
        keep(postgres_engine, "news", "hello")
        first, second = (TableStore(postgres_engine, MESSAGES) for _ in range(2))
        with first.alone() as is_alone:
            assert is_alone
            with second.alone() as is_alone_too:
                assert not is_alone_too
            assert relay(postgres_engine) == 0
        assert relay(postgres_engine) == 1
        assert data(listener) == ["hello"]

    def test_a_place_is_never_given_twice(self, engine: Engine) -> None:
        places = []
        for _ in range(3):
            keep(engine, "news", "hello")
            store = TableStore(engine, MESSAGES)
            places += [row.id for row in store.waiting(10)]
            store.remove(places)
        assert len(set(places)) == 3

    def test_tables_of_tenants_are_where_the_session_has_them(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        tenant = {"schema_translate_map": {None: "tenant"}}
        keep(postgres_engine, "other", "of nobody")
        with postgres_engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA tenant"))
            Base.metadata.create_all(connection.execution_options(**tenant))
        with Session(postgres_engine) as session:
            session.connection(execution_options=tenant)
            publish(session, "news", "of the tenant")
            session.commit()
        assert data(listener) == ["of the tenant"]
        assert waiting(postgres_engine.execution_options(**tenant)) == []
        assert waiting(postgres_engine) == ["of nobody"]
        with postgres_engine.begin() as connection:
            connection.execute(text("DROP SCHEMA tenant CASCADE"))


def keep(engine: Engine, channel: str, *messages: str) -> None:
    """Let messages wait."""
    with away(), Session(engine) as session, session.begin():
        for message in messages:
            publish(session, channel, message)


class TestSessions:
    def test_scoped_sessions_are_each_their_own(self, engine: Engine, listener: Listener) -> None:
        scoped = scoped_session(sessionmaker(engine))
        scoped.connection()
        publish(scoped, "news", "mine")

        def other() -> None:
            scoped.connection()
            publish(scoped, "news", "another's")
            scoped.rollback()
            scoped.remove()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        scoped.commit()
        scoped.remove()
        assert data(listener) == ["mine"]
        assert waiting(engine) == []

    @pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only", "conditional_savepoint"])
    def test_in_the_transaction_of_a_test_rows_are_there_and_nowhere_else(
        self, engine: Engine, listener: Listener, mode: Any
    ) -> None:
        if engine.dialect.name == "sqlite":
            real_transactions(engine)
        with engine.connect() as connection:
            transaction = connection.begin()
            with Session(bind=connection, join_transaction_mode=mode) as session:
                session.add(Room(title="Lobby"))
                publish(session, "news", "1")
                with away():
                    session.commit()
                assert waiting(connection) == ["1"]
                session.add(Room(title="Hall"))
                publish(session, "news", "2")
                session.commit()
                assert data(listener) == ["1", "2"]
                assert waiting(connection) == []
                assert len(session.scalars(select(Room)).all()) == 2
            transaction.rollback()
        with Session(engine) as session:
            assert session.scalars(select(Room)).all() == []

    def test_a_session_of_two_databases_has_its_outbox_in_the_one_of_the_table(
        self, engine: Engine, tmp_path: Path, listener: Listener
    ) -> None:
        other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
        Room.metadata.create_all(other, tables=[Base.metadata.tables["rooms"]])
        with Session(binds={Room: other, MESSAGES: engine}) as session:
            session.add(Room(title="Lobby"))
            publish(session, "news", "hello")
            with away():
                session.commit()
        assert waiting(engine) == ["hello"]
        with Session(binds={Room: other}) as session:
            session.add(Room(title="Hall"))
            with pytest.raises(UnboundExecutionError):
                publish(session, "news", "hello")
        other.dispose()

    def test_a_session_that_reads_elsewhere_has_its_outbox_where_it_writes(
        self, engine: Engine, listener: Listener, tmp_path: Path
    ) -> None:
        """As the manual of SQLAlchemy has it for a leader and its followers."""
        follower = create_engine(f"sqlite:///{tmp_path / 'follower.db'}")

        class Routing(Session):
            def get_bind(self, mapper: Any = None, clause: Any = None, **_: Any) -> Engine:
                return engine if self._flushing or isinstance(clause, WRITING) else follower

        with Routing() as session:
            session.add(Room(title="Hall"))
            session.flush()
            publish(session, "news", "hello")
            session.commit()
        assert data(listener) == ["hello"]
        assert waiting(engine) == []

    def test_of_two_outboxes_a_session_says_which(
        self, engine: Engine, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = outbox(MetaData(), "letters")
        other.metadata.create_all(engine)
        with Session(engine) as session:
            session.connection()
            with pytest.raises(
                ValueError,
                match=r"there are 2 outboxes \(letters, sinapse_outbox\), and info\['outbox'\]",
            ):
                publish(session, "news", "hello")
            session.commit()
        with away():
            for table in (MESSAGES, other):
                with sessionmaker(engine, info={"outbox": table}).begin() as session:
                    publish(session, "news", f"in {table.name}")
        assert waiting(engine) == ["in sinapse_outbox"]
        assert waiting(engine, other) == ["in letters"]
        assert caplog.text.count("Messages wait in the outbox: ") == 2
        assert relay(engine, other) == 1
        assert data(listener) == ["in letters"]
        other.drop(engine)

    def test_a_session_may_have_none(self, engine: Engine, listener: Listener) -> None:
        with Session(engine, info={"outbox": None}) as session:
            session.connection()
            publish(session, "news", "lost")
            with away():
                session.commit()
        assert waiting(engine) == []

    def test_another_table_is_no_outbox(self, engine: Engine) -> None:
        with Session(engine, info={"outbox": Room.__table__}) as session:
            session.connection()
            with pytest.raises(ValueError, match="must be what outbox\\(\\) returns, or None"):
                publish(session, "news", "hello")

    def test_a_test_captures_messages(self, engine: Engine, session: Session) -> None:
        with capture() as messages:
            session.add(Room(title="Lobby"))
            publish(session, "news", "hello")
            assert list(messages) == []
            session.commit()
            assert [each.data for each in messages] == ["hello"]
        assert waiting(engine) == []


class TestTable:
    def test_it_is_the_same_in_the_same_metadata(self) -> None:
        metadata = MetaData(schema="push")
        table = outbox(metadata)
        assert table.fullname == "push.sinapse_outbox"
        assert outbox(metadata) is table
        assert outbox(metadata, schema="other").fullname == "other.sinapse_outbox"
        assert outbox(metadata, "letters") is not table

    def test_what_alembic_makes_of_it_is_all_of_it(self, url: str) -> None:
        engine = create_engine(url)
        metadata = MetaData()
        tables.table_of(metadata, tables.NAME, None)
        with engine.begin() as connection:
            context = MigrationContext.configure(connection)
            script = produce_migrations(context, metadata)
            assert script.upgrade_ops is not None
            operations = Operations(context)
            for operation in script.upgrade_ops.ops:
                for each in getattr(operation, "ops", [operation]):
                    operations.invoke(each)
            assert compare_metadata(context, metadata) == []
        engine.dispose()

    def test_the_migration_of_the_page_makes_all_of_it(self, url: str) -> None:
        page = program("howto-flask.md", "Commit is delivery: the outbox")
        shown: dict[str, Any] = {"sa": sqlalchemy}
        exec(page[page.index("from sqlalchemy.dialects") :], shown)
        engine = create_engine(url)
        metadata = MetaData()
        tables.table_of(metadata, tables.NAME, None)
        with engine.begin() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            with Operations.context(context) as shown["op"]:
                shown["upgrade"]()
                assert compare_metadata(context, metadata) == []
                store = TableStore(connection, MESSAGES)
                assert store.waiting(1) == []
                shown["downgrade"]()
                assert compare_metadata(context, MetaData()) == []
        engine.dispose()


class TestFailures:
    def test_what_redis_does_not_take_waits_and_comes_before_what_follows(
        self,
        engine: Engine,
        session: Session,
        listener: Listener,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        session.connection()
        with away():
            publish(session, "news", "1")
            publish(session, "other", "1")
            session.commit()
        assert waiting(engine) == ["1", "1"]
        [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert record.getMessage().startswith("Messages wait in the outbox: ")
        session.connection()
        publish(session, "news", "2")
        session.commit()
        assert heard(listener) == [("news", "1"), ("news", "2")]
        assert relay(engine) == 1
        assert heard(listener) == [("other", "1")]
        assert waiting(engine) == []

    def test_redis_that_keeps_waiting_is_left_to_the_relay(
        self, engine: Engine, session: Session, proxy: Proxy
    ) -> None:
        committed.Pause.until = float("inf")
        session.connection()
        publish(session, "news", "hello")
        session.commit()
        assert waiting(engine) == ["hello"]

    def test_a_lost_answer_does_not_send_it_twice(
        self, engine: Engine, session: Session, listener: Listener, proxy: Proxy
    ) -> None:
        with Publisher(proxy.url, timeout=0.2) as publisher:
            former = use(publisher)
            publisher.publish("news", "warm")
            proxy.down = lambda _link, _data: b""  # Redis hears it; what it says is lost.
            session.connection()
            publish(session, "news", "once")
            session.commit()
            use(former)
        assert waiting(engine) == ["once"]
        assert relay(engine) == 1
        assert data(listener) == ["warm", "once"]
        assert waiting(engine) == []

    def test_one_that_can_never_be_sent_is_set_aside_and_holds_nobody_up(
        self,
        engine: Engine,
        redis_server: RedisServer,
        listener: Listener,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        keep(engine, "news", "x" * 2000, "short")
        store = TableStore(engine, MESSAGES)
        with Publisher(redis_server.url, max_message=1000) as publisher:
            relay = Relay([store], lambda: publisher)
            assert relay.send(store).messages == 1
            assert relay.send(store).messages == 0
            told = values(metrics.text(relay, [store]), store.name)
        assert data(listener) == ["short"]
        assert "is set aside: the message is over 1000 bytes" in caplog.text
        assert told == {
            "sinapse_outbox_waiting": 0,
            "sinapse_outbox_oldest_seconds": 0,
            "sinapse_outbox_set_aside": 1,
            "sinapse_outbox_sent_total": 1,
            "sinapse_outbox_set_aside_total": 1,
        }

    def test_a_channel_whose_key_is_not_ours_waits_alone(
        self, engine: Engine, session: Session, listener: Listener, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retained:news", "not ours")
        session.connection()
        for number in range(3):
            publish(session, "news", str(number))
            publish(session, "other", str(number))
        session.commit()
        assert heard(listener) == [("other", "0"), ("other", "1"), ("other", "2")]
        assert waiting(engine) == ["0", "1", "2"]
        redis_client.delete("sinapse:retained:news")
        assert relay(engine) == 3
        assert heard(listener) == [("news", "0"), ("news", "1"), ("news", "2")]

    def test_a_database_that_is_gone_after_the_commit_undoes_nothing(
        self,
        engine: Engine,
        session: Session,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def refuse(_: TableStore) -> None:
            raise OSError("refused\nfor a reason")

        session.add(Room(title="Lobby"))
        publish(session, "news", "hello")
        with monkeypatch.context() as patches:
            patches.setattr(TableStore, "_connection", refuse)
            session.commit()
        assert [each.getMessage() for each in caplog.records] == [
            "Messages wait in the outbox: refused"
        ]
        assert waiting(engine) == ["hello"]


class TestRelay:
    def test_it_sends_a_backlog_in_order(self, engine: Engine, listener: Listener) -> None:
        with away(), Session(engine) as session, session.begin():
            for number in range(2500):
                publish(session, f"room:{number % 7}", str(number))
        assert relay(engine) == 2500
        assert [int(each) for each in data(listener)] == list(range(2500))
        assert waiting(engine) == []

    def test_it_ends_in_the_midst_of_a_backlog(self, engine: Engine, listener: Listener) -> None:
        keep(engine, "news", *map(str, range(2500)))
        store = TableStore(engine, MESSAGES)
        looks: list[int] = []

        def is_over() -> bool:
            looks.append(len(waiting(engine)))
            return looks[-1] < 2500

        Relay([store], default).run(is_over)
        assert len(data(listener)) == 1000
        assert len(waiting(engine)) == 1500

    def test_many_of_a_channel_that_redis_refuses_keep_nobody_waiting(
        self, engine: Engine, listener: Listener, redis_client: redis.Redis
    ) -> None:
        keep(engine, "news", *map(str, range(1200)))
        keep(engine, "other", "follows them")
        redis_client.set("sinapse:retained:news", "not ours")
        assert relay(engine) == 1
        assert data(listener) == ["follows them"]
        assert len(waiting(engine)) == 1200

    def test_it_says_for_how_long_the_oldest_waits(self, engine: Engine) -> None:
        store = TableStore(engine, MESSAGES)
        assert store.statistics() == (0, 0, 0)
        keep(engine, "news", "hello")
        with engine.begin() as connection:
            created = datetime.now(UTC) - timedelta(seconds=100)
            connection.execute(update(MESSAGES).values(created=created))
        found = store.statistics()
        assert (found.waiting, found.set_aside) == (1, 0)
        assert 100 <= found.oldest < 200

    def test_it_is_woken_by_a_commit_in_any_of_its_databases(
        self,
        postgres_engine: Engine,
        monkeypatch: pytest.MonkeyPatch,
        listener: Listener,
    ) -> None:
        monkeypatch.setattr(relays, "INTERVAL", EVENT_TIMEOUT * 10)
        with postgres_engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("CREATE DATABASE other"))
        other = create_engine(postgres_engine.url.set(database="other"))
        Base.metadata.create_all(other)
        stores = [TableStore(each, MESSAGES) for each in (postgres_engine, other)]
        over = threading.Event()
        publisher = default()
        relay = threading.Thread(target=Relay(stores, lambda: publisher).run, args=(over.is_set,))
        relay.start()
        try:
            for number, engine in enumerate((postgres_engine, other, postgres_engine, other)):
                eventually(partial(is_listened_to, engine))
                keep(engine, "news", str(number))
                eventually(partial(has_come, listener, str(number)))
        finally:
            over.set()
            for engine in (postgres_engine, other):
                keep(engine, "news", "the end")
            relay.join()
            other.dispose()

    def test_a_database_that_was_away_is_listened_to_again(
        self, postgres_engine: Engine, listener: Listener
    ) -> None:
        store = TableStore(postgres_engine, MESSAGES)
        over = threading.Event()
        publisher = default()
        relay = threading.Thread(target=Relay([store], lambda: publisher).run, args=(over.is_set,))
        relay.start()
        try:
            eventually(lambda: is_listened_to(postgres_engine))
            with postgres_engine.connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE query LIKE 'LISTEN %'"
                    )
                )
            eventually(lambda: is_listened_to(postgres_engine))
            keep(postgres_engine, "news", "hello")
            eventually(partial(has_come, listener, "hello"))
        finally:
            over.set()
            keep(postgres_engine, "news", "the end")
            relay.join()


def test_a_second_signal_ends_a_relay_whose_database_does_not_answer(
    postgres: Postgres, postgres_engine: Engine, redis_server: RedisServer
) -> None:
    with running_proxy(postgres.port) as way:
        url = f"postgresql+psycopg://postgres@127.0.0.1:{way.port}/postgres"
        arguments = ["relay", "--database", url, "--redis", redis_server.url]
        process = subprocess.Popen([PYTHON, "-m", "sinapse", *arguments], cwd=ROOT)
        try:
            eventually(partial(is_listened_to, postgres_engine))
            way.stall()
            keep(postgres_engine, "news", "hello")  # So that it looks.
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3 * relays.INTERVAL)
            process.send_signal(signal.SIGTERM)
            assert process.wait(EVENT_TIMEOUT) == -signal.SIGTERM
        finally:
            end(process)


def has_come(listener: Listener, message: str) -> bool:
    return message in data(listener)


def is_listened_to(engine: Engine) -> bool:
    """Whether a relay listens in a database."""
    query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = "
    with engine.connect() as connection:
        return connection.scalar(text(f"{query} current_database()")) is not None


def values(text: str, outbox: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels == {"outbox": outbox}
            found[sample.name] = sample.value
    return found


def test_the_page_of_fastapi_is_true(tmp_path: Path, listener: Listener) -> None:
    class Shop(DeclarativeBase):
        pass

    class Order(Shop):
        __tablename__ = "orders"
        key: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[str] = mapped_column(String(20))

    url = f"sqlite:///{tmp_path / 'shop.db'}"
    app = FastAPI()
    names: dict[str, Any] = {
        "Base": Shop,
        "Order": Order,
        "app": app,
        "AsyncSession": AsyncSession,
        "engine": create_async_engine(url.replace("sqlite", "sqlite+aiosqlite")),
    }
    tables._outboxes.clear()  # That of this module.
    exec(program("howto-fastapi.md", "Commit is delivery: the outbox"), names)
    engine = create_engine(url)
    Shop.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Order(key=1, status="paid"))
        session.commit()

    async def ship() -> int:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
            answer = await client.post("/orders/1/ship")
        await names["engine"].dispose()
        return answer.status_code

    assert asyncio.run(ship()) == 200
    assert heard(listener) == [("order:1", '{"status":"shipped"}')]
    with away():
        assert asyncio.run(ship()) == 200
    assert heard(listener) == []
    assert relay(engine, names["messages"]) == 1
    assert heard(listener) == [("order:1", '{"status":"shipped"}')]
    engine.dispose()


class TestAsync:
    @pytest.fixture(params=["sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        driver: str = request.param
        if driver.startswith("sqlite"):
            url = f"sqlite:///{tmp_path / 'test.db'}"
        else:
            url = empty(request.getfixturevalue("postgres"))
        return driver + url[url.index(":") :]

    def run(self, url: str, work: Callable[[AsyncSession, AsyncEngine], Any]) -> None:
        async def main() -> None:
            engine = create_async_engine(url)
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            try:
                async with AsyncSession(engine) as session:
                    await work(session, engine)
            finally:
                await engine.dispose()

        asyncio.run(main())

    def test_it_is_the_same_with_an_asynchronous_session(
        self, url: str, listener: Listener
    ) -> None:
        async def work(session: AsyncSession, engine: AsyncEngine) -> None:
            async def rows() -> list[str]:
                async with engine.connect() as connection:
                    return list(await connection.scalars(select(MESSAGES.c.message)))

            room = Room(title="Lobby")
            session.add(room)
            await session.flush()
            room.publish("1")
            async with session.begin_nested() as savepoint:
                publish(session, "news", "not this")
                await savepoint.rollback()
            with away():
                await session.commit()
            assert await rows() == ["1"]
            await session.refresh(room)
            room.publish("2")
            await session.commit()
            await session.refresh(room)
            room.publish("nor this")
            await session.rollback()
            assert await rows() == []

        self.run(url, work)
        assert data(listener) == ["1", "2"]

    def test_the_event_loop_goes_on_while_it_is_sent(
        self,
        url: str,
        redis_server: RedisServer,
        redis_client: redis.Redis,
        listener: Listener,
    ) -> None:
        async def work(session: AsyncSession, _: AsyncEngine) -> None:
            await session.connection()
            publish(session, "news", "hello", retain=0)
            redis_client.client_pause(60_000, all=False)
            commit = asyncio.create_task(session.commit())
            for _step in range(3):
                await asyncio.sleep(0.05)
            assert not commit.done()
            redis_client.client_unpause()
            await commit

        with Publisher(redis_server.url, timeout=EVENT_TIMEOUT) as patient:
            former = use(patient)
            try:
                self.run(url, work)
            finally:
                redis_client.client_unpause()
                use(former)
        assert data(listener) == ["hello"]
