"""Where Redis is: the one reading of ``REDIS_URL`` for the daemon and the publisher.

====================================  =====================================================
``redis://user:password@host:port/db``  TCP; everything but the scheme may be left out
``rediss://…``                          the same over TLS, certificate and name checked
``unix:///path/redis.sock?db=0``        a UNIX socket
``embedded:FOLDER``                     the private Valkey of a daemon on this machine
====================================  =====================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_URL = "redis://localhost:6379/0"
EMBEDDED = "embedded:"

#: Name of the embedded server's socket in its folder.
EMBEDDED_SOCKET = "valkey.sock"

#: Bytes: ``sun_path`` holds 108 on Linux and 104 on macOS, the final NUL included.
MAX_SOCKET_PATH = 103


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
    embedded: Path | None = None
    """Folder of the embedded server, absolute; its socket is in `path`."""

    def __str__(self) -> str:
        if self.embedded is not None:
            return f"{EMBEDDED}{self.embedded}"
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, url: str) -> "RedisURL":
        """Read `url`; raises ``ValueError`` with a short reason that does not quote the URL."""
        if url.startswith(EMBEDDED):
            return cls._embedded(url.removeprefix(EMBEDDED))
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # urllib quotes what it cannot read: perhaps a password with a slash in it.
            raise ValueError(
                "cannot be read: check the port, and percent-encode the password"
            ) from None
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
            raise ValueError("the scheme must be redis, rediss, unix or embedded")
        return cls(
            host=parts.hostname or cls.host,
            port=_port(port),
            db=_db(parts.path.strip("/") or _last(options, "db")),
            tls=parts.scheme == "rediss",
            username=username,
            password=password,
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


def _port(port: int | None) -> int:
    if port == 0:
        raise ValueError("port out of range 1-65535")
    return RedisURL.port if port is None else port


def _db(text: str | None) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database must be a number from 0")
    return int(text)


def _last(options: Mapping[str, list[str]], name: str) -> str | None:
    return options[name][-1] if name in options else None
