"""Where Redis is: the one reading of ``REDIS_URL`` for the daemon and the publisher.

=========================================  ==================================================
``redis://user:password@host:port/db``     TCP; everything but the scheme may be left out
``rediss://…``                             the same over TLS, certificate and name checked
``redis+sentinel://…@host:port,…/name/db``  the master that Sentinels call `name`
``rediss+sentinel://…``                    the same, Sentinels and nodes over TLS
``unix:///path/redis.sock?db=0``           a UNIX socket
``embedded:FOLDER``                        the private Valkey of a daemon on this machine
=========================================  ==================================================

User and password are those of the Redis nodes; Sentinels that ask for some get them by
``?sentinel_username=…&sentinel_password=…``. Over TLS, ``?ssl_ca_certs=FILE`` names the
certificates to trust (PEM) instead of those that the machine trusts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

DEFAULT_URL = "redis://localhost:6379/0"
EMBEDDED = "embedded:"

#: Name of the embedded server's socket in its folder.
EMBEDDED_SOCKET = "valkey.sock"

#: Bytes: ``sun_path`` holds 108 on Linux and 104 on macOS, the final NUL included.
MAX_SOCKET_PATH = 103

SCHEMES = "redis, rediss, redis+sentinel, rediss+sentinel, unix, embedded"

SENTINEL_PORT = 26379

_SENTINEL = "+sentinel://"

#: What follows the scheme: authority, path and query.
_PARTS = re.compile(r"([^/?#]*)([^?]*)\??(.*)", re.DOTALL)


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

    def __str__(self) -> str:
        if self.embedded is not None:
            return f"{EMBEDDED}{self.embedded}"
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            hosts = ",".join(_authority(*sentinel) for sentinel in self.sentinels)
            return f"{scheme}{_SENTINEL}{hosts}/{quote(self.master, safe='')}/{self.db}"
        return f"{scheme}://{_authority(self.host, self.port)}/{self.db}"

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
        if url.startswith(EMBEDDED):
            return cls._embedded(url.removeprefix(EMBEDDED))
        scheme, is_sentinel, rest = url.partition(_SENTINEL)
        if is_sentinel and scheme in ("redis", "rediss"):
            return cls._with_sentinels(scheme, rest)
        parts, port = _split(url)
        options = parse_qs(parts.query)
        username = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        if parts.scheme == "unix":
            if parts.hostname or not parts.path:
                raise ValueError("a UNIX socket is written unix:///path?db=0")
            return cls(
                path=unquote(parts.path),
                db=_db(_last(options, "db")),
                username=username,
                password=password,
            )
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError(f"the scheme must be one of {SCHEMES}")
        tls = parts.scheme == "rediss"
        return cls(
            host=parts.hostname or cls.host,
            port=_port(port, cls.port),
            db=_db(parts.path.strip("/") or _last(options, "db")),
            tls=tls,
            ca_certs=_ca_certs(options, tls),
            username=username,
            password=password,
        )

    @classmethod
    def _with_sentinels(cls, scheme: str, rest: str) -> "RedisURL":
        """Read what follows the scheme: several hosts, which urllib does not know."""
        authority, path, query = _PARTS.fullmatch(rest).groups()  # type: ignore[union-attr]  # any
        account, at, hosts = authority.rpartition("@")
        sentinels = []
        for text in hosts.split(","):
            parts, port = _split(f"redis://{text}")
            if not parts.hostname or parts.path:
                raise ValueError("the Sentinels are written host:port,host:port")
            sentinels.append((parts.hostname, _port(port, SENTINEL_PORT)))
        node, _ = _split(f"{scheme}://{account}{at}node/")
        master, _, db = path.removeprefix("/").partition("/")
        if not master:
            raise ValueError("after the Sentinels comes the name of the master: …/name/db")
        options = parse_qs(query)
        tls = scheme == "rediss"
        return cls(
            sentinels=tuple(sentinels),
            master=unquote(master),
            db=_db(db.strip("/") or _last(options, "db")),
            tls=tls,
            ca_certs=_ca_certs(options, tls),
            username=unquote(node.username) if node.username else None,
            password=unquote(node.password) if node.password else None,
            sentinel_username=_last(options, "sentinel_username"),
            sentinel_password=_last(options, "sentinel_password"),
        )

    @classmethod
    def _embedded(cls, folder: str) -> "RedisURL":
        if not folder:
            raise ValueError("embedded: needs a folder, as in embedded:/var/lib/sinapse")
        try:
            path = Path(folder).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError("the home folder of that user is not known") from error
        socket = str(path / EMBEDDED_SOCKET)
        if len(socket.encode()) > MAX_SOCKET_PATH:
            raise ValueError(f"the path of the socket in it is over {MAX_SOCKET_PATH} bytes")
        return cls(path=socket, embedded=path)


def from_environment(environment: Mapping[str, str]) -> str:
    """Return the URL that the environment names, or the default."""
    return environment.get("REDIS_URL") or DEFAULT_URL


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # urllib quotes what it cannot read: perhaps a password with a slash in it.
        raise ValueError(
            "cannot be read: check the port, and percent-encode the password"
        ) from None
    return parts, port


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _port(port: int | None, default: int) -> int:
    if port == 0:
        raise ValueError("port out of range 1-65535")
    return default if port is None else port


def _db(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database must be a number from 0")
    return int(text)


def _ca_certs(options: Mapping[str, list[str]], tls: bool) -> Path | None:
    name = _last(options, "ssl_ca_certs")
    if name is None:
        return None
    if not tls:
        raise ValueError("ssl_ca_certs is for rediss and rediss+sentinel only")
    path = Path(name).absolute()
    if not path.is_file():
        raise ValueError("the file that ssl_ca_certs names is not there")
    return path


def _last(options: Mapping[str, list[str]], name: str) -> str | None:
    return options[name][-1] if name in options else None
