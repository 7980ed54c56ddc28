"""Names of models, as Django has them: ``app.model:pk`` for channels, subjects and groups.

The app is part of them, so that two apps may have a model of the same name, and that a user and a
device with the same primary key do not share a list of channels. A proxy is the model that it
stands for.
"""

from typing import Any
from urllib.parse import quote

from django.db.models import Model

from sinapse.errors import InvalidSubject
from sinapse.publisher.frameworks.page import Named
from sinapse.publisher.mixins import Subject as AnySubject
from sinapse.publisher.operations import identity


def name_of(instance: Model) -> str:
    """Return ``app.model:pk``; raises :class:`~sinapse.errors.InvalidSubject` before a save."""
    model = _concrete(instance)
    if instance.pk is None:
        raise InvalidSubject(f"this {model.__name__} has no primary key yet: save it first")
    return f"{model._meta.label_lower}:{_key(instance.pk)}"


def kind_of(instance: Model) -> str:
    """Return what kind of subject an instance is: the name of its model."""
    return _concrete(instance).__name__


def named(instance: Any) -> Named:
    """Return the id and the kind of a subject, which stay the same when it is deleted.

    It may be ``request.user``, with Django's model or your own. Raises
    :class:`~sinapse.errors.InvalidSubject` if it is no saved instance, such as an anonymous user.
    """
    if isinstance(instance, AnySubject):
        return Named(identity.identifier(instance), identity.kind_of(instance))
    if not isinstance(instance, Model):
        raise InvalidSubject(
            f"a subject is an instance of a model, not {instance.__class__.__name__}"
        )
    return Named(name_of(instance), kind_of(instance))


def _concrete(instance: Model) -> type[Model]:
    # Not type(): that of request.user is a wrapper.
    return instance._meta.concrete_model or instance.__class__


def _key(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    # A composite key: none of its parts may pass for two.
    return ",".join(quote(str(part), safe="") for part in value)
