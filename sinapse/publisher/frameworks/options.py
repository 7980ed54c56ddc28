"""What an integration reads from the settings of a framework: one table for all of them.

===================  =====================================================================
``REDIS_URL``        where Redis is, or several are, or the API in its place; else ``REDIS_URL``
                     of the environment
``URL``              the daemon, as browsers reach it: ``https://push.example/``, or a path on
                     the application's own host; else ``SINAPSE_URL`` of the environment, else
                     http://localhost:9000/
``TOKEN_LIFETIME``   seconds that a token for a page is valid; else a day
``PREFIX``           what all names in Redis begin with; else ``SINAPSE_PREFIX`` of the environment
``AUTOSTART``        True: the daemon starts with a development server; where no Redis is named, it
                     has a private one: see :mod:`sinapse.publisher.frameworks.development`
``RETAIN``           as `retain` of :class:`~sinapse.publisher.Publisher`; and so for
                     ``RETAIN_MESSAGES``, ``MAX_MESSAGE``, ``MAX_CONNECTIONS``,
                     ``CONNECT_TIMEOUT``, ``TIMEOUT`` and ``BATCH``
===================  =====================================================================

None is as good as nothing.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from sinapse.environment import DAEMON_URL, is_off
from sinapse.protocol.message import MAX_RETAIN
from sinapse.protocol.names import prefix_fault
from sinapse.protocol.redislist import parse_all
from sinapse.protocol.redisurl import EMBEDDED, from_environment
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.client import Publisher
from sinapse.publisher.operations.lifetime import MAX_LIFETIME
from sinapse.publisher.operations.numbers import is_number, is_whole
from sinapse.publisher.operations.retention import MAX_RETAIN_MESSAGES

#: Where a development server keeps what its daemon needs: a folder of the project.
FOLDER = ".sinapse"

#: Makes of a setting's name what a framework calls it.
Form: TypeAlias = Callable[[str], str]

#: Seconds, a day: a page that was open for longer asks for another token.
TOKEN_LIFETIME = 24 * 3600


@dataclass(frozen=True)
class Options:
    """What was read: where the daemon is, how long tokens live, and how to publish."""

    url: str
    token_lifetime: float
    arguments: Mapping[str, Any] = field(repr=False)
    """Of :class:`~sinapse.publisher.Publisher`."""
    autostart: Path | None = None
    """The folder of the daemon that starts with a development server; None if none does."""

    def publisher(self) -> Publisher:
        """Return a new publisher; raises ``ValueError`` for what the environment has wrong."""
        return Publisher(**self.arguments)


def faults(given: Mapping[str, object], form: Form, also: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong with the settings in `given`, a line each; secrets are not shown.

    `form` makes of a setting's name what the framework calls it; names in `also` are known to the
    caller.
    """
    for name, value in given.items():
        row = _TABLE.get(name)
        if row is None and name not in also:
            known = [*_TABLE, *also]
            close = get_close_matches(str(name).upper(), known, 1)
            others = f"did you mean {form(close[0])}?" if close else ", ".join(known)
            yield f"{form(name)} is not known: {others}"
        elif row is not None and value is not None:
            try:
                row[1](value)
            except ValueError as error:
                yield f"{form(name)} {error}"


def read(given: Mapping[str, object], form: Form, project: Path | None = None) -> Options:
    """Return what `given` says; the environment and defaults say the rest.

    `project` is the folder of the project, else the current one. Raises ``ValueError`` with the
    first of the `faults`.
    """
    for fault in faults(given, form):
        raise ValueError(fault)
    values = {
        argument: check(given[name])
        for name, (argument, check) in _TABLE.items()
        if given.get(name) is not None
    }
    try:
        url = values.pop("daemon", None) or _url(os.environ.get("SINAPSE_URL") or DAEMON_URL)
    except ValueError as error:
        raise ValueError(f"SINAPSE_URL {error}") from None
    folder = (project or Path()).absolute() / FOLDER if values.pop("autostart", False) else None
    if "url" not in values:
        values["url"] = _redis_otherwise(folder)
    return Options(url, values.pop("token_lifetime", TOKEN_LIFETIME), values, folder)


def _redis_otherwise(folder: Path | None) -> str:
    """Return where Redis is if no setting says so."""
    named = os.environ.get("REDIS_URL")
    private = None if named or folder is None else f"{EMBEDDED}{folder}"
    try:
        return _redis(private or from_environment(os.environ))
    except ValueError as error:
        raise ValueError(f"REDIS_URL {error}{f' ({private})' if private else ''}") from None


def _redis(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a URL")  # noqa: TRY004
    if APIURL.parse(value) is None:
        parse_all([value])
    return value


def _prefix(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a str, not {type(value).__name__}")  # noqa: TRY004
    if value and not is_off(value) and (fault := prefix_fault(value)):
        raise ValueError(fault)
    return value


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a URL, or a path that begins with /")  # noqa: TRY004
    try:
        parts = urlsplit(value)
        _ = parts.port  # Raises if it is no port.
    except ValueError:
        raise ValueError("cannot be read: check the host and the port") from None
    absolute = parts.scheme in ("http", "https") and parts.hostname
    path = not parts.scheme and not parts.netloc and value.startswith("/")
    plain = not (parts.query or parts.fragment or "@" in parts.netloc) and value.isprintable()
    if not ((absolute or path) and plain):
        raise ValueError("must be like https://push.example/, or a path that begins with /")
    return value if parts.path else f"{value}/"


def _number(least: float, most: float, unit: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        if not is_number(value):
            raise ValueError(f"must be a number of {unit}, not {value!r}")
        if not least <= value <= most:
            raise ValueError(f"must be {least:g} to {most:g} {unit}, not {value!r}")
        return value

    return check


def _count(most: int, unit: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not is_whole(value):
            raise ValueError(f"must be a whole number of {unit}, not {value!r}")
        return int(_number(1, most, unit)(value))

    return check


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {value!r}")  # noqa: TRY004  # As all here.
    return value


# What a setting is for the publisher or for us, and what reads it.
_TABLE: dict[str, tuple[str, Callable[[object], Any]]] = {
    "REDIS_URL": ("url", _redis),
    "URL": ("daemon", _url),
    "TOKEN_LIFETIME": ("token_lifetime", _number(1, MAX_LIFETIME, "seconds")),
    "PREFIX": ("prefix", _prefix),
    "AUTOSTART": ("autostart", _flag),
    "RETAIN": ("retain", _number(0, MAX_RETAIN, "seconds")),
    "RETAIN_MESSAGES": ("retain_messages", _count(MAX_RETAIN_MESSAGES, "messages")),
    "MAX_MESSAGE": ("max_message", _count(512 * 1024 * 1024, "bytes")),
    "MAX_CONNECTIONS": ("max_connections", _count(10_000, "connections")),
    "CONNECT_TIMEOUT": ("connect_timeout", _number(0.001, 3600, "seconds")),
    "TIMEOUT": ("timeout", _number(0.001, 3600, "seconds")),
    "BATCH": ("batch", _flag),
}
