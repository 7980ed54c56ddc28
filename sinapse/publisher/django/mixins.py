"""Mixins for models: ``class User(Subject, AbstractUser)``, ``class Room(Publishable, Model)``."""

from typing import cast

from django.db import router
from django.db.models import Model

from sinapse.publisher.django.commit import apublish, publish
from sinapse.publisher.django.names import kind_of, name_of
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


class Publishable(AnyPublishable):
    """A model whose instances messages are published to."""

    __slots__ = ()

    @property
    def sinapse_channel(self) -> str:
        """Name of the channel: ``app.model:pk``."""
        return name_of(cast(Model, self))

    def sinapse_publish(  # type: ignore[override]  # What is sent later has no count yet.
        self,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        on_commit: bool = True,
        using: str | None = None,
    ) -> int | None:
        """Send `message` to all who may listen, once the transaction is committed.

        As :func:`~sinapse.publisher.django.publish`. Without `using`, the transaction is that of
        the database to which the instance is written.
        """
        return publish(
            self,
            message,
            event,
            retain,
            message_id,
            on_commit=on_commit,
            using=using or self._database(),
        )

    async def sinapse_apublish(
        self,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        on_commit: bool = True,
        using: str | None = None,
    ) -> int | None:
        """Do what `publish` does, for asynchronous code."""
        return await apublish(
            self,
            message,
            event,
            retain,
            message_id,
            on_commit=on_commit,
            using=using or self._database(),
        )

    #: The short names. A class that has its own keeps that.
    publish = sinapse_publish  # type: ignore[assignment]  # As above.
    apublish = sinapse_apublish

    def _database(self) -> str:
        # Not that which it was read from, which may be a replica.
        found: str = router.db_for_write(type(self), instance=self)  # type: ignore[arg-type]
        return found
