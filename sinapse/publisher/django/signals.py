"""Publish whenever a model is saved or deleted, wherever in the application that happens.

In ``ready()`` of an ``AppConfig``, say::

    publish_on_save(Comment, message=Comment.as_json, channel=lambda comment: comment.post)
    publish_on_delete(Comment, message=["id"], channel=lambda comment: comment.post)

A failure of Redis is logged, and the data are saved all the same. What does not send the signal is
not published: ``QuerySet.update()``, ``bulk_create()``.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from django.db import transaction
from django.db.models import Model
from django.db.models.signals import ModelSignal, post_delete, post_save
from django.utils.encoding import is_protected_type

from sinapse.publisher.django.commit import prepare
from sinapse.publisher.django.names import name_of
from sinapse.publisher.identity import ChannelLike

M = TypeVar("M", bound=Model)

#: What is published: what a function makes of the instance, or some of its fields.
Content: TypeAlias = Callable[[M], object] | Sequence[str]

#: Where: a channel, or what a function makes of the instance.
Target: TypeAlias = ChannelLike | Callable[[M], ChannelLike | None]

#: Ends it.
Stop: TypeAlias = Callable[[], None]


def publish_on_save(
    model: type[M],
    *,
    message: Content[M],
    channel: Target[M] | None = None,
    event: str | None = None,
    created: bool | None = None,
    retain: float | None = None,
) -> Stop:
    """Publish whenever an instance of `model` is saved, once the transaction is committed.

    `message` makes what is published of the instance, or names the fields of a JSON object; a
    field that is not named is not published. `channel` is one, or makes one of the instance, or
    None for an instance that is not to be published; without it, it is the instance's own. `event`
    is ``<model>-saved`` if not given. `created` is True for new instances only, and False for
    changed ones only. Fixtures that are loaded are not published.

    Returns a function that ends it. Raises ``FieldDoesNotExist`` for a field that is none.
    """
    publish = _publication(model, message, channel, event or f"{model._meta.model_name}-saved")

    def saved(instance: M, using: str, **how: Any) -> None:
        if not how["raw"] and created in (None, how["created"]):
            publish(instance, using, retain)

    return _connected(post_save, model, saved)


def publish_on_delete(
    model: type[M],
    *,
    message: Content[M],
    channel: Target[M] | None = None,
    event: str | None = None,
    retain: float | None = None,
) -> Stop:
    """Publish whenever an instance of `model` is deleted, once the transaction is committed.

    As :func:`publish_on_save`; `event` is ``<model>-deleted`` if not given.
    """
    publish = _publication(model, message, channel, event or f"{model._meta.model_name}-deleted")

    def deleted(instance: M, using: str, **_: Any) -> None:
        publish(instance, using, retain)

    return _connected(post_delete, model, deleted)


def _publication(
    model: type[M], message: Content[M], channel: Target[M] | None, event: str
) -> Callable[[M, str, float | None], None]:
    if callable(message):
        content = message
    else:
        fields = [model._meta.get_field(name) for name in message]

        def content(instance: M) -> object:
            return {field.name: _value(field, instance) for field in fields}

    def publish(instance: M, using: str, retain: float | None) -> None:
        to = channel(instance) if callable(channel) else channel or _own_channel(instance)
        if to is not None:
            prepared = prepare(to, content(instance), event, retain)
            transaction.on_commit(prepared.send, using=using, robust=True)

    return publish


def _own_channel(instance: Model) -> str:
    return getattr(instance, "sinapse_channel", None) or name_of(instance)


def _value(field: Any, instance: Model) -> object:
    # As Django's own serializers do.
    value = field.value_from_object(instance)
    return value if is_protected_type(value) else field.value_to_string(instance)


def _connected(signal: ModelSignal, model: type[Model], receiver: Callable[..., None]) -> Stop:
    signal.connect(receiver, sender=model, weak=False)

    def stop() -> None:
        signal.disconnect(receiver, sender=model)

    return stop
