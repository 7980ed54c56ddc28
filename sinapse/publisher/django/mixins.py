"""Mixins for models: ``class User(Subject, AbstractUser)``, ``class Room(Publishable, Model)``."""

from typing import cast

from django.db.models import Model

from sinapse.publisher.django.commit import apublish, publish
from sinapse.publisher.django.names import kind_of, name_of
from sinapse.publisher.mixins import Group as AnyGroup
from sinapse.publisher.mixins import Publishable as AnyPublishable
from sinapse.publisher.mixins import Subject as AnySubject


class Subject(AnySubject):
    """A model whose instances may open streams."""

    __slots__ = ()

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
