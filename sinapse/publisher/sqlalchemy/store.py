"""What is in an outbox: its statements, for the process that has committed and for a relay."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, cast

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Delete,
    Engine,
    NullPool,
    Table,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from sinapse.publisher.outbox import notices
from sinapse.publisher.outbox.notices import Notices
from sinapse.publisher.outbox.rows import MAX_REASON, Row
from sinapse.publisher.outbox.store import LOCK, Statistics, Store

#: In a statement that has it, the transaction sees what others had committed when that began.
_SEES_OTHERS: ColumnElement[bool] = literal_column(
    "current_setting('transaction_isolation') = 'read committed'"
)

#: In the info of a table: its statements, by their names.
_STATEMENTS = "sinapse"

#: Wakes relays at the commit; of the same, PostgreSQL keeps one for a transaction.
_NOTICE: ColumnElement[str] = literal_column(f"pg_notify('{LOCK}', '')")


def writing(table: Table) -> Delete:
    """Return what a session is asked with for the database where it writes that table.

    One that reads elsewhere goes by the kind of a statement; for the insertions of a flush it has a
    sign of its own.
    """
    return delete(table)


def insert(
    connection: Connection, table: Table, rows: Sequence[Row], *, notify: bool
) -> Sequence[Row] | None:
    """Insert rows, whatever their ids are.

    Returns them with the ids that they have, if it is known that no others wait for their channels.
    With `notify`, relays are woken at the commit where the database can do that.
    """
    created = datetime.now(UTC)
    values = []
    for row in rows:
        value = {**row._asdict(), "created": created, "refused": ""}
        del value["id"]
        values.append(value)
    # An application may have told its engine to use no such statements.
    can_return = connection.dialect.insert_executemany_returning_sort_by_parameter_order
    if not (_is_postgresql(connection) and can_return):
        connection.execute(insert_into(table), values)
        return None
    found = connection.execute(_returning(table, notify=notify), values).all()
    if any(is_behind for _, is_behind, *_ in found):
        return None
    return [row._replace(id=place) for row, (place, *_) in zip(rows, found, strict=True)]


def _returning(table: Table, *, notify: bool) -> Any:
    """Return the statement that inserts rows in PostgreSQL, and whether others wait."""
    made = _made(table)
    name = "insert and notify" if notify else "insert"
    if name in made:
        return made[name]
    others = table.alias()
    # It sees what was there before. Where it would not see others it does not look: of two that are
    # serializable, and have looked at what the other one inserts, PostgreSQL lets one fail.
    waits = exists().where(others.c.channel == table.c.channel, others.c.refused == "")
    returned: list[ColumnElement[Any]] = [table.c.id, or_(~_SEES_OTHERS, waits.correlate(table))]
    if notify:
        returned.append(_NOTICE)
    made[name] = insert_into(table).returning(*returned, sort_by_parameter_order=True)
    return made[name]


def _removing(table: Table, *, at_once: bool) -> Any:
    """Return the statement that removes rows; with `at_once`, PostgreSQL waits for no disk."""
    made = _made(table)
    name = "remove at once" if at_once else "remove"
    if name in made:
        return made[name]
    statement = delete(table).where(table.c.id.in_(bindparam("sent", expanding=True)))
    if at_once:
        # A row that comes back after a crash is sent again, and Redis knows its message id. In one
        # statement, so that it is one round trip.
        setting = select(func.set_config("synchronous_commit", "off", True))
        statement = statement.where(setting.scalar_subquery() == "off")
    made[name] = statement
    return statement


def _made(table: Table) -> dict[str, Any]:
    """Return the statements that a table keeps: to make one takes longer than to execute it."""
    found: dict[str, Any] = table.info.setdefault(_STATEMENTS, {})
    return found


class TableStore(Store):
    """The outbox `table`, in the database of an engine, or in that of a connection.

    The connection is that of a session which is bound to it. It may be in a transaction, which may
    be that of a test and never end: so what is sent is removed in it.
    """

    def __init__(self, bind: Engine | Connection, table: Table) -> None:
        self.name: str = _name(bind.engine.url)
        self.table = table
        self._bind = bind
        self._held: Connection | None = None
        self._listening: Connection | None = None

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other relays from the work; where there is no lock for it, they do it as well."""
        bind = cast(Engine, self._bind)
        name = f"{bind.url.database} {self.table.fullname}"
        digest = blake2b(name.encode(), digest_size=8).digest()
        if _is_postgresql(bind):
            # Of the transaction: a pool of connections may stand between.
            number = int.from_bytes(digest, "big", signed=True)
            with bind.begin() as self._held, self._holding():
                yield bool(self._held.scalar(select(func.pg_try_advisory_xact_lock(number))))
        elif _is_mysql(bind):
            lock = f"{LOCK} {digest.hex()}"
            with bind.connect() as self._held, self._holding():
                is_alone = bool(self._held.scalar(select(func.get_lock(lock, 0))))
                self._held.commit()
                try:
                    yield is_alone
                finally:
                    if is_alone:
                        self._held.scalar(select(func.release_lock(lock)))
        else:
            yield True

    @contextmanager
    def _holding(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._held = None

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Return one, in a transaction that ends with the block."""
        given = self._bind if isinstance(self._bind, Connection) else self._held
        if self._held is not None and self._held.in_transaction():
            yield self._held
        elif given is not None:
            with given.begin_nested() if given.in_transaction() else given.begin():
                yield given
        elif _is_postgresql(self._bind):
            # Each statement is one: that saves two round trips.
            with cast(Engine, self._bind).connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
        else:
            with cast(Engine, self._bind).begin() as connection:
                yield connection

    def waiting(
        self, count: int, but: Collection[str] = (), *, only: Collection[str] = ()
    ) -> Sequence[Row]:
        """Return the first rows, without those of some channels, or only those of some."""
        columns = self.table.c
        query = select(*(columns[name] for name in Row._fields)).where(columns.refused == "")
        if but:
            query = query.where(columns.channel.not_in(but))
        if only:
            query = query.where(columns.channel.in_(only))
        with self._connection() as connection:
            found = connection.execute(query.order_by(columns.id).limit(count))
            return [Row(*values) for values in found]

    def remove(self, ids: Sequence[int]) -> None:
        """Remove rows that have been sent."""
        place = self.table.c.id
        if _is_mysql(self._bind):
            # Asked for several, it looks through a small table, and waits for whoever has inserted
            # a row meanwhile.
            with self._connection() as connection:
                each = delete(self.table).where(place == bindparam("sent"))
                connection.execute(each, [{"sent": one} for one in ids])
            return
        # The transaction of a connection is not ours.
        is_ours = _is_postgresql(self._bind) and isinstance(self._bind, Engine)
        with self._connection() as connection:
            connection.execute(_removing(self.table, at_once=is_ours), {"sent": ids})

    def set_aside(self, refused: Mapping[int, str]) -> None:
        """Note that rows can never be sent, and why."""
        with self._connection() as connection:
            for place, reason in refused.items():
                statement = update(self.table).where(self.table.c.id == place)
                connection.execute(statement.values(refused=reason[:MAX_REASON]))

    def statistics(self) -> Statistics:
        """Return what is there; also in another thread than the rest."""
        bind = cast(Engine, self._bind)
        if bind.dialect.is_async and not in_greenlet():
            # Its connections belong to the event loop of their thread.
            return asyncio.run(self._statistics_of_its_own(bind.url))
        return self._statistics(bind)

    async def _statistics_of_its_own(self, url: URL) -> Statistics:
        engine = create_async_engine(url, poolclass=NullPool).sync_engine
        return await greenlet_spawn(self._statistics, engine)

    def _statistics(self, engine: Engine) -> Statistics:
        columns = self.table.c
        is_waiting = columns.refused == ""
        query = select(
            func.count(case((is_waiting, 1))),
            func.min(case((is_waiting, columns.created))),
            func.count(case((~is_waiting, 1))),
        )
        with engine.connect() as connection:
            waiting, oldest, set_aside = connection.execute(query).one()
        age = 0.0
        if oldest is not None:
            # Some databases have no time zones: it was put there as UTC.
            oldest = oldest if oldest.tzinfo else oldest.replace(tzinfo=UTC)
            age = max(0.0, (datetime.now(UTC) - oldest).total_seconds())
        return Statistics(waiting, age, set_aside)

    def notices(self) -> Notices | None:
        """Return what PostgreSQL tells: only psycopg 3 can be asked for that."""
        bind = cast(Engine, self._bind)
        if not _is_postgresql(bind) or bind.dialect.driver != "psycopg" or bind.dialect.is_async:
            return None
        if self._listening is None:
            self._listening = bind.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._listening.exec_driver_sql(f"LISTEN {LOCK}")
        return notices.of(self._listening.connection.driver_connection)

    def close(self) -> None:
        """Give up what it listens with; it is opened again when it listens again."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.invalidate()  # It would go on to listen.
            listening.close()


def _is_postgresql(bind: Engine | Connection) -> bool:
    return bind.dialect.name == "postgresql"


def _is_mysql(bind: Engine | Connection) -> bool:
    return bind.dialect.name in ("mysql", "mariadb")


def _name(url: URL) -> str:
    """Return what logs and metrics call a database: nothing of it is secret."""
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return str(shown)
