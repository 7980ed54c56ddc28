"""Sessions and tokens that end with a log-out, a new password, or their subject.

A failure of Redis is only logged: it must not prevent a log-out, a new password or a deletion.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save
from django.http import HttpRequest

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.django.configuration import is_on
from sinapse.publisher.django.device import any_device_of, end, first, first_of
from sinapse.publisher.django.mixins import subject
from sinapse.publisher.django.names import named
from sinapse.publisher.mixins import Sinapse
from sinapse.publisher.mixins import Subject as AnySubject

_log = logging.getLogger(__name__)

#: The field of a user whose change ends the sessions of Django.
_PASSWORD = "password"  # noqa: S105  # A name.

#: What an instance is marked with while it is saved with another password.
_MARK = "_sinapse_new_password"


def connect() -> None:
    """Connect to the signals of users, and to those that the settings ask for.

    A receiver makes deletions slower, so it is only for the models of subjects.
    """
    user_logged_out.connect(_logged_out)
    for model in _subjects():
        post_delete.disconnect(_deleted, sender=model)
        if is_on("REVOKE_ON_DELETE"):
            post_delete.connect(_deleted, sender=model)
    for model in _users():
        if any(field.name == _PASSWORD for field in model._meta.get_fields()):
            pre_save.connect(_saves, sender=model)
            post_save.connect(_saved, sender=model)


def revoke_all(gone: Sinapse) -> int:
    """End all sessions of a subject, and revoke the token; return how many there were."""
    return gone.sessions.end_all() + gone.auth.clear()


def attempt(revoke: Callable[[], object], what: str) -> None:
    """Call `revoke`, for `what`; if Redis fails, that is logged."""
    try:
        revoke()
    except BrokerUnavailable as error:
        _log.error("The %s is not revoked: %s", what, error)  # Without traceback.


def _user() -> type[Model] | None:
    try:
        return apps.get_model(settings.AUTH_USER_MODEL)
    except LookupError:  # Django's users are not installed.
        return None


def _users() -> list[type[Model]]:
    user = _user()
    return [model for model in apps.get_models() if user is not None and issubclass(model, user)]


def _subjects() -> set[type[Model]]:
    return {model for model in apps.get_models() if issubclass(model, AnySubject)} | {*_users()}


def _logged_out(*, request: HttpRequest | None, user: Any, **_: Any) -> None:
    first.get([]).clear()
    if user is not None and is_on("REVOKE_ON_LOGOUT"):
        attempt(partial(revoke_all, subject(user)), "token of a user who logged out")
    elif device := any_device_of(request):
        attempt(partial(end, device), "session of a user who logged out")


def _saves(
    *, instance: Model, raw: bool, using: str, update_fields: frozenset[str] | None, **_: Any
) -> None:
    """Note whether the password changes, however it was set; as little as is needed is asked."""
    is_new = raw or instance._state.adding
    if not is_new and (update_fields is None or _PASSWORD in update_fields):
        rows = type(instance)._base_manager.using(using).filter(pk=instance.pk)  # noqa: SLF001
        others = rows.exclude(**{_PASSWORD: getattr(instance, _PASSWORD)})
        setattr(instance, _MARK, others.exists())


def _saved(*, instance: Model, using: str, **_: Any) -> None:
    if instance.__dict__.pop(_MARK, False):
        names = named(_as_user(instance))
        stays = first_of(names.key)
        end_others = partial(Sinapse(names).sessions.end_all, None if stays is None else stays.id)
        what = "session of a user with a new password"
        transaction.on_commit(lambda: attempt(end_others, what), using=using)


def _as_user(instance: Model) -> Model:
    """Return the user whom an instance of a model with a table of its own extends, or itself."""
    user = _user()
    while user is not None and (link := instance._meta.get_ancestor_link(user)) is not None:
        instance = getattr(instance, link.name)
    return instance


def _deleted(*, instance: Model, using: str, **_: Any) -> None:
    gone = subject(instance)
    transaction.on_commit(
        lambda: attempt(gone.destroy, "token of a subject that was deleted"), using=using
    )
