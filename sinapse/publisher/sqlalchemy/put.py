"""What a transaction has put into an outbox: its process sends that once it is committed.

Before its messages it sends what else waits for their channels. What it cannot send stays, for
``sinapse relay``.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from sinapse.publisher.frameworks.prepared import Prepared
from sinapse.publisher.outbox import committed
from sinapse.publisher.outbox.rows import Row, row_of
from sinapse.publisher.outbox.store import in_a_line
from sinapse.publisher.sqlalchemy.store import TableStore, insert, writing

T = TypeVar("T")
V = TypeVar("V")

_log = logging.getLogger(__name__)


class Put:
    """Messages that are rows of one transaction."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._bind: Engine | Connection | None = None
        self._channels: set[str] = set()
        self._alone: Sequence[Row] | None = None
        #: How many there are.
        self.messages: int = 0

    def add(self, session: Session, messages: Sequence[Prepared]) -> None:
        """Insert messages, in the session's own connection."""
        rows = [row_of(each) for each in messages]
        clause = writing(self._table)
        connection = session.connection(bind_arguments={"clause": clause})
        # A transaction that is prepared may have no notice.
        alone = insert(connection, self._table, rows, notify=not session.twophase)
        is_sure = not self.messages and session.get_nested_transaction() is None
        self._alone = alone if is_sure else None
        self._bind = self._bind or _beside(session.get_bind(clause=clause), connection)
        self._channels |= {row.channel for row in rows}
        self.messages += len(rows)

    def send(self) -> None:
        """Send them, and all that waits for their channels, as far as Redis takes it.

        The data are saved, so it raises nothing, whatever the database says.
        """
        if committed.is_for_the_relay():
            return
        store = TableStore(cast(Engine | Connection, self._bind), self._table)
        try:
            rows = self._alone
            if rows is None or len(rows) > committed.BATCH:
                rows = store.waiting(committed.BATCH, only=self._channels)
            if rows:
                store.settle(beside_the_loop(committed.send, rows))
        except Exception as error:  # noqa: BLE001  # Some drivers raise what is not SQLAlchemy's.
            _log.warning("Messages wait in the outbox: %s", in_a_line(error))


def beside_the_loop(work: Callable[[V], T], value: V) -> T:
    """Return what `work` does; of an asynchronous session it does it in a thread.

    So the event loop has other things to do meanwhile.
    """
    if in_greenlet():
        return await_only(asyncio.to_thread(work, value))
    return work(value)


def _beside(bind: Engine | Connection, connection: Connection) -> Engine | Connection:
    """Return what has the same tables as the connection of a session, after its end."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    if isinstance(bind, Connection) or not schemas:
        return bind
    return bind.execution_options(schema_translate_map=schemas)
