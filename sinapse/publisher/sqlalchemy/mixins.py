"""Models: their primary keys name subjects, groups and channels."""

from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, object_session

from sinapse.errors import InvalidSubject
from sinapse.publisher.frameworks.prepared import prepare
from sinapse.publisher.mixins import Group as AnyGroup
from sinapse.publisher.mixins import Publishable as AnyPublishable
from sinapse.publisher.mixins import Subject as AnySubject
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.sqlalchemy.commit import publish


class Subject(AnySubject):
    """A model whose instances may open streams; the primary key is the id.

    ``user.sinapse.publish`` sends at once, ``publish(inbox(user), …)`` after the commit.
    """

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
