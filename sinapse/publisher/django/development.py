"""``SINAPSE = {"AUTOSTART": True}``: the daemon starts with ``manage.py runserver``."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started

from sinapse.publisher.django import configuration
from sinapse.publisher.operations import standin

_REFUSAL = "sinapse.development"


def start() -> None:
    """Start the daemon if the settings say so, and this is a development server.

    Another server, and one without ``DEBUG``, says with its first request that there is none.
    """
    request_started.disconnect(dispatch_uid=_REFUSAL)
    if not configuration.is_on("AUTOSTART"):
        return
    try:
        options = configuration.read()
    except ImproperlyConfigured:
        return  # The checks tell that.
    # Nobody else needs it, and what it needs.
    from sinapse.publisher.frameworks import development  # noqa: PLC0415

    process = development.owner() if settings.DEBUG else None
    if process is None:
        request_started.connect(_refuse, dispatch_uid=_REFUSAL)
    else:
        development.start(options, configuration.FORM, process)


def _refuse(**_: Any) -> None:
    request_started.disconnect(dispatch_uid=_REFUSAL)
    if standin.current() is None:  # No test wants to hear of it.
        from sinapse.publisher.frameworks import development  # noqa: PLC0415

        development.refuse(configuration.FORM("AUTOSTART"))
