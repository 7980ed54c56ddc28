"""Tokens that end with a log-out or with their subject, if the settings ask for that.

A failure of Redis is only logged: it must not prevent a log-out or a deletion.
"""

import logging
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.django.configuration import is_on
from sinapse.publisher.django.names import subject
from sinapse.publisher.mixins import Subject as AnySubject

_log = logging.getLogger(__name__)


def connect() -> None:
    """Connect to the signals that the settings ask for, and to no others.

    A receiver makes deletions slower, so it is only for the models of subjects.
    """
    user_logged_out.disconnect(_logged_out)
    if is_on("REVOKE_ON_LOGOUT"):
        user_logged_out.connect(_logged_out)
    for model in _subjects():
        post_delete.disconnect(_deleted, sender=model)
        if is_on("REVOKE_ON_DELETE"):
            post_delete.connect(_deleted, sender=model)


def _subjects() -> list[type[Model]]:
    try:
        user = apps.get_model(settings.AUTH_USER_MODEL)
    except LookupError:  # Django's users are not installed.
        user = None
    return [
        model
        for model in apps.get_models()
        if issubclass(model, AnySubject) or (user is not None and issubclass(model, user))
    ]


def _logged_out(*, user: Any, **_: Any) -> None:
    if user is not None:
        _attempt(subject(user).auth.clear, "token of a user who logged out")


def _deleted(*, instance: Model, using: str, **_: Any) -> None:
    gone = subject(instance)
    transaction.on_commit(
        lambda: _attempt(gone.destroy, "token of a subject that was deleted"), using=using
    )


def _attempt(revoke: Callable[[], object], what: str) -> None:
    try:
        revoke()
    except BrokerUnavailable as error:
        _log.error("The %s is not revoked: %s", what, error)  # Without traceback.
