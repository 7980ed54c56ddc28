"""Publish whenever a model is saved or deleted, wherever in the application that happens.

In ``ready()`` of an ``AppConfig``, say::

    publish_on_save(Comment, message=Comment.as_json, channel=lambda comment: comment.post)
    publish_on_delete(Comment, message=["id"], channel=lambda comment: comment.post)

A failure of Redis is logged, and the data are saved all the same. What does not send the signal is
not published: ``QuerySet.update()``, ``bulk_create()``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from django.db.models import Model
from django.db.models.signals import ModelSignal, class_prepared, post_delete, post_save
from django.utils.encoding import is_protected_type

from sinapse.publisher.django.commit import encoded, send_on_commit
from sinapse.publisher.django.names import name_of
from sinapse.publisher.frameworks.prepared import prepare
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.retention import Replay

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
    replay: Replay | None = None,
    retain_messages: int | None = None,
) -> Stop:
    """Publish whenever an instance of `model` is saved, once the transaction is committed.

    `message` is a function that makes the data from the instance, or the names of the fields of a
    JSON object; other fields are not published. `channel` is a channel, or a function that returns
    the channel of an instance, or None to skip the instance; by default it is the instance's own
    channel. `event` is ``<model>-saved`` by default. `created` is True for new instances only, and
    False for changed ones only. Fixtures that are loaded are not published. Instances of proxies of
    `model` are published too. For a field that was set to an expression, such as ``F("n") + 1``,
    the value in the database is published. The rest is as in ``publish``.

    Returns a function that ends it. Raises ``FieldDoesNotExist`` for an unknown field, and
    ``ValueError`` for a field with many values, for which `message` has to be a function.
    """
    publish = _publication(
        model,
        message,
        channel,
        {
            "event": event or f"{model._meta.model_name}-saved",
            "retain": retain,
            "replay": replay,
            "retain_messages": retain_messages,
        },
    )

    def saved(instance: M, using: str, **how: Any) -> None:
        if not how["raw"] and created in (None, how["created"]):
            publish(instance, using)

    return _connected(post_save, model, saved)


def publish_on_delete(
    model: type[M],
    *,
    message: Content[M],
    channel: Target[M] | None = None,
    event: str | None = None,
    retain: float | None = None,
    replay: Replay | None = None,
    retain_messages: int | None = None,
) -> Stop:
    """Publish whenever an instance of `model` is deleted, once the transaction is committed.

    As :func:`publish_on_save`; `event` is ``<model>-deleted`` if not given.
    """
    publish = _publication(
        model,
        message,
        channel,
        {
            "event": event or f"{model._meta.model_name}-deleted",
            "retain": retain,
            "replay": replay,
            "retain_messages": retain_messages,
        },
    )

    def deleted(instance: M, using: str, **_: Any) -> None:
        publish(instance, using)

    return _connected(post_delete, model, deleted)


def _publication(
    model: type[M],
    message: Content[M],
    channel: Target[M] | None,
    options: Mapping[str, Any],
) -> Callable[[M, str], None]:
    make = message if callable(message) else None
    fields = [] if callable(message) else [_field(model, name) for name in message]

    def content(instance: M, using: str) -> object:
        if make is not None:
            return make(instance)
        expressions = [field.name for field in fields if _is_expression(field, instance)]
        saved = _read(instance, expressions, using) if expressions else None
        sources = {field: saved if field.name in expressions else instance for field in fields}
        return {
            field.name: _value(field, source)
            for field, source in sources.items()
            if source is not None
        }

    def publish(instance: M, using: str) -> None:
        to = channel(instance) if callable(channel) else channel or _own_channel(instance)
        if to is not None:
            prepared = prepare(to, encoded(content(instance, using)), **options)
            send_on_commit(prepared, using)

    return publish


def _own_channel(instance: Model) -> str:
    return getattr(instance, "sinapse_channel", None) or name_of(instance)


def _field(model: type[Model], name: str) -> Any:
    field: Any = model._meta.get_field(name)
    if not field.concrete or field.many_to_many:
        raise ValueError(f"{model.__name__}.{name} has many values: publish what a function makes")
    return field


def _is_expression(field: Any, instance: Model) -> bool:
    return hasattr(field.value_from_object(instance), "resolve_expression")


def _read(instance: M, names: Sequence[str], using: str) -> M | None:
    """Return the instance with these fields as they are saved; None if it is no more."""
    every = type(instance)._base_manager.using(using)  # noqa: SLF001  # It is Django's for this.
    return every.only(*names).filter(pk=instance.pk).first()


def _value(field: Any, instance: Model) -> object:
    # As Django's own serializers do.
    value = field.value_from_object(instance)
    return value if is_protected_type(value) else field.value_to_string(instance)


def _connected(signal: ModelSignal, model: type[Model], receiver: Callable[..., None]) -> Stop:
    # The models that send it by name: a receiver for all would cost each of them something, and
    # keeps Django from deleting rows without reading them.
    senders: list[type[Model]] = []

    def connect(sender: type[Model], **_: Any) -> None:
        if issubclass(sender, model) and sender._meta.concrete_model is model._meta.concrete_model:
            senders.append(sender)
            signal.connect(receiver, sender=sender, weak=False)

    def stop() -> None:
        class_prepared.disconnect(connect)
        for sender in senders:
            signal.disconnect(receiver, sender=sender)

    # Not of the applications' registry: a model may belong to none that is installed.
    for sender in _with_subclasses(model):
        connect(sender)
    class_prepared.connect(connect, weak=False)
    return stop


def _with_subclasses(model: type[Model]) -> Iterator[type[Model]]:
    yield model
    for each in model.__subclasses__():
        yield from _with_subclasses(each)
