"""Messages that wait for the commit of their session.

With an outbox they become rows when the commit of the whole transaction begins: so none is of a
savepoint that was rolled back, and one statement has all.
"""

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, inspect
from sqlalchemy import event as events
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from sinapse.errors import Incomplete
from sinapse.publisher.frameworks.prepared import Prepared, prepare, send_all
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.sqlalchemy.put import Put, beside_the_loop
from sinapse.publisher.sqlalchemy.store import writing
from sinapse.publisher.sqlalchemy.table import may_have_outbox, outbox_of

AnySession: TypeAlias = (
    Session | AsyncSession | scoped_session[Session] | async_scoped_session[AsyncSession]
)

_log = logging.getLogger(__name__)

#: In ``session.info``.
_KEY = "sinapse"


def publish(
    session: AnySession,
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    *,
    retain: float | None = None,
    message_id: str | None = None,
    replay: Replay | None = None,
    retain_messages: int | None = None,
    but: str | None = None,
) -> Published | None:
    """Send `message` to all who may listen to `channel`, once `session` has committed.

    Parameters are those of :meth:`sinapse.publisher.Publisher.publish`, and its errors about them
    are raised at once. Returns None; if the session is in no transaction, sends it now and returns
    how many nodes received it. Raises ``ValueError`` if there are several outboxes, and the session
    does not say which is its own.
    """
    prepared = prepare(
        channel,
        message,
        event,
        retain,
        message_id,
        replay=replay,
        retain_messages=retain_messages,
        but=but,
    )
    of = _session(session)
    transaction = _current(of)
    if transaction is None:
        return prepared.send()
    waiting = _waiting(of)
    table = outbox_of(of)
    if table is not None:
        of.get_bind(clause=writing(table))  # Raises at once if it has no database.
    waiting.messages.append((transaction, prepared))
    if waiting.is_due:
        _put(of)
    if of.dirty or of.deleted:
        waiting.written.is_true = True
    if not events.contains(of, "persistent_to_detached", _detached):
        events.listen(of, "persistent_to_detached", _detached)
    return None


class _Written:
    """Whether a transaction has written something, or is about to."""

    def __init__(self) -> None:
        self.is_true = False


class _Waiting:
    """The messages of a session that wait for the end of their transaction, or savepoint."""

    def __init__(self) -> None:
        self.messages: list[tuple[SessionTransaction, Prepared]] = []
        self.written: _Written = _Written()
        #: What is in the outbox, and how many commits have begun: of savepoints, and of all.
        self.put: Put | None = None
        self.commits = 0
        #: Whether what is published now is too late to wait for the beginning of the commit.
        self.is_due = False
        #: What was committed, or rolled back because somebody asked for that; its end follows.
        self.committed: SessionTransaction | None = None
        self.rolled_back: SessionTransaction | None = None


def _waiting(session: Session) -> _Waiting:
    if _KEY not in session.info:
        session.info[_KEY] = _Waiting()
    return cast(_Waiting, session.info[_KEY])


#: Connections that sessions have begun transactions on.
_written: WeakKeyDictionary[Connection, _Written] = WeakKeyDictionary()


# Of all sessions, and not of one when it publishes: that may be within the event.
@events.listens_for(Session, "after_begin")
def _after_begin(session: Session, _: SessionTransaction, connection: Connection) -> None:
    _written[connection] = _waiting(session).written
    if not events.contains(connection, "before_cursor_execute", _before_execute):
        events.listen(connection, "before_cursor_execute", _before_execute)


def _before_execute(
    connection: Connection, _cursor: object, statement: str, _values: object, context: Any, _: bool
) -> None:
    if connection in _written and not _is_query(statement, context):
        _written[connection].is_true = True


def _is_query(statement: str, context: Any) -> bool:
    asked = getattr(getattr(context, "compiled", None), "statement", None)
    return getattr(asked, "is_select", False) or statement.lstrip(" (\n")[:6].upper() == "SELECT"


@events.listens_for(Session, "transient_to_pending")
def _added(session: Session, _: object) -> None:
    _waiting(session).written.is_true = True


def _detached(session: Session, instance: object) -> None:
    # The first thing that ``close()`` does: what was changed and never flushed is seen here.
    if inspect(instance).modified:
        _waiting(session).written.is_true = True


@events.listens_for(Session, "after_transaction_create")
def _after_create(session: Session, created: SessionTransaction) -> None:
    # Of this session: so it comes after those of all sessions, which may look at what is not
    # flushed yet, and publish.
    is_outermost = created.parent is None and may_have_outbox(session)
    if is_outermost and not events.contains(session, "before_commit", _before_commit):
        events.listen(session, "before_commit", _before_commit)


def _before_commit(session: Session) -> None:
    # Of a savepoint as well: it is the innermost one that is there, whichever is committed.
    _waiting(session).commits += 1
    _put_all(session)


def _put_all(session: Session) -> None:
    """Put what waits into the outbox, if the commit of the whole transaction has begun."""
    waiting = _waiting(session)
    if waiting.commits and session.get_nested_transaction() is None:
        # First the locks of what is written, and then the place of a row: so rows are in the order
        # of the locks. And who hears of the flush may publish.
        session.flush()
        _put(session)
        waiting.is_due = True


def _put(session: Session) -> None:
    waiting = _waiting(session)
    table = outbox_of(session) if waiting.messages else None
    if table is not None:
        waiting.put = waiting.put or Put(table)
        messages = waiting.messages.copy()
        waiting.put.add(session, [each for _, each in messages])
        # Not before: a commit that fails may be tried again.
        del waiting.messages[: len(messages)]


@events.listens_for(Session, "after_commit", insert=True)  # Before others, who may publish in it.
def _after_commit(session: Session) -> None:
    # Of a savepoint as well.
    waiting = _waiting(session)
    waiting.committed = _current(session)
    waiting.commits -= 1
    waiting.is_due = False


@events.listens_for(Session, "after_rollback", insert=True)
def _after_rollback(session: Session) -> None:
    _waiting(session).rolled_back = _current(session)


@events.listens_for(Session, "after_transaction_end")
def _after_end(session: Session, ended: SessionTransaction) -> None:
    if not (ended.nested or ended.parent is None):
        return  # A flush.
    waiting = _waiting(session)
    committed, waiting.committed = ended is waiting.committed, None
    if ended.nested:
        if committed:
            around = cast(SessionTransaction, _current(session))
            waiting.messages = [
                (around if of is ended else of, each) for of, each in waiting.messages
            ]
            _put_all(session)  # It was open when the commit of all began.
        else:
            waiting.messages = [(of, each) for of, each in waiting.messages if of is not ended]
            waiting.commits = 0
        return
    messages = [each for _, each in waiting.messages]
    put = waiting.put
    # Without its messages: those may publish, too.
    session.info[_KEY] = _Waiting()
    count = len(messages) + (put.messages if put else 0)
    if not count or ended is waiting.rolled_back:
        return
    if not committed and waiting.written.is_true:
        _log.warning("%d not published: the session ended without a commit", count)
        return
    if put:
        put.send()
    if messages:
        beside_the_loop(_send, messages)


def _send(messages: Sequence[Prepared]) -> None:
    try:
        send_all(messages)
    except Incomplete as error:
        _log.error("Not published: %s", error)  # In a line.
    except ValueError as error:
        _log.error("Not published: %s", error)


def _current(session: Session) -> SessionTransaction | None:
    """Return the innermost savepoint, or the transaction, or None."""
    return session.get_nested_transaction() or session.get_transaction()


def _session(session: AnySession) -> Session:
    if isinstance(session, scoped_session | async_scoped_session):
        session = session()
    return session.sync_session if isinstance(session, AsyncSession) else session
