"""Mixins for models: ``class User(Subject, AbstractUser)``, ``class Room(Publishable, Model)``."""

from typing import Any, cast

from django.db.models import Model

from sinapse.publisher.django.commit import apublish, publish
from sinapse.publisher.django.names import kind_of, name_of, named
from sinapse.publisher.mixins import Group as AnyGroup
from sinapse.publisher.mixins import Publishable as AnyPublishable
from sinapse.publisher.mixins import Sinapse as AnySinapse
from sinapse.publisher.mixins import Subject as AnySubject


class Sinapse(AnySinapse):
    """``user.sinapse``: what the library has, but messages are sent after the commit."""

    def __init__(self, owner: object, instance: object = None) -> None:
        super().__init__(owner)
        self._instance = owner if instance is None else instance

    @property
    def owner(self) -> object:
        """The instance: the database to which it is written counts."""
        return self._instance

    #: Sends to the subject alone, once the transaction is committed:
    #: :func:`sinapse.publisher.django.publish`.
    publish = publish  # type: ignore[assignment]  # What is sent later has no count yet.

    #: The same, for asynchronous code.
    apublish = apublish


def subject(instance: Any) -> Sinapse:
    """Return the token and the channels of a model instance, with or without the mixin.

    It may be ``request.user``, with Django's model or your own. The result stays the same subject
    when the instance is deleted. Raises :class:`~sinapse.errors.InvalidSubject` if it is no saved
    instance, such as an anonymous user.
    """
    return Sinapse(named(instance), instance)


class Subject(AnySubject):
    """A model whose instances may open streams."""

    __slots__ = ()

    @property
    def sinapse(self) -> Sinapse:
        """The token, the sessions, the channels and the groups; and messages to it alone."""
        return Sinapse(self)

    @property
    def sinapse_id(self) -> str:
        """Id of the subject: ``app.model:pk``."""
        return name_of(cast(Model, self))

    @property
    def sinapse_kind(self) -> str:
        """Kind of the subject: the name of the model."""
        return kind_of(cast(Model, self))


class Group(AnyGroup):
    """A model whose instances are groups: their members listen to the same."""

    __slots__ = ()

    @property
    def sinapse_group(self) -> str:
        """Name of the group: ``app.model:pk``."""
        return name_of(cast(Model, self))


class Publishable(AnyPublishable):
    """A model whose instances messages are published to."""

    __slots__ = ()

    @property
    def sinapse_channel(self) -> str:
        """Name of the channel: ``app.model:pk``."""
        return name_of(cast(Model, self))

    #: Sends once the transaction is committed: :func:`sinapse.publisher.django.publish`, to the
    #: channel of the instance.
    sinapse_publish = publish  # type: ignore[assignment]  # What is sent later has no count yet.

    #: The same, for asynchronous code.
    sinapse_apublish = apublish

    #: The short names. A class that has its own keeps that.
    publish = sinapse_publish  # type: ignore[assignment]  # As above.
    apublish = sinapse_apublish
