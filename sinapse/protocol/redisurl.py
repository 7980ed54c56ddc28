"""Where Redis is: the one reading of ``REDIS_URL`` for the daemon and the publisher.

=========================================  ==================================================
``redis://user:password@host:port/db``     TCP; everything but the scheme may be left out
``rediss://…``                             the same over TLS, certificate and name checked
``redis+sentinel://…@host:port,…/name/db``  the master that Sentinels call `name`
``rediss+sentinel://…``                    the same, Sentinels and nodes over TLS
``unix:///path/redis.sock?db=0``           a UNIX socket
``embedded:FOLDER``                        the private Valkey of a daemon on this machine
=========================================  ==================================================

User and password are those of the Redis nodes; for Sentinels with a password there are
``?sentinel_username=…&sentinel_password=…``. Over TLS, ``?ssl_ca_certs=FILE`` names the
certificates to trust (PEM) in place of those that the machine trusts. With ``?prefix=staging:``,
all names that Sinapse uses there begin with that: see :mod:`sinapse.protocol.names`.

Of several Redis each may have a name before its URL, as in ``a=redis://a.example``: see
:mod:`sinapse.protocol.redislist`.

Reserved characters in user, password and options are percent-encoded (RFC 3986 §2.1). A password
that is not encoded would end early, and its rest would count as host, port or path, which are shown
in logs: a URL that may have such a password is refused.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sinapse.errors import InvalidPrefix
from sinapse.protocol.names import Names, names_under, prefix_fault
from sinapse.protocol.sharding import State, name_fault

DEFAULT_URL = "redis://localhost:6379/0"
EMBEDDED = "embedded:"

#: Name of the embedded server's socket in its folder.
EMBEDDED_SOCKET = "valkey.sock"

#: Bytes: ``sun_path`` holds 108 on Linux and 104 on macOS, the final NUL included.
MAX_SOCKET_PATH = 103

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix")

SENTINEL_PORT = 26379

# What may be in the query, and the part of the scheme that it needs.
_OPTIONS = {
    "db": "",
    "prefix": "",
    "state": "",
    "tokens": "",
    "ssl_ca_certs": "rediss",
    "sentinel_username": "sentinel",
    "sentinel_password": "sentinel",
}

# Scheme, authority, path and query.
_PARTS = re.compile(r"([^:]*)://([^/?#]*)([^?#]*)\??(.*)")

# What stands before a scheme, and the rest: in a query there is an equals sign, too.
_NAMED = re.compile(r"([^:=]*)=([A-Za-z][A-Za-z+]*:.*)", re.DOTALL)

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_ENCODE = (
    "cannot be read: the password must be percent-encoded (/ ? # @ % are %2F %3F %23 %40 %25), "
    "and so must whatever else is special or not printable"
)

#: Why a list is refused in which there is one.
ONLY_ONE = "an embedded server is the only one"


@dataclass(frozen=True)
class RedisURL:
    """A parsed URL. Its text never contains the password."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    """UNIX socket; `host` and `port` mean nothing when it is set."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_certs: Path | None = None
    """File of the certificates to trust, absolute; None for those that the machine trusts."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of Sentinels; `host` and `port` mean nothing when there are some."""
    master: str = ""
    """What the Sentinels call the master."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    embedded: Path | None = None
    """Folder of the embedded server, absolute; its socket is in `path`."""
    prefix: str = ""
    """What all names there begin with that Sinapse uses."""
    name: str = ""
    """What this one of several Redis is called; empty for its place in the list."""
    state: State | None = None
    """How far it has joined the others, or has left them; None if it is one of them."""
    keeps_tokens: bool = True
    """Whether it may be the home of subjects; otherwise it has channels only."""

    @cached_property
    def names(self) -> Names:
        """The names that Sinapse uses there."""
        return names_under(self.prefix)

    def __str__(self) -> str:
        return f"{self.name}={self._address}" if self.name else self._address

    @property
    def _address(self) -> str:
        """The URL without a name."""
        if self.embedded is not None:
            return f"{EMBEDDED}{self.embedded}"
        if self.path is not None:
            return f"unix://{quote(self.path)}?db={self.db}" + self._query("&")
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            hosts = ",".join(_authority(*sentinel) for sentinel in self.sentinels)
            path = f"{quote(self.master, safe='')}/{self.db}{self._query()}"
            return f"{scheme}+sentinel://{hosts}/{path}"
        return f"{scheme}://{_authority(self.host, self.port)}/{self.db}{self._query()}"

    def _query(self, first: str = "?") -> str:
        options = [f"prefix={quote(self.prefix, safe=':')}"] if self.prefix else []
        options += [] if self.keeps_tokens else ["tokens=no"]
        options += [] if self.state is None else [f"state={self.state}"]
        return first + "&".join(options) if options else ""

    def node(self, host: str, port: int) -> "RedisURL":
        """Return the URL of the node that the Sentinels name."""
        return RedisURL(
            host=host,
            port=port,
            db=self.db,
            username=self.username,
            password=self.password,
            tls=self.tls,
            ca_certs=self.ca_certs,
            prefix=self.prefix,
        )

    def sentinel(self, host: str, port: int) -> "RedisURL":
        """Return the URL of one of the Sentinels."""
        return replace(
            self.node(host, port),
            db=0,
            username=self.sentinel_username,
            password=self.sentinel_password,
        )

    @classmethod
    def parse(cls, url: str) -> "RedisURL":
        """Read `url`; raises ``ValueError`` with a short reason that does not quote the URL."""
        name, url = split_name(url.strip())
        found = cls._parse_address(url)
        return replace(found, name=name) if name else found

    @classmethod
    def _parse_address(cls, url: str) -> "RedisURL":
        if url.startswith(EMBEDDED):
            return cls._embedded(url.removeprefix(EMBEDDED))
        if not url.isprintable():
            raise ValueError(_ENCODE)
        parts = _split(url)
        common = cls(
            username=parts.username,
            password=parts.password,
            tls=parts.scheme.startswith("rediss"),
            ca_certs=_ca_certs(parts.options),
            prefix=_prefix(parts.options),
            state=_state(parts.options.get("state")),
            keeps_tokens=_keeps_tokens(parts.options.get("tokens", "yes")),
        )
        if parts.scheme == "unix":
            if parts.hosts or not parts.path:
                raise ValueError("a UNIX socket is written unix:///path?db=0")
            path = _socket_path(_decoded(parts.path))
            return replace(common, path=path, db=_db(parts.options.get("db")))
        if parts.scheme.endswith("+sentinel"):
            return common._with_sentinels(parts)
        host, port = _address(parts.hosts, cls.port)
        return replace(
            common,
            host=host or cls.host,
            port=port,
            db=_db(parts.path.strip("/") or parts.options.get("db")),
        )

    def _with_sentinels(self, parts: "_Parts") -> "RedisURL":
        sentinels = tuple(_address(each, SENTINEL_PORT) for each in parts.hosts.split(","))
        if not all(host for host, _ in sentinels):
            raise ValueError("the Sentinels are written host:port,host:port")
        master, _, db = parts.path.removeprefix("/").partition("/")
        master = _decoded(master)
        if not master or not master.isprintable():
            raise ValueError("after the Sentinels comes the name of the master: …/name/db")
        username, password = _account(
            parts.options.get("sentinel_username"), parts.options.get("sentinel_password")
        )
        return replace(
            self,
            sentinels=sentinels,
            master=master,
            db=_db(db.strip("/") or parts.options.get("db")),
            sentinel_username=username,
            sentinel_password=password,
        )

    @classmethod
    def _embedded(cls, folder: str) -> "RedisURL":
        if not folder:
            raise ValueError("embedded: needs a folder, as in embedded:/var/lib/sinapse")
        if "://" in folder:  # More of a list: no folder is called so.
            raise ValueError(ONLY_ONE)
        if not folder.isprintable():
            raise ValueError("the name of the folder must be printable")
        try:
            path = Path(folder).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError("the home folder of that user is not known") from error
        return cls(path=_socket_path(str(path / EMBEDDED_SOCKET)), embedded=path)


def from_environment(environment: Mapping[str, str]) -> str:
    """Return the URL that the environment names, or the default."""
    return environment.get("REDIS_URL") or DEFAULT_URL


def split_name(url: str) -> tuple[str, str]:
    """Return the name that stands before a URL, empty for none, and the URL."""
    match = _NAMED.fullmatch(url)
    if match is None:
        return "", url
    if fault := name_fault(match[1]):
        raise ValueError(fault)
    return match[1], match[2]


class _Parts(NamedTuple):
    """A URL in pieces; `hosts` and `path` are still encoded."""

    scheme: str
    username: str | None
    password: str | None
    hosts: str
    path: str
    options: Mapping[str, str]


def _split(url: str) -> _Parts:
    if "://" not in url:
        raise ValueError("has no scheme: write redis://HOST:6379/0, or embedded:FOLDER")
    match = _PARTS.fullmatch(url)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in SCHEMES:
        raise ValueError(f"the scheme must be one of {', '.join(SCHEMES)}, embedded")
    _, authority, path, rest = match.groups()
    if "@" in path or "@" in rest or "#" in rest:
        raise ValueError(_ENCODE)
    account, _, hosts = authority.rpartition("@")
    username, _, password = account.partition(":")
    return _Parts(
        scheme,
        *_account(_decoded(username), _decoded(password)),
        hosts,
        path,
        _options(rest, scheme),
    )


def _options(query: str, scheme: str) -> dict[str, str]:
    options = {}
    for each in query.split("&") if query else []:
        name, _, value = each.partition("=")
        if name not in _OPTIONS or _OPTIONS[name] not in scheme:
            raise ValueError(
                "the options are db, prefix, state, tokens, with rediss ssl_ca_certs, and with "
                "Sentinels sentinel_username and sentinel_password"
            )
        options[name] = _decoded(value)
    return options


def _decoded(text: str) -> str:
    # unquote alone would keep what is no escape, and replace what is no UTF-8.
    if _BAD_ESCAPE.search(text):
        raise ValueError(_ENCODE)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(_ENCODE) from None


def _account(username: str | None, password: str | None) -> tuple[str | None, str | None]:
    if username and not password:
        # Perhaps it is the password, where the colon was forgotten.
        raise ValueError("a user has a password, user:password; the password alone is :password")
    return username or None, password or None


def _address(text: str, default: int) -> tuple[str, int]:
    """Return the host, which may be empty, and the port."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        raise ValueError("cannot be read: check the host and the port") from None
    if port == 0:
        raise ValueError("port out of range 1-65535")
    return parts.hostname or "", default if port is None else port


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _socket_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("the path of the socket has a NUL in it")
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of the socket is over {MAX_SOCKET_PATH} bytes")
    return path


def _db(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database must be a number from 0")
    return int(text)


def _prefix(options: Mapping[str, str]) -> str:
    prefix = options.get("prefix")
    if prefix is None:
        return ""
    if fault := prefix_fault(prefix):
        raise InvalidPrefix(f"the prefix {fault}")
    return prefix


def _state(text: str | None) -> State | None:
    try:
        return None if text is None else State(text)
    except ValueError:
        raise ValueError(f"the state must be one of {', '.join(State)}") from None


def _keeps_tokens(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("tokens must be yes or no")
    return text == "yes"


def _ca_certs(options: Mapping[str, str]) -> Path | None:
    name = options.get("ssl_ca_certs")
    if name is None:
        return None
    path = Path(name).absolute()
    # Not Path.is_file(), which raises for some names.
    if not os.path.isfile(path):  # noqa: PTH113
        raise ValueError("the file that ssl_ca_certs names is not there")
    return path
