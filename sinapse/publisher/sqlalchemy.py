"""Sinapse for SQLAlchemy: mixins for models, and messages that wait for the commit.

::

    class Room(Publishable, Base): ...

    room.publish({"text": "hello"})            # once the session of the room has committed
    publish(session, "news", "hello")          # by name

What is published in a savepoint that is rolled back, or in a session that is, is never heard of.
A message is checked when it is published. When it cannot be sent after the commit, that is logged
and raises nothing: the data are saved. It is sent when the session has given its connections to
the database back; for an ``AsyncSession`` in a thread, so that the event loop does not wait.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, TypeAlias, cast
from urllib.parse import quote

from sqlalchemy import event as events
from sqlalchemy import inspect
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

from sinapse.errors import BrokerUnavailable, InvalidSubject
from sinapse.publisher.identity import ChannelLike
from sinapse.publisher.later import Prepared, prepare
from sinapse.publisher.mixins import Publishable as AnyPublishable
from sinapse.publisher.mixins import Subject as AnySubject

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
) -> int | None:
    """Send `message` to everybody who may listen to `channel`, once `session` has committed.

    As :meth:`sinapse.publisher.Publisher.publish`, whose errors about what is given it raises at
    once. Returns None; or, if the session is in no transaction, sends it now and returns how many
    nodes heard it.
    """
    prepared = prepare(channel, message, event, retain, message_id)
    of = _session(session)
    transaction = _current(of)
    if transaction is None:
        return prepared.send()
    _waiting(of).messages.append((transaction, prepared))
    return None


class Subject(AnySubject):
    """A model whose instances may open streams; the primary key is the id."""

    __slots__ = ()

    @property
    def sinapse_id(self) -> str:
        """Id of the subject."""
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
        after_commit: bool = True,
    ) -> int | None:
        """Send `message` to everybody who may listen, once the instance's session has committed.

        As :func:`publish`. With ``after_commit=False``, and for an instance of no session, it is
        sent now.
        """
        session = object_session(self) if after_commit else None
        if session is None:
            return prepare(self, message, event, retain, message_id).send()
        return publish(session, self, message, event, retain=retain, message_id=message_id)

    #: The short name. A class that has a ``publish`` of its own keeps that.
    publish = sinapse_publish  # type: ignore[assignment]  # As above.


class _Waiting:
    """The messages of a session that wait for the commit of their transaction, or savepoint."""

    def __init__(self, session: Session) -> None:
        self.messages: list[tuple[SessionTransaction, Prepared]] = []
        self._committed: SessionTransaction | None = None
        events.listen(session, "after_commit", self._after_commit)
        events.listen(session, "after_transaction_end", self._after_end)

    def _after_commit(self, session: Session) -> None:
        # Of a savepoint as well. Its end follows; everything else that ends was rolled back.
        self._committed = _current(session)

    def _after_end(self, session: Session, ended: SessionTransaction) -> None:
        if not (ended.nested or ended.parent is None):
            return  # A flush.
        committed = ended is self._committed
        self._committed = None
        if committed and not ended.nested:
            messages, self.messages = self.messages, []
            if messages and in_greenlet():
                # An asynchronous session, whose event loop has other things to do meanwhile.
                await_only(asyncio.to_thread(_send, messages))
            else:
                _send(messages)
        elif committed:
            around = cast(SessionTransaction, _current(session))
            self.messages = [(around if of is ended else of, each) for of, each in self.messages]
        else:
            self.messages = [(of, each) for of, each in self.messages if of is not ended]


def _waiting(session: Session) -> _Waiting:
    if _KEY not in session.info:
        session.info[_KEY] = _Waiting(session)
    return cast(_Waiting, session.info[_KEY])


def _send(messages: Iterable[tuple[SessionTransaction, Prepared]]) -> None:
    for _, prepared in messages:
        try:
            prepared.send()
        except (BrokerUnavailable, ValueError) as error:
            _log.error("Not published, though committed: %s", error)  # In a line.


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
