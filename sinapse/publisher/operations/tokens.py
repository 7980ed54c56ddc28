"""Tokens: one current token for each subject and kind.

An operation checks its arguments: it raises :class:`~sinapse.errors.InvalidSubject`, ``ValueError``
for a lifetime that is not positive, and, if tokens are `hashed`,
:class:`~sinapse.errors.TokenIsHashed` when it should return the current one.
"""

from collections.abc import Sequence
from typing import Any

from sinapse.errors import TokenIsHashed
from sinapse.protocol.keys import kind_name, new_token
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import (
    CLEAR_TOKEN,
    GENERATE_TOKEN,
    OBTAIN_TOKEN,
    RENEW_TOKEN,
)
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.homes import Tokens
from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.lifetime import lifetime
from sinapse.publisher.operations.operation import Operation, Request, T, call
from sinapse.publisher.operations.revoking import NewToken, Revoking

#: The kind of a subject if none is given.
USER = "User"


class _OfSubject(Revoking[T]):
    __slots__ = ("kind",)

    def __init__(self, subject: SubjectId, kind: str) -> None:
        super().__init__(subject)
        self.kind: str = kind_name(kind)

    def _keys(self, names: Names) -> tuple[str, str]:
        """Return the keys of the current token, and of those that were obtained."""
        return (
            names.current_token_key(self.kind, self.subject),
            names.obtained_tokens_key(self.kind, self.subject),
        )


class _Changing(_OfSubject[T]):
    """Changes the tokens."""

    __slots__ = ()

    @property
    def entries(self) -> Sequence[Tokens]:
        """All of that kind."""
        return (Tokens(self.subject, self.kind),)


class _WithNewToken(_Changing[str]):
    """May generate a token."""

    __slots__ = ("_new", "expires_in")

    def __init__(
        self, subject: SubjectId, kind: str, expires_in: float | None, *, hashed: bool = False
    ) -> None:
        super().__init__(subject, kind)
        self.expires_in: int | None = lifetime(expires_in)
        self._new = NewToken(self.subject, new_token, hashed=hashed)

    @property
    def token(self) -> str:
        """The new token."""
        return self._new.text

    @property
    def stored(self) -> str:
        """The token as it is stored in Redis."""
        return self._new.stored

    def spread_over(self, shards: Shards) -> None:
        """Generate a token whose Redis is that of the subject."""
        self._new.spread_over(shards)


class GetToken(_OfSubject[str | None]):
    """The current token, or None if there is none or it has expired."""

    __slots__ = ()

    def __init__(self, subject: SubjectId, kind: str, *, hashed: bool = False) -> None:
        super().__init__(subject, kind)
        _require_plain(hashed)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return Request(("GET", self._keys(names)[0]))

    def result(self, answer: bytes | None) -> str | None:
        """Return the token."""
        return None if answer is None else answer.decode(errors="replace")


class GenerateToken(_WithNewToken):
    """A new token in place of the current one, for `expires_in` seconds, or for ever."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        expiry = () if self.expires_in is None else ("PX", str(self.expires_in))
        return call(
            names,
            GENERATE_TOKEN,
            (*self._keys(names), names.token_key(self.stored)),
            (self.stored, self.subject, names.token_key(""), self._told(names), *expiry),
        )

    def result(self, answer: list[bytes] | int) -> str | Operation[str]:
        """Return the token; if Redis has it already, try a new one."""
        if isinstance(answer, list):
            self.revoked(answer)
            return self.token
        self._new.make_another()
        return self


class ObtainToken(_WithNewToken):
    """The current token, or a new one, with at least `expires_in` seconds to live, or for ever.

    A token that was first obtained longer ago than that is not returned: it expires by itself.
    """

    __slots__ = ()

    def __init__(
        self, subject: SubjectId, kind: str, expires_in: float | None, *, hashed: bool = False
    ) -> None:
        super().__init__(subject, kind, expires_in)
        _require_plain(hashed)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        expiry = () if self.expires_in is None else (str(self.expires_in),)
        return call(
            names,
            OBTAIN_TOKEN,
            (*self._keys(names), names.token_key(self.stored)),
            (self.stored, self.subject, names.token_key(""), *expiry),
        )

    def result(self, answer: bytes | None) -> str | Operation[str]:
        """Return the token; if Redis has the new one already, try the next."""
        if answer:
            return answer.decode(errors="replace")
        self._new.make_another()
        return self


class RenewToken(_Changing[bool]):
    """Extends the life of the current token; the result is whether there was one."""

    __slots__ = ("expires_in",)

    def __init__(self, subject: SubjectId, kind: str, expires_in: float | None) -> None:
        super().__init__(subject, kind)
        self.expires_in: int | None = lifetime(expires_in)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        expiry = () if self.expires_in is None else (str(self.expires_in),)
        return call(names, RENEW_TOKEN, self._keys(names), (names.token_key(""), *expiry))

    def result(self, answer: Any) -> bool:
        """Return whether there was one."""
        return bool(answer)


class ClearToken(_Changing[bool]):
    """Revokes the current token, and those before it; the result is whether there was one."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, CLEAR_TOKEN, self._keys(names), (names.token_key(""), self._told(names)))

    def result(self, answer: list[bytes]) -> bool:
        """Return whether there was one."""
        self.revoked(answer)
        return bool(answer)


def _require_plain(hashed: bool) -> None:
    if hashed:
        raise TokenIsHashed("tokens are hashed in Redis: keep the one that generate() returned")
