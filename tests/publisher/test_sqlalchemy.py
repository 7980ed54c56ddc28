"""Messages that wait for the commit of a session: transactions, savepoints, asynchronous ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sinapse.errors import BrokerUnavailable, InvalidMessage, InvalidSubject
from sinapse.publisher import Publisher, use
from sinapse.publisher.sqlalchemy import Group, Publishable, Subject, publish
from tests.support import EVENT_TIMEOUT, RedisServer, free_port, running_redis
from tests.support.listening import Listener, heard
from tests.support.proxy import running_proxy


class Base(DeclarativeBase):
    pass


class Room(Publishable, Base):
    __tablename__ = "rooms"

    key: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)


class Crew(Group, Publishable, Subject, Base):
    __tablename__ = "crews"

    key: Mapped[int] = mapped_column(primary_key=True)


class Seat(Publishable, Subject, MappedAsDataclass, Base):
    __tablename__ = "seats"

    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
def _publisher(redis_server: RedisServer) -> Iterator[None]:
    with Publisher(redis_server.url) as publisher:
        former = use(publisher)
        yield
        use(former)


def database(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = database(tmp_path / "test.db")
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


@pytest.fixture
def room(session: Session) -> Room:
    room = Room(title="Lobby")
    session.add(room)
    session.commit()
    return room


def data(listener: Listener) -> list[str]:
    return [each for _, each in heard(listener)]


class TestCommit:
    def test_it_is_sent_after_the_commit(
        self, session: Session, room: Room, listener: Listener
    ) -> None:
        session.refresh(room)  # Begins a transaction.
        assert room.publish({"n": 1}) is None
        assert publish(session, "news", "2") is None
        assert heard(listener) == []
        session.commit()
        assert heard(listener) == [(f"room:{room.key}", '{"n":1}'), ("news", "2")]
        session.commit()
        assert heard(listener) == []

    def test_what_new_streams_get_is_said_when_it_is_sent(
        self, session: Session, room: Room, redis_client: redis.Redis
    ) -> None:
        session.refresh(room)
        channel = room.sinapse_channel
        room.publish("a", replay="all", retain_messages=5)
        publish(session, "news", "b", replay=1)
        with pytest.raises(ValueError, match="this one is not"):
            publish(session, "news", "c", retain=0, replay=1)
        assert not redis_client.exists("sinapse:replay")
        session.commit()
        noted = redis_client.hgetall("sinapse:replay")
        assert noted == {channel.encode(): b"all", b"news": b"1"}
        published = room.publish("d", after_commit=False)
        assert published is not None
        assert published.id

    def test_what_is_rolled_back_is_never_heard_of(
        self, session: Session, room: Room, listener: Listener
    ) -> None:
        session.refresh(room)
        room.publish("not this")
        session.rollback()
        session.refresh(room)
        room.publish("but this")
        session.commit()
        assert data(listener) == ["but this"]

    def test_what_is_closed_without_a_commit_is_not_either(
        self,
        session: Session,
        room: Room,
        listener: Listener,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for write in (
            lambda: setattr(room, "title", "changed"),
            lambda: session.add(Room(title="another")),
            lambda: session.delete(room),
            lambda: session.execute(update(Room).values(title="changed")),
            lambda: session.execute(text("UPDATE rooms SET title = 'changed'")),
            lambda: session.connection().execute(update(Room).values(title="changed")),
            lambda: session.bulk_insert_mappings(inspect(Room), [{"title": "another"}]),
        ):
            session.refresh(room)
            write()
            publish(session, room, "not this")
            session.close()
            session.add(room)
            session.commit()
            assert heard(listener) == []
            [record] = caplog.records
            assert record.getMessage() == "1 not published: the session ended without a commit"
            caplog.clear()

    def test_what_is_changed_afterwards_and_closed_without_a_commit_is_not_either(
        self, session: Session, room: Room, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        session.refresh(room)
        room.publish("not this")
        room.title = "changed"
        session.close()
        assert heard(listener) == []
        [record] = caplog.records
        assert record.getMessage() == "1 not published: the session ended without a commit"
        session.add(room)
        session.commit()

    def test_a_transaction_that_only_read_has_nothing_to_commit(
        self, engine: Engine, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Session(engine) as session:
            room = Room(title="Lobby")
            session.add(room)
            session.commit()
            session.refresh(room)
            room.publish("after a refresh")
        with Session(engine) as session:
            room = session.scalars(select(Room)).one()
            session.execute(text(" select 1"))
            room.publish("after a query")
            session.rollback()
            assert room.title == "Lobby"
            room.publish("after another")
        assert data(listener) == ["after a refresh", "after another"]
        assert caplog.records == []

    @pytest.mark.parametrize("of", ["all", "a maker", "one"])
    def test_what_is_published_while_a_commit_is_told_is_committed(
        self, engine: Engine, listener: Listener, of: str
    ) -> None:
        maker = sessionmaker(engine)
        with maker() as session:
            target = {"all": Session, "a maker": maker, "one": session}[of]

            def hook(session: Session) -> None:
                publish(session, "news", "committed")

            event.listen(target, "after_commit", hook)
            try:
                for _ in range(3):
                    session.execute(text("select 1"))
                    session.commit()
                    assert data(listener) == ["committed"]
            finally:
                event.remove(target, "after_commit", hook)

    def test_a_commit_that_fails_sends_nothing(
        self, session: Session, room: Room, listener: Listener
    ) -> None:
        session.add(Room(title=room.title))
        publish(session, "news", "not this")
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        publish(session, "news", "this", retain=0)
        session.commit()
        assert data(listener) == ["this"]

    def test_without_a_transaction_it_is_sent_at_once(
        self, engine: Engine, room: Room, session: Session, listener: Listener
    ) -> None:
        assert publish(session, "news", "now") == 1  # The listener.
        session.refresh(room)
        session.expunge(room)
        assert room.publish("of no session") == 1
        session.add(room)
        assert room.publish("asked for", after_commit=False) == 1
        assert data(listener) == ["now", "of no session", "asked for"]

    def test_the_block_of_a_sessionmaker_does_the_same(
        self, engine: Engine, listener: Listener
    ) -> None:
        with sessionmaker(engine).begin() as session:
            room = Room(title="Hall")
            session.add(room)
            session.flush()
            room.publish("made")
            assert heard(listener) == []
        assert data(listener) == ["made"]

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

    def test_the_database_has_its_connection_back_by_then(
        self, engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = 0

        @event.listens_for(engine, "checkout")
        def _(*_: object) -> None:
            nonlocal out
            out += 1

        @event.listens_for(engine, "checkin")
        def _(*_: object) -> None:
            nonlocal out
            out -= 1

        seen = []
        monkeypatch.setattr(Publisher, "publish_many", lambda *_: seen.append(out))
        session.connection()
        publish(session, "news", "hello")
        assert out == 1
        session.commit()
        assert seen == [0]


class TestSavepoints:
    def test_one_that_is_rolled_back_takes_its_messages_with_it(
        self, session: Session, listener: Listener
    ) -> None:
        session.connection()
        publish(session, "news", "1")
        with session.begin_nested() as savepoint:
            publish(session, "news", "not this")
            savepoint.rollback()
        publish(session, "news", "2")
        session.commit()
        assert data(listener) == ["1", "2"]

    def test_one_that_is_released_waits_for_the_rest(
        self, session: Session, listener: Listener
    ) -> None:
        with session.begin_nested():
            publish(session, "news", "1")
            with session.begin_nested():
                publish(session, "news", "2")
        publish(session, "news", "3")
        assert heard(listener) == []
        session.commit()
        assert data(listener) == ["1", "2", "3"]

    @pytest.mark.parametrize("inner", [True, False])
    @pytest.mark.parametrize("outer", [True, False])
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_message_needs_all_around_it_to_be_committed(
        self, session: Session, listener: Listener, inner: bool, outer: bool, whole: bool
    ) -> None:
        session.connection()
        publish(session, "news", "whole")
        first = session.begin_nested()
        publish(session, "news", "outer")
        second = session.begin_nested()
        publish(session, "news", "inner")
        (second.commit if inner else second.rollback)()
        (first.commit if outer else first.rollback)()
        (session.commit if whole else session.rollback)()
        expected = [
            name
            for name, kept in [
                ("whole", whole),
                ("outer", whole and outer),
                ("inner", whole and outer and inner),
            ]
            if kept
        ]
        assert data(listener) == expected

    def test_a_failed_flush_takes_the_savepoint(
        self, session: Session, room: Room, listener: Listener
    ) -> None:
        session.refresh(room)
        publish(session, "news", "kept")
        savepoint = session.begin_nested()
        publish(session, "news", "not this")
        session.add(Room(title=room.title))
        with pytest.raises(IntegrityError):
            session.flush()
        savepoint.rollback()
        session.commit()
        assert data(listener) == ["kept"]

    def test_what_is_published_in_a_flush_is_of_the_transaction(
        self, session: Session, listener: Listener
    ) -> None:
        @event.listens_for(Room, "after_insert")
        def announce(mapper: object, connection: object, room: Room) -> None:
            room.publish(room.title)

        try:
            session.add(Room(title="Hall"))
            session.flush()
            assert heard(listener) == []
            session.commit()
        finally:
            event.remove(Room, "after_insert", announce)
        assert data(listener) == ["Hall"]


class TestAsync:
    def run(self, path: Path, listener: Listener) -> list[list[str]]:
        """Commit, roll back and commit again; return what is heard of each."""

        async def main() -> list[list[str]]:
            engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
            steps = []
            async with async_sessionmaker(engine)() as session:
                room = Room(title="Hall")
                session.add(room)
                await session.flush()
                room.publish("1")
                steps.append(data(listener))
                await session.commit()
                steps.append(data(listener))
                await session.refresh(room)
                room.publish("not this")
                await session.rollback()
                await session.refresh(room)
                async with session.begin_nested():
                    publish(session, "news", "2")
                await session.commit()
                steps.append(data(listener))
            await engine.dispose()
            return steps

        return asyncio.run(main())

    def test_it_is_sent_after_the_commit_too(self, tmp_path: Path, listener: Listener) -> None:
        database(tmp_path / "test.db").dispose()
        assert self.run(tmp_path / "test.db", listener) == [[], ["1"], ["2"]]

    def test_the_event_loop_goes_on_while_it_is_sent(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        redis_client: redis.Redis,
        listener: Listener,
    ) -> None:
        database(tmp_path / "test.db").dispose()

        async def main() -> None:
            engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
            async with async_sessionmaker(engine)() as session:
                await session.connection()
                publish(session, "news", "hello", retain=0)
                redis_client.client_pause(60_000, all=False)
                commit = asyncio.create_task(session.commit())
                for _ in range(3):
                    await asyncio.sleep(0.05)
                assert not commit.done()
                redis_client.client_unpause()
                await commit
            await engine.dispose()

        with Publisher(redis_server.url, timeout=EVENT_TIMEOUT) as patient:
            use(patient)
            try:
                asyncio.run(main())
            finally:
                redis_client.client_unpause()
        assert data(listener) == ["hello"]


class TestNames:
    def test_a_model_may_be_a_group_and_all_else(self, session: Session, room: Room) -> None:
        crew, seat = Crew(), Seat("a", "1")
        with pytest.raises(InvalidSubject):
            crew.sinapse_members.list()
        session.add(crew)
        session.commit()
        assert crew.sinapse_group == crew.sinapse_channel == f"crew:{crew.key}"
        assert crew.sinapse_channels.add(room) is True
        assert crew.sinapse_members.add(crew) is True
        assert crew.sinapse.groups == {f"crew:{crew.key}"}
        assert crew.sinapse_members.remove(seat) is False

    def test_the_id_is_the_primary_key(self, session: Session, room: Room) -> None:
        assert room.sinapse_channel == f"room:{room.key}"
        with pytest.raises(InvalidSubject, match="flush the session first"):
            Room(title="Hall").publish("hello")

    def test_no_query_is_made_for_it(self, session: Session, room: Room) -> None:
        key = room.key
        session.commit()  # Everything is expired.
        queries: list[object] = []
        event.listen(session, "do_orm_execute", queries.append)
        assert room.sinapse_channel == f"room:{key}"
        assert queries == []

    def test_the_parts_of_a_composite_key_cannot_be_confused(self) -> None:
        first, second = Seat(row="a,b", number="c"), Seat(row="a", number="b,c")
        assert first.sinapse_channel == "seat:a%2Cb,c"
        assert second.sinapse_channel == "seat:a,b%2Cc"
        assert first.sinapse.add_channel(second)
        assert first.sinapse.channels == {"seat:a,b%2Cc"}


class TestFailures:
    def test_what_cannot_be_published_is_told_at_once(self, session: Session) -> None:
        session.connection()
        with pytest.raises(InvalidMessage):
            publish(session, "news", object())
        with pytest.raises(ValueError, match="retain"):
            publish(session, "news", "hello", retain=-1)

    def test_redis_that_is_away_undoes_nothing(
        self, session: Session, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        use(Publisher(f"redis://127.0.0.1:{free_port()}"))
        room.title = "saved"
        publish(session, "news", "1")
        publish(session, "news", "2")
        session.commit()
        assert room.title == "saved"
        session.commit()
        [record] = caplog.records
        assert record.getMessage().startswith("Not published: 2 of 2 failed: Redis")
        with pytest.raises(BrokerUnavailable):
            publish(session, "news", "3")

    def test_redis_that_hangs_is_waited_for_once(
        self, session: Session, room: Room, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_redis(tmp_path) as server, running_proxy(server.port) as proxy:
            use(Publisher(proxy.url, timeout=0.2))
            publish(session, "news", "before")
            proxy.stall()
            room.title = "saved"
            for number in range(10):
                room.publish(number)
            session.commit()
            asked = proxy.connections
        assert asked == 1  # One that got no answer is closed.
        [record] = caplog.records
        assert record.getMessage().startswith("Not published: 10 of 10 failed: Redis")
