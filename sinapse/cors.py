"""Which origins a browser may connect from (Fetch, "CORS protocol")."""

import re
import warnings
from collections.abc import Iterable

# A host or host:port, with an optional scheme, and "*." for its subdomains.
_PLAIN = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(\*\.)?"
    r"((?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?)"
)

# What is meant to be plain and is not: made of what plain entries are made of, or with a star
# after a slash. As a regular expression it would admit hosts that nobody had in mind.
_UNCLEAR = re.compile(r"(?:[a-z0-9_.:/*-]|\[[0-9a-f:.]*\])+|.*/\*.*")

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

# Between entries: white space or commas, but not the comma in a {2,3} of a regular expression.
_BETWEEN = re.compile(r"\s+|,+(?![^{]*\})")

#: Header fields that scripts may set on a request.
ALLOWED_HEADERS = b"Authorization, Cache-Control, Last-Event-ID"

#: Seconds that a browser may keep the answer to a preflight: the most that Chromium takes.
MAX_AGE = 7200


class Origins:
    """The configured origins.

    An entry is ``*`` (any), a host name with optional port (both http and https), a full origin,
    either with ``*.`` before the name for its subdomains, or a regular expression that the whole
    origin or the whole host must match. What could be a wildcard or a regular expression is
    refused.
    """

    def __init__(self, entries: Iterable[str] = ("*",)) -> None:
        """Read `entries`; raises ``ValueError`` for one that is none of these."""
        #: Every page may connect.
        self.any = False
        self._exact: set[str] = set()
        self._patterns: list[re.Pattern[str]] = []
        for text in entries:
            for entry in filter(None, _BETWEEN.split(text)):
                self._add(entry)
        if not (self.any or self._exact or self._patterns):
            raise ValueError("no origin given")

    def _add(self, entry: str) -> None:
        if entry == "*":
            self.any = True
        elif plain := _PLAIN.fullmatch(entry.lower().removesuffix("/")):
            scheme, star, host = plain.groups()
            for each in [scheme] if scheme else ["http", "https"]:
                # Browsers leave the default port out.
                name = host.removesuffix(_DEFAULT_PORTS.get(each, ""))
                if star:
                    subdomain = rf"{re.escape(each)}://(?:[a-z0-9_-]+\.)+{re.escape(name)}"
                    self._patterns.append(re.compile(subdomain))
                else:
                    self._exact.add(f"{each}://{name}")
        else:
            self._patterns.append(_regular_expression(entry))

    def allows(self, origin: bytes) -> bool:
        """Whether a page of `origin` may connect."""
        if self.any:
            return True
        text = origin.decode("ascii", "replace").lower()
        if text in self._exact:
            return True
        host = text.partition("://")[2]
        return any(each.fullmatch(text) or each.fullmatch(host) for each in self._patterns)


def _regular_expression(entry: str) -> re.Pattern[str]:
    if not (entry.isascii() and entry.isprintable()):
        raise ValueError(f"{entry!r} is no origin: those are ASCII (xn--...)")
    if _UNCLEAR.fullmatch(entry.lower()):
        raise ValueError(
            f"{entry!r} is neither a host name nor an origin, with or without *. before the name; "
            r"if it is a regular expression, escape its dots, as in https://.*\.host"
        )
    try:
        with warnings.catch_warnings():
            # Of what will mean something else in a later version of Python.
            warnings.simplefilter("error")
            return re.compile(entry, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"{entry!r} is not a regular expression: {error}") from None


def response_headers(
    origin: bytes | None, origins: Origins, *, credentials: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return the fields of an answer to a request from `origin`.

    With `credentials`, a page may send cookies and read the answer.
    """
    if origin and origins.allows(origin):
        return _allowed(origin, credentials=credentials)
    return [(b"Vary", b"Origin")]


def preflight_headers(origin: bytes, *, credentials: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the fields of the answer to a preflight request of an allowed `origin`."""
    return [
        *_allowed(origin, credentials=credentials),
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST"),
        (b"Access-Control-Allow-Headers", ALLOWED_HEADERS),
        (b"Access-Control-Max-Age", b"%d" % MAX_AGE),
    ]


def _allowed(origin: bytes, *, credentials: bool) -> list[tuple[bytes, bytes]]:
    # Never a star: with credentials browsers do not take it, and caches know whom it is for.
    headers = [(b"Vary", b"Origin"), (b"Access-Control-Allow-Origin", origin)]
    if credentials:
        headers.append((b"Access-Control-Allow-Credentials", b"true"))
    return headers
