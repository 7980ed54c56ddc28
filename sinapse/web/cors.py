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

# The parts of a regular expression, as far as they decide how long it takes and what it admits.
_PIECE = re.compile(
    r"(?P<plain>\\.|\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<open>\((?:\?(?:P<\w+>|[a-zA-Z-]*:|[=!>]|<[=!]))?)|(?P<close>\))|(?P<or>\|)"
    r"|(?P<some>(?:[*+]|\{[0-9]*,[0-9]*\})[?+]?)|(?P<times>\{[0-9]+\}[?+]?)|(?P<maybe>\?[?+]?)"
    r"|(?P<dot>\.)|.",
    re.DOTALL,
)

#: Bytes of an origin: a host name has 253 at most (RFC 1035 §2.3.4); scheme and port are short.
MAX_ORIGIN = 300

#: Repeats in a regular expression. Each of them may multiply the time by the length of an origin.
MAX_REPEATS = 3

#: Header fields that mean something. Where others are asked for, that is said back: libraries and
#: tools for tracing have their own, and a list of those would never be complete.
ALLOWED_HEADERS = b"Authorization, Cache-Control, Last-Event-ID, Sinapse-Stream"
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~-]+(?:\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)

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
        """Read `entries`; raises ``ValueError`` for an invalid one."""
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
        if len(origin) > MAX_ORIGIN:
            return False
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
            compiled = re.compile(entry, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"{entry!r} is not a regular expression: {error}") from None
    if (trouble := _trouble(entry)) is not None:
        raise ValueError(f"{entry!r} {trouble}")
    return compiled


def _trouble(entry: str) -> str | None:
    """Return why a regular expression admits too much, or may take seconds; None if it is good."""
    pieces = [(str(match.lastgroup), match[0]) for match in _PIECE.finditer(entry)]
    repeats = 0
    groups = [
        False
    ]  # Whether each group around, and one that has just ended, can be read in many ways.
    ended = False
    for (kind, _), (following, _) in zip(pieces, [*pieces[1:], ("end", "")], strict=True):
        if kind == "dot" and following not in ("some", "times", "maybe"):
            return r"has a dot that stands for any character: write \. for a dot"
        if kind in ("some", "times"):
            repeats += kind == "some"
            if ended:
                return "repeats what has repeats or alternatives in it, which can take very long"
        ended = False
        match kind:
            case "open":
                groups.append(False)
            case "close" if len(groups) > 1:
                ended = groups.pop()
                groups[-1] |= ended
            case "some" | "times" | "maybe" | "or":
                groups[-1] = True
    if repeats > MAX_REPEATS:
        return f"has more than {MAX_REPEATS} repeats, which can take very long"
    return None


def response_headers(
    origin: bytes | None, origins: Origins, *, vary: bytes = b"Origin"
) -> list[tuple[bytes, bytes]]:
    """Return the fields of an answer to a request from `origin`; `vary` is what it depends on."""
    if origin and origins.allows(origin):
        return _allowed(origin, vary)
    return [(b"Vary", vary)]


def preflight_headers(origin: bytes, asked: bytes | None = None) -> list[tuple[bytes, bytes]]:
    """Return the fields of the answer to a preflight request of an allowed `origin`.

    `asked` is which header fields it asks for: those that htmx, Datastar or tools for tracing add,
    for example.
    """
    names = asked if asked is not None and _NAMES.fullmatch(asked) else ALLOWED_HEADERS
    return [
        *_allowed(origin),
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST"),
        (b"Access-Control-Allow-Headers", names),
        (b"Access-Control-Max-Age", b"%d" % MAX_AGE),
    ]


def _allowed(origin: bytes, vary: bytes = b"Origin") -> list[tuple[bytes, bytes]]:
    return [
        (b"Vary", vary),
        # Never a star: with credentials browsers do not take it, and caches know whom it is for.
        (b"Access-Control-Allow-Origin", origin),
        # Some libraries always send credentials, and are refused without this. It gives nothing
        # away: either no cookie is read, or the origin is one that is named for that.
        (b"Access-Control-Allow-Credentials", b"true"),
    ]
