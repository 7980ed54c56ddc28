"""What the commands share: the subject that they name, and errors in one line."""

import re
from functools import wraps
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.core.management.base import CommandError

from sinapse.errors import SinapseError, TokenIsHashed
from sinapse.publisher.django.mixins import subject
from sinapse.publisher.mixins import Sinapse

_INSTANCE = re.compile(r"(\w+\.\w+):(.+)")


def found(text: str) -> Sinapse:
    """Return the subject that `text` names: a user's name, or ``app.model:pk``.

    Raises ``CommandError`` if there is none.
    """
    instance = _INSTANCE.fullmatch(text)
    try:
        if instance is None:
            users: Any = get_user_model()._default_manager
            return subject(users.get_by_natural_key(text))
        return subject(apps.get_model(instance[1])._default_manager.get(pk=instance[2]))
    except (LookupError, ObjectDoesNotExist, ValueError, ValidationError):
        raise CommandError(f"There is no {text!r}: a user's name, or app.model:pk.") from None


def failing_in_one_line(handle: Any) -> Any:
    """Make a command's ``handle`` end with one line, and status 1, at an error that is no bug."""

    @wraps(handle)
    def handled(self: Any, *_: Any, **options: Any) -> Any:
        try:
            return handle(self, **options)
        except TokenIsHashed as error:
            raise CommandError(
                "tokens are hashed, so the current one cannot be read: "
                "'sinapse_token --new' makes another in its place"
            ) from error
        except (SinapseError, ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from error

    return handled
