"""Keys of the API: a request needs one from a file, as a bearer token (RFC 6750)."""

import re
from hashlib import sha256
from pathlib import Path

#: Characters of a key: what nobody guesses, at five bits each.
MIN_LENGTH = 32

_KEY = re.compile(r"[\x21-\x7e]+")


class Keys:
    """The keys of a file, one on each line; empty lines and ``#`` comments are skipped."""

    def __init__(self, path: Path) -> None:
        """Read the keys; raises ``ValueError`` with the reason, which never quotes a key."""
        self._path = path
        self._digests = _read(path)

    def renew(self) -> None:
        """Read them again; raises ``ValueError``, and then changes nothing."""
        self._digests = _read(self._path)

    def allow(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header field has one of the keys.

        It compares digests, so that the time says nothing about a key.
        """
        scheme, _, key = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and sha256(key.strip()).digest() in self._digests


def _read(path: Path) -> frozenset[bytes]:
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise ValueError("has characters that are not ASCII") from None
    digests = set()
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if len(key) < MIN_LENGTH or not _KEY.fullmatch(key):
            raise ValueError(f"line {number}: a key has {MIN_LENGTH} characters or more, no spaces")
        digests.add(sha256(key.encode()).digest())
    if not digests:
        raise ValueError("there is no key in it")
    return frozenset(digests)
