"""The database of a URL, for a relay."""

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy import URL, Engine, MetaData, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from sinapse.publisher.sqlalchemy.store import TableStore
from sinapse.publisher.sqlalchemy.table import table_of


class Database:
    """A database, and its engine; also one of an asynchronous driver, within :func:`at_work`.

    Raises ``ValueError`` if the URL is none, or its driver is not there. What it says, and ``str``
    of a database, has no password.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        try:
            self.engine: Engine = self._engine()
        except NoSuchModuleError:
            raise ValueError(f"{self}: SQLAlchemy knows no {self._url.drivername}") from None
        except ImportError as error:
            raise ValueError(f"{self}: {error.name or error} is not installed") from None

    def __str__(self) -> str:
        return self._url.set(query={}).render_as_string(hide_password=True)

    def _engine(self) -> Engine:
        # One that was away is asked again, without an error.
        if self._url.get_dialect().is_async:
            return create_async_engine(self._url, pool_pre_ping=True).sync_engine
        return create_engine(self._url, pool_pre_ping=True)

    def store(self, name: str) -> TableStore:
        """Return the outbox that is a table there, ``[SCHEMA.]NAME``."""
        schema, _, table = name.rpartition(".")
        return TableStore(self.engine, table_of(MetaData(), table, schema or None))

    def has(self, store: TableStore) -> bool:
        """Whether its table is there."""
        table = store.table
        with self.engine.connect() as connection:
            return inspect(connection).has_table(table.name, schema=table.schema)


def at_work(databases: Sequence[Database], work: Callable[[], None]) -> None:
    """Do `work`, which asks databases as if all drivers were synchronous; then close them."""

    def done() -> None:
        try:
            work()
        finally:
            for database in databases:
                database.engine.dispose()

    async def spawned() -> None:
        await greenlet_spawn(done)

    if any(database.engine.dialect.is_async for database in databases):
        asyncio.run(spawned())
    else:
        done()


def _parsed(url: str) -> URL:
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        # It may have a password in it: it is not quoted.
        raise ValueError("must be a URL, as postgresql+psycopg://user@host/database") from None
    if "@" in (found.host or ""):
        # What is read as the host has a part of the password.
        raise ValueError("must have %40 for each @ of its user and its password")
    return found
