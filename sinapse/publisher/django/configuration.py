"""``settings.SINAPSE``: the options that all integrations know, and what only Django has.

=====================  =================================================================
``REVOKE_ON_LOGOUT``   True: a log-out ends all sessions of a user, and the token
``REVOKE_ON_DELETE``   True: the same, and the channels go, when a subject is deleted
``OUTBOX``             True: what is published in a transaction is a row of it, until Redis has it
``TEST_CAPTURE``       False: what tests publish reaches Redis; by default it is captured
=====================  =================================================================
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from sinapse.publisher import Publisher
from sinapse.publisher.defaults import Once
from sinapse.publisher.frameworks import options
from sinapse.publisher.frameworks.options import Options

SETTING = "SINAPSE"

#: What only Django has, and what it is by default.
FLAGS = {
    "REVOKE_ON_LOGOUT": False,
    "REVOKE_ON_DELETE": False,
    "OUTBOX": False,
    "TEST_CAPTURE": True,
}

#: What a setting is called.
FORM: Callable[[str], str] = f"{SETTING}[{{!r}}]".format


def faults() -> Iterator[str]:
    """Yield the faults of the settings, one line each."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        yield f"{SETTING} must be a dictionary, not {type(given).__name__}"
        return
    yield from options.faults(given, FORM, tuple(FLAGS))
    for name in FLAGS:
        if not isinstance(given.get(name, False), bool):
            yield f"{FORM(name)} must be True or False, not {given[name]!r}"


def is_on(flag: str) -> bool:
    """Whether something is True, in settings without faults."""
    given = getattr(settings, SETTING, {})
    return not any(faults()) and bool(given.get(flag, FLAGS.get(flag)))


@cache
def has_outbox() -> bool:
    """Whether messages are rows of their transactions."""
    return is_on("OUTBOX")


@cache
def captures_tests() -> bool:
    """Whether nothing that tests publish reaches Redis."""
    return is_on("TEST_CAPTURE")


@cache
def read() -> Options:
    """Return the options; raises ``ImproperlyConfigured`` with one line."""
    for fault in faults():
        raise ImproperlyConfigured(fault)
    given: Mapping[str, Any] = getattr(settings, SETTING, {})
    try:
        return options.read(
            {name: given[name] for name in given if name not in FLAGS}, FORM, _project()
        )
    except ValueError as error:
        raise ImproperlyConfigured(str(error)) from None


def _project() -> Path | None:
    """Return the folder of the project, as the settings of a new one have it."""
    folder = getattr(settings, "BASE_DIR", None)
    return Path(folder) if isinstance(folder, str | Path) else None


def new_publisher() -> Publisher:
    """Return a new publisher of the settings; raises ``ImproperlyConfigured`` with one line."""
    try:
        return read().publisher()
    except ValueError as error:  # Of the environment.
        raise ImproperlyConfigured(str(error)) from None


#: The one of this process.
publisher: Once[Publisher] = Once(new_publisher)


def forget() -> None:
    """Read the settings again when they are needed."""
    read.cache_clear()
    has_outbox.cache_clear()
    captures_tests.cache_clear()
    former = publisher.forget()
    if former is not None:
        former.close()
