"""The application of ``tests.support.shop`` with SQLAlchemy: its sessions are asynchronous or not.

``python -m tests.support.shop_sqlalchemy SETTINGS``: as there; ``async`` says which.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Engine, String, create_engine, event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sinapse.cli import main as sinapse
from sinapse.publisher import Publisher, use
from sinapse.publisher.sqlalchemy import outbox, publish
from tests.support.shop import CHANNELS, fork, tell


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "counter"

    channel: Mapped[str] = mapped_column(String(20), primary_key=True)
    orders: Mapped[int]


MESSAGES = outbox(Base.metadata)


def url_of(database: dict[str, Any], *, is_async: bool) -> URL:
    """Return the URL of Django's settings."""
    if database["ENGINE"].endswith("sqlite3"):
        driver = "sqlite+aiosqlite" if is_async else "sqlite"
        return URL.create(driver, database=database["NAME"])
    if database["ENGINE"].endswith("mysql"):
        driver = "mariadb+pymysql"
    else:
        driver = "postgresql+asyncpg" if is_async else "postgresql+psycopg"
    return URL.create(
        driver,
        database["USER"],
        host=database["HOST"],
        port=int(database["PORT"]),
        database=database["NAME"],
    )


class Shop:
    """What its processes do."""

    def __init__(self, given: dict[str, Any]) -> None:
        use(Publisher(given["redis"], timeout=1, connect_timeout=1))
        self._redis = given["redis"]
        self._is_async = given.get("async", False)
        self._url = url_of(given["database"], is_async=self._is_async)
        self._plain = url_of(given["database"], is_async=False)

    def engine(self) -> Engine:
        """Return one of this process."""
        if self._is_async:
            engine = create_async_engine(self._url).sync_engine
        else:
            engine = create_engine(self._url)
        if engine.dialect.name == "sqlite":
            _wait_for_locks(engine)
        return engine

    def make_tables(self) -> None:
        """Make the tables: the orders have a counter for each channel."""
        engine = create_engine(self._plain)
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(Counter(channel=each, orders=0) for each in CHANNELS)
        engine.dispose()

    def serve(self) -> None:
        """Take orders for ever, whatever happens to the database."""
        tell("serving")
        if self._is_async:
            asyncio.run(self._serve_asynchronously())
        dice = random.Random()
        engine = self.engine()
        while True:
            try:
                with Session(engine) as session:
                    order(session, dice)
                    finish(session, dice)
            except SQLAlchemyError:
                pass

    async def _serve_asynchronously(self) -> None:
        dice = random.Random()
        engine = create_async_engine(self._url)
        if engine.dialect.name == "sqlite":
            _wait_for_locks(engine.sync_engine)
        while True:
            try:
                async with AsyncSession(engine) as session:
                    await session.run_sync(order, dice)
                    await session.run_sync(finish, dice)
            except (SQLAlchemyError, OSError):
                await asyncio.sleep(0)

    def relay(self, metrics: str | None = None) -> None:
        """Send what waits, until it is killed; with a port, say there what it has done."""
        tell("relaying")
        url = self._url.render_as_string(hide_password=False)
        options = [] if metrics is None else ["--metrics", metrics]
        arguments = ["relay", "--redis", self._redis, "--database", url, *options]
        sinapse(arguments, standalone_mode=False)

    def show(self) -> None:
        """Say how many orders there are of each channel, and how many messages wait."""
        with create_engine(self._plain).connect() as connection:
            rows = connection.execute(select(Counter.channel, Counter.orders))
            orders = {row.channel: row.orders for row in rows}
            tell([orders, connection.scalar(select(func.count()).select_from(MESSAGES))])


def order(session: Session, dice: random.Random) -> None:
    """Take an order, or several."""
    # In one order, or two such transactions could wait for each other.
    for channel in sorted(dice.sample(CHANNELS, dice.randint(1, len(CHANNELS)))):
        counter = session.get_one(Counter, channel, with_for_update=True)
        counter.orders += 1
        message = f"{channel} {counter.orders}"
        publish(session, channel, message, retain=3600, retain_messages=100_000)


def finish(session: Session, dice: random.Random) -> None:
    """Commit; or take no order, if the last one fails."""
    if dice.random() < 0.1:
        session.rollback()
    else:
        session.commit()


def _wait_for_locks(engine: Engine) -> None:
    """Let SQLite lock a database before it is read, so that nobody has written it meanwhile."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 20000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def main(given: str) -> None:
    """Do as the other shop does."""
    shop = Shop(json.loads(given))
    work: dict[str, Callable[..., None]] = {
        "migrate": shop.make_tables,
        "serve": shop.serve,
        "relay": shop.relay,
        "show": shop.show,
    }
    fork(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
