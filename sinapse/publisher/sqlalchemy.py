"""Sinapse for SQLAlchemy: mixins for models, and messages that wait for the commit.

::

    class Room(Publishable, Base): ...

    room.publish({"text": "hello"})            # once the session of the room has committed
    publish(session, "news", "hello")          # by name

What is published in a savepoint that is rolled back, or in a session that is, is never heard of. To
read begins a transaction as well. If it has written nothing there is nothing to commit, and its
messages are sent when it ends, by ``commit()`` or ``close()``; without a commit of what was
written they are dropped, with a line in the log. A change that is made in between, on an object
that nothing was published about yet, and never flushed, is not seen.

A message is checked when it is published. When it cannot be sent after the commit, that is logged
and raises nothing: the data are saved. It is sent when the session has given its connections to
the database back; for an ``AsyncSession`` in a thread, so that the event loop does not wait.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import quote
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, inspect
from sqlalchemy import event as events
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import (
    InstanceState,
    Session,
    SessionTransaction,
    object_session,
    scoped_session,
)
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from sinapse.errors import Incomplete, InvalidSubject
from sinapse.publisher.frameworks.prepared import Prepared, prepare, send_all
from sinapse.publisher.mixins import Group as AnyGroup
from sinapse.publisher.mixins import Publishable as AnyPublishable
from sinapse.publisher.mixins import Subject as AnySubject
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay

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
    how many nodes received it.
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
    waiting.messages.append((transaction, prepared))
    if of.dirty or of.deleted:
        waiting.written.is_true = True
    return None


class Subject(AnySubject):
    """A model whose instances may open streams; the primary key is the id."""

    __slots__ = ()

    @property
    def sinapse_id(self) -> str:
        """Id of the subject."""
        return _primary_key(self)


class Group(AnyGroup):
    """A model whose instances are groups: ``team:3``, by its primary key."""

    __slots__ = ()

    @property
    def sinapse_id(self) -> str:
        """What stands behind the name of the class in the name of the group."""
        return _primary_key(self)


class Publishable(AnyPublishable):
    """A model whose instances messages are published to: ``room:12``, by its primary key."""

    __slots__ = ()

    @property
    def sinapse_id(self) -> str:
        """What stands behind the name of the class in the name of the channel."""
        return _primary_key(self)

    def sinapse_publish(  # type: ignore[override]  # What is sent later has no count yet.
        self,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
        after_commit: bool = True,
    ) -> Published | None:
        """Send `message` to all who may listen, once the instance's session has committed.

        As :func:`publish`. With ``after_commit=False``, and for an instance of no session, it is
        sent now.
        """
        options: dict[str, Any] = {
            "retain": retain,
            "message_id": message_id,
            "replay": replay,
            "retain_messages": retain_messages,
            "but": but,
        }
        session = object_session(self) if after_commit else None
        if session is None:
            return prepare(self, message, event, **options).send()
        return publish(session, self, message, event, **options)

    #: The short name. A class that has a ``publish`` of its own keeps that.
    publish = sinapse_publish  # type: ignore[assignment]  # As above.


class _Written:
    """Whether a transaction has written something, or is about to."""

    def __init__(self) -> None:
        self.is_true = False


class _Waiting:
    """The messages of a session that wait for the end of their transaction, or savepoint."""

    def __init__(self) -> None:
        self.messages: list[tuple[SessionTransaction, Prepared]] = []
        self.written: _Written = _Written()
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


@events.listens_for(Session, "after_commit", insert=True)  # Before others, who may publish in it.
def _after_commit(session: Session) -> None:
    # Of a savepoint as well.
    _waiting(session).committed = _current(session)


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
        else:
            waiting.messages = [(of, each) for of, each in waiting.messages if of is not ended]
        return
    messages = [each for _, each in waiting.messages]
    # Without its messages: those may publish, too.
    session.info[_KEY] = _Waiting()
    if not messages or ended is waiting.rolled_back:
        return
    if not committed and waiting.written.is_true:
        _log.warning("%d not published: the session ended without a commit", len(messages))
    elif in_greenlet():
        # An asynchronous session, whose event loop has other things to do meanwhile.
        await_only(asyncio.to_thread(_send, messages))
    else:
        _send(messages)


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


def _primary_key(instance: object) -> str:
    state = cast(InstanceState[Any], inspect(instance))
    # What is in the database has an identity, which no query is needed for.
    key = state.identity or state.mapper.primary_key_from_instance(instance)
    if None in key:
        name = type(instance).__name__
        raise InvalidSubject(f"this {name} has no primary key yet: flush the session first")
    if len(key) == 1:
        return str(key[0])
    # None of the parts may pass for two.
    return ",".join(quote(str(part), safe="") for part in key)
