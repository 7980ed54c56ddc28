"""The outbox of each database: what is published in a transaction is a row of it.

The process that commits sends its messages at once, and before them what else waits for their
channels. What it cannot send stays, for ``manage.py sinapse_relay``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connections, router, transaction
from django.db.models import Count, Min, Q
from django.utils import timezone

from sinapse.publisher.django.models import OutboxMessage
from sinapse.publisher.frameworks.prepared import Prepared
from sinapse.publisher.outbox import committed, notices
from sinapse.publisher.outbox.notices import Notices
from sinapse.publisher.outbox.rows import MAX_REASON, Row, row_of
from sinapse.publisher.outbox.store import LOCK, Statistics, Store

#: A number of 64 bits that stands for the lock.
_LOCK_NUMBER = int.from_bytes(LOCK.encode()[:8], "big", signed=True)

#: The columns of a row but for its id, and what stands for their values.
_FIELDS = ", ".join(Row._fields[1:])
_PLACES = ", ".join(["%s"] * len(Row._fields[1:]))


def has_outbox(using: str) -> bool:
    """Whether the routers allow the table in a database."""
    return bool(router.allow_migrate_model(using, OutboxMessage))


def databases() -> list[str]:
    """Return the databases that have an outbox."""
    return [using for using in connections if has_outbox(using)]


def put(prepared: Prepared, using: str) -> None:
    """Make a message a row of the transaction; it is sent when that is committed."""
    row = row_of(prepared)
    store = DjangoStore(using)
    alone = store.add(row)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block or connection.get_autocommit():
        sending = _Sending(store, row, alone, _commit_of(connection))
        transaction.on_commit(sending.send, using=using, robust=True)
    # Where an application commits by itself nobody tells: that is for the relay.


class _Commit:
    """What one commit sends: all of its messages together."""

    def __init__(self) -> None:
        self.channels: set[str] = set()
        self.messages = 0
        self.is_sent = False


def _commit_of(connection: Any) -> _Commit:
    """Return what the messages of the transaction share; a new one, if this is the first."""
    others = (getattr(entry[1], "__self__", None) for entry in reversed(connection.run_on_commit))
    found = (each.commit for each in others if isinstance(each, _Sending))
    return next((each for each in found if not each.is_sent), None) or _Commit()


class _Sending:
    """A message that waits for its commit, with the others of that."""

    def __init__(self, store: "DjangoStore", row: Row, alone: Row | None, commit: _Commit) -> None:
        self._store = store
        self._row = row
        self._alone = alone
        self.commit = commit
        commit.channels.add(row.channel)
        commit.messages += 1

    def send(self) -> None:
        """Send it, and all that waits for the channels of its commit, as far as Redis takes it."""
        if self.commit.is_sent or committed.is_for_the_relay():
            return
        rows = self._rows()
        if rows:
            self._store.settle(committed.send(rows))

    def _rows(self) -> Sequence[Row]:
        store = self._store
        if transaction.get_connection(store.name).in_atomic_block:
            # In a test, whose transaction is never committed: of others nobody has said so.
            return store.of_message(self._row.message_id)
        self.commit.is_sent = True
        if self._alone is not None and self.commit.messages == 1:
            # Nothing waited for its channel, and what others have committed meanwhile may follow.
            return [self._alone]
        # Which of several messages have been rolled back since, the database knows.
        return store.waiting(committed.BATCH, only=self.commit.channels)


class DjangoStore(Store):
    """The outbox of a database of the settings: PostgreSQL, MySQL, MariaDB or SQLite.

    Its statements are written out: Django's queries take as long as the database does.
    """

    def __init__(self, using: str) -> None:
        self.name = using
        connection = connections[using]
        self._vendor: str = connection.vendor
        self._table: str = connection.ops.quote_name(OutboxMessage._meta.db_table)

    @property
    def _rows(self) -> Any:
        return OutboxMessage.objects.using(self.name)

    def add(self, row: Row) -> Row | None:
        """Insert a row, whatever its id is.

        Returns it with the id that it has, if it is known that no other waits for its channel.
        """
        connection = connections[self.name]
        created = connection.ops.adapt_datetimefield_value(timezone.now())
        values = [*row[1:], created]
        insert = (
            f"INSERT INTO {self._table} ({_FIELDS}, created, refused) "  # noqa: S608
            f"VALUES ({_PLACES}, %s, '')"
        )
        if self._vendor == "postgresql":
            # It sees what was there before; what was there when a transaction began says nothing.
            insert += (
                " RETURNING id, current_setting('transaction_isolation') <> 'read committed' "  # noqa: S608
                f"OR EXISTS (SELECT 1 FROM {self._table} "
                "WHERE channel = %s AND refused = '')"
            )
            values.append(row.channel)
        with connection.cursor() as cursor:
            cursor.execute(insert, values)
            place, is_behind = cursor.fetchone() if self._vendor == "postgresql" else (0, True)
        return None if is_behind else row._replace(id=place)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other relays from the work; where there is no lock for it, they do it as well."""
        self._mend()
        if self._vendor == "postgresql":
            # Of the transaction: a pool of connections may stand between.
            with transaction.atomic(using=self.name):
                yield self._lock("SELECT pg_try_advisory_xact_lock(%s)", _LOCK_NUMBER)
        elif self._vendor == "mysql":
            # All databases of a server share the names of locks, which are short.
            name = "MD5(CONCAT(%s, ' ', DATABASE()))"
            is_alone = self._lock(f"SELECT GET_LOCK({name}, 0)", LOCK)
            try:
                yield is_alone
            finally:
                if is_alone:
                    self._lock(f"SELECT RELEASE_LOCK({name})", LOCK)
        else:
            yield True

    def _mend(self) -> None:
        """Let the connection be one that commits by itself, and close one that has failed."""
        connection = connections[self.name]
        if connection.in_atomic_block:
            return
        if connection.errors_occurred:
            self._close_unusable()
        if not connection.get_autocommit():
            # As the settings may have it: then all would be what was there at the first look.
            connection.set_autocommit(True)

    def _close_unusable(self) -> None:
        """Let a database that was away be asked again."""
        connection = connections[self.name]
        if connection.connection is not None and not connection.is_usable():
            connection.close()

    def _lock(self, query: str, lock: str | int) -> bool:
        with connections[self.name].cursor() as cursor:
            cursor.execute(query, [lock])
            return bool(cursor.fetchone()[0])

    def waiting(
        self, count: int, but: Collection[str] = (), *, only: Collection[str] = ()
    ) -> Sequence[Row]:
        """Return the first rows, without those of some channels, or only those of some."""
        among = "NOT IN" if but else "IN"
        names = list(but or only)
        places = ", ".join(["%s"] * len(names))
        conditions = [f"channel {among} ({places})"] if names else []
        if names and self._vendor == "mysql":
            # By itself it takes names for one of which one has spaces at its end. Its index finds
            # those as well; then it looks at the bytes.
            conditions = conditions if only else []
            conditions.append(f"CAST(channel AS BINARY) {among} ({places})")
        condition = "".join(f"AND {each} " for each in conditions)
        with connections[self.name].cursor() as cursor:
            cursor.execute(
                f"SELECT id, {_FIELDS} FROM {self._table} WHERE refused = '' "  # noqa: S608
                f"{condition}ORDER BY id LIMIT {count:d}",
                names * len(conditions),
            )
            return [Row(*values) for values in cursor.fetchall()]

    def of_message(self, message_id: str) -> Sequence[Row]:
        """Return what waits under a message id."""
        rows = self._rows.filter(message_id=message_id, refused="")
        return [Row(*values) for values in rows.values_list(*Row._fields)]

    def remove(self, ids: Sequence[int]) -> None:
        """Remove rows that have been sent."""
        # Nothing waits for the disk: a row that comes back after a crash is sent again, and Redis
        # knows its message id. In one round trip, so that there is nothing to undo.
        first = "SET LOCAL synchronous_commit TO off; " if self._vendor == "postgresql" else ""
        table = self._table
        places = ",".join(map(str, ids))
        delete = f"DELETE FROM {table} WHERE id IN ({places})"  # noqa: S608
        if self._vendor == "mysql":
            # Asked for several, it looks through a small table, and waits for whoever has inserted
            # a row meanwhile. So each is looked for.
            sent = " UNION ALL ".join(f"SELECT {place} AS id" for place in ids)
            delete = (
                f"DELETE {table} FROM ({sent}) AS sent "
                f"STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.id = sent.id"
            )
        with connections[self.name].cursor() as cursor:
            cursor.execute(first + delete)

    def set_aside(self, refused: Mapping[int, str]) -> None:
        """Note that rows can never be sent, and why."""
        for place, reason in refused.items():
            self._rows.filter(id=place).update(refused=reason[:MAX_REASON])

    def statistics(self) -> Statistics:
        """Return what is there."""
        found = self._rows.aggregate(
            waiting=Count("id", filter=Q(refused="")),
            oldest=Min("created", filter=Q(refused="")),
            set_aside=Count("id", filter=~Q(refused="")),
        )
        oldest = found["oldest"]
        age = 0.0
        if oldest is not None:
            now = datetime.now(UTC) if oldest.tzinfo else datetime.now()  # noqa: DTZ005
            age = max(0.0, (now - oldest).total_seconds())
        return Statistics(found["waiting"], age, found["set_aside"])

    def notices(self) -> Notices | None:
        """Return what PostgreSQL tells; None with another database, or driver."""
        if self._vendor != "postgresql":
            return None
        self._close_unusable()
        connection = connections[self.name]
        connection.ensure_connection()
        found = notices.of(connection.connection)
        if found is not None:  # Other drivers would collect what nobody takes.
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {LOCK}")
        return found

    def close(self) -> None:
        """Give up a connection that has failed."""
        self._close_unusable()
