"""System checks: ``manage.py check``, and all commands that begin with it.

=================  ==========================================================================
``sinapse.E001``   a setting is not known, or has a value that cannot be used
``sinapse.W001``   browsers reach the daemon without TLS (``check --deploy``)
``sinapse.W002``   Redis does not answer (``check --deploy`` or ``--database``)
``sinapse.E002``   an outbox has no table (``check --database``)
``sinapse.W003``   a model has a mixin that is not Django's
``sinapse.W004``   the daemon would start with a development server (``check --deploy``)
=================  ==========================================================================
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's name.
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from sinapse.errors import BrokerUnavailable
from sinapse.publisher import aio, mixins
from sinapse.publisher.django import configuration
from sinapse.publisher.django.mixins import Group, Publishable, Subject


class _Mixin(NamedTuple):
    """A mixin for models, those that have its name, and what goes wrong with these."""

    ours: type
    others: tuple[type, ...]
    #: And what a model has of its own with which it does not go wrong; nothing is "".
    faults: Mapping[str, str]


_EARLY = "publishes before the commit"
_MIXINS = (
    _Mixin(Publishable, (mixins.Publishable, aio.Publishable), {_EARLY: ""}),
    _Mixin(
        Subject,
        (mixins.Subject, aio.Subject),
        # user.sinapse.publish
        {_EARLY: "", "may have the id of a subject of another model": "sinapse_id"},
    ),
    _Mixin(
        Group,
        (mixins.Group, aio.Group),
        {"may have the name of a group of another model": "sinapse_group"},
    ),
)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Look at ``settings.SINAPSE``, and at the environment where that says nothing."""
    faults = list(configuration.faults())
    if not faults:
        try:
            configuration.new_publisher()
        except ImproperlyConfigured as error:
            faults = [str(error)]
    return [Error(fault, id="sinapse.E001") for fault in faults]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Look at what only matters in production."""
    try:
        url = configuration.read().url
    except ImproperlyConfigured:
        return []  # That has been told.
    if not url.startswith("http:"):
        return []
    hint = "A token that is overheard lets others listen. Give the daemon TLS, or a proxy that has."
    return [Warning(f"SINAPSE['URL'] is {url}, without TLS", hint=hint, id="sinapse.W001")]


def check_mixins(**_: Any) -> list[CheckMessage]:
    """Look for models with mixins that know nothing of Django."""
    return [
        Warning(
            f"its mixin {each.ours.__name__} is not Django's: it {' and '.join(faults)}",
            hint=f"from sinapse.publisher.django import {each.ours.__name__}",
            obj=model,
            id="sinapse.W003",
        )
        for model in apps.get_models()
        for each in _MIXINS
        if issubclass(model, each.others) and not issubclass(model, each.ours)
        if (faults := list(_faults(model, each)))
    ]


def _faults(model: type, mixin: _Mixin) -> Iterator[str]:
    for fault, remedy in mixin.faults.items():
        if not _has_own(model, remedy):
            yield fault


def _has_own(model: type, name: str) -> bool:
    """Whether a name is defined by an application, for a model of it."""
    theirs = (each for each in model.__mro__ if not each.__module__.startswith("sinapse."))
    return any(name in vars(each) for each in theirs)


def check_autostart(**_: Any) -> list[CheckMessage]:
    """Look whether what is for developers is on in production."""
    if not configuration.is_on("AUTOSTART"):
        return []
    name = configuration.FORM("AUTOSTART")
    return [
        Warning(
            f"{name} is for development servers, and starts no daemon in production",
            hint="Write 'AUTOSTART': DEBUG.",
            id="sinapse.W004",
        )
    ]


def check_redis(databases: Sequence[str] | None, **_: Any) -> list[CheckMessage]:
    """Ask Redis for something when databases are asked."""
    return check_redis_of_deployment() if databases else []


def check_outbox(databases: Sequence[str] | None, **_: Any) -> list[CheckMessage]:
    """Look for the table of the outbox in the databases that are asked."""
    if not (databases and configuration.has_outbox()):
        return []
    # The model needs the applications, which are not there yet when this module is loaded.
    from sinapse.publisher.django.models import OutboxMessage  # noqa: PLC0415
    from sinapse.publisher.django.outbox import has_outbox  # noqa: PLC0415

    table = OutboxMessage._meta.db_table
    return [
        Error(
            f"the database {using!r} has no table {table} for the outbox",
            hint=f"python manage.py migrate --database {using} sinapse",
            id="sinapse.E002",
        )
        for using in databases
        if has_outbox(using) and table not in connections[using].introspection.table_names()
    ]


def check_redis_of_deployment(**_: Any) -> list[CheckMessage]:
    """Ask Redis for something."""
    try:
        with configuration.new_publisher() as publisher:
            publisher.channels.has("check", "check")
    except ImproperlyConfigured:
        return []  # That has been told.
    except BrokerUnavailable as error:
        return [Warning(str(error), hint="Nothing can be published.", id="sinapse.W002")]
    return []
