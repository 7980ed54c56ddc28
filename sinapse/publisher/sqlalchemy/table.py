"""The table of an outbox, and which of them is that of a session."""

from weakref import WeakSet

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.orm import Session

from sinapse.protocol.keys import MAX_NAME_BYTES
from sinapse.publisher.outbox.rows import MAX_MESSAGE_ID, MAX_REASON, MAX_REPLAY, MAX_STREAM

#: What it is called if nobody says it.
NAME = "sinapse_outbox"

#: In the info of a session: its outbox, or None for none.
_KEY = "outbox"

#: Those that were made, and those of which sessions know.
_made: WeakSet[Table] = WeakSet()
_outboxes: WeakSet[Table] = WeakSet()


def outbox(metadata: MetaData, name: str = NAME, *, schema: str | None = None) -> Table:
    """Give an application an outbox: a table of its `metadata`, which it makes as its others.

    From then on all sessions of the process put there, in their transaction, what is published in
    it. If there are several, a session says which is its own: ``Session(engine, info={"outbox":
    messages})``; with ``None`` it has none. A second call returns the same table.
    """
    table = table_of(metadata, name, schema)
    _outboxes.add(table)
    return table


def table_of(metadata: MetaData, name: str, schema: str | None) -> Table:
    """Return the table of an outbox, of which sessions do not know."""
    around = schema or metadata.schema
    known = metadata.tables.get(f"{around}.{name}" if around else name)
    if known is not None and known in _made:
        return known
    place = BigInteger().with_variant(Integer(), "sqlite")
    long_text = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
    table = Table(
        name,
        metadata,
        Column("id", place, primary_key=True, autoincrement=True),
        Column("message_id", String(MAX_MESSAGE_ID), nullable=False),
        Column("channel", String(MAX_NAME_BYTES), nullable=False),
        Column("message", long_text, nullable=False),
        Column("event", String(MAX_NAME_BYTES), nullable=False),
        Column("retain", BigInteger, nullable=False),
        Column("retain_messages", Integer, nullable=False),
        Column("replay", String(MAX_REPLAY), nullable=False),
        Column("but", String(MAX_STREAM), nullable=False),
        Column("created", DateTime(timezone=True), nullable=False),
        Column("refused", String(MAX_REASON), nullable=False),
        schema=schema,
        # A place is never given twice: who has sent a row removes what is there by then.
        sqlite_autoincrement=True,
        # It takes all texts and tells all names from each other, whatever the database has.
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
    )
    Index(None, table.c.channel, table.c.id)
    _made.add(table)
    return table


def may_have_outbox(session: Session) -> bool:
    """Whether :func:`outbox_of` may return one."""
    return bool(_outboxes) or _KEY in session.info


def outbox_of(session: Session) -> Table | None:
    """Return the outbox of a session, or None; raises ``ValueError`` if nobody says which."""
    if _KEY in session.info:
        chosen = session.info[_KEY]
        if chosen is None or (isinstance(chosen, Table) and chosen in _made):
            return chosen
        raise ValueError(
            f"info[{_KEY!r}] of the session must be what outbox() returns, or None, not {chosen!r}"
        )
    known = list(_outboxes)
    if len(known) > 1:
        names = ", ".join(sorted(table.fullname for table in known))
        raise ValueError(
            f"there are {len(known)} outboxes ({names}), and info[{_KEY!r}] of the session does "
            "not say which is its own"
        )
    return known[0] if known else None
