"""Which origins a browser may connect from (Fetch, "CORS protocol")."""

import re
from collections.abc import Iterable

# A host or host:port, with an optional scheme, and "*." for its subdomains; anything else is a
# regular expression.
_PLAIN = re.compile(
    r"(?:(https?)://)?(\*\.)?((?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::\d+)?)"
)

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

# Between entries: white space or commas, but not the comma in a {2,3} of a regular expression.
_BETWEEN = re.compile(r"[\s,]+(?![^{]*\})")

#: Header fields that scripts may set on a request.
ALLOWED_HEADERS = b"Authorization, Cache-Control, Last-Event-ID"

#: Seconds that a browser may keep the answer to a preflight: the most that Chromium takes.
MAX_AGE = 7200


class Origins:
    """The configured origins.

    An entry is ``*`` (any), a host name with optional port (both http and https), a full origin,
    either with ``*.`` before the name for its subdomains, or a regular expression that the whole
    origin or the whole host must match.
    """

    def __init__(self, entries: Iterable[str] = ("*",)) -> None:
        """Read `entries`; raises ``ValueError`` for one that is none of these."""
        self._any = False
        self._exact: set[str] = set()
        self._patterns: list[re.Pattern[str]] = []
        for text in entries:
            for entry in filter(None, _BETWEEN.split(text)):
                self._add(entry)
        if not (self._any or self._exact or self._patterns):
            raise ValueError("no origin given")

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._any = True
        elif plain := _PLAIN.fullmatch(entry.lower().removesuffix("/")):
            scheme, star, host = plain.groups()
            for each in [scheme] if scheme else ["http", "https"]:
                # Browsers leave the default port out.
                name = host.removesuffix(_DEFAULT_PORTS[each])
                if star:
                    subdomain = rf"{each}://(?:[a-z0-9_-]+\.)+{re.escape(name)}"
                    self._patterns.append(re.compile(subdomain))
                else:
                    self._exact.add(f"{each}://{name}")
        else:
            try:
                self._patterns.append(re.compile(entry, re.IGNORECASE))
            except re.error as error:
                raise ValueError(f"{entry!r} is not a regular expression: {error}") from None

    def allows(self, origin: bytes) -> bool:
        """Whether a page of `origin` may connect."""
        if self._any:
            return True
        text = origin.decode("ascii", "replace").lower()
        if text in self._exact:
            return True
        host = text.partition("://")[2]
        return any(each.fullmatch(text) or each.fullmatch(host) for each in self._patterns)


def response_headers(origin: bytes | None, origins: Origins) -> list[tuple[bytes, bytes]]:
    """Return the fields of an answer to a request from `origin`."""
    headers = [(b"Vary", b"Origin")]
    if origin and origins.allows(origin):
        headers.append((b"Access-Control-Allow-Origin", origin))
    return headers


def preflight_headers(origin: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of the answer to a preflight request of an allowed `origin`."""
    return [
        (b"Vary", b"Origin"),
        (b"Access-Control-Allow-Origin", origin),
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST"),
        (b"Access-Control-Allow-Headers", ALLOWED_HEADERS),
        (b"Access-Control-Max-Age", b"%d" % MAX_AGE),
    ]
