"""The URL of the HTTP API, for publishers that use it in place of Redis."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SCHEMES = ("http+sinapse", "https+sinapse")

#: The port of the API where none is given: one of our own, as 9000 is that of streams.
PORT = 9002


class APIURL(NamedTuple):
    """Where the API is: ``http+sinapse://KEY@host:port/``. Its text never contains the key."""

    secure: bool
    host: str
    port: int
    key: str

    def __str__(self) -> str:
        return f"{SCHEMES[self.secure]}://{self.host}:{self.port}/"

    @classmethod
    def parse(cls, text: str) -> "APIURL | None":
        """Read a URL; None if it is no URL of the API. Raises ``ValueError``, quoting nothing."""
        scheme, found, _ = text.partition("://")
        if not found or scheme not in SCHEMES:
            return None
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("cannot be read: check the host and the port") from None
        if not host or not parts.username or parts.password:
            raise ValueError(f"is written {scheme}://KEY@host:port/")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"has nothing after the port: {scheme}://KEY@host:port/")
        return cls(scheme == SCHEMES[1], host, port or PORT, unquote(parts.username))
