"""Tokens: with one, a browser opens a stream in the name of a subject."""

from twisted.internet.defer import Deferred

from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.tokens import (
    USER,
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)
from sinapse.publisher.tx.connections import Runner, ask


class Tokens:
    """``publisher.tokens``: as :class:`sinapse.publisher.tokens.Tokens`, in Deferreds."""

    def __init__(self, connections: Runner, *, hashed: bool = False) -> None:
        self._connections = connections
        self._hashed = hashed

    def get(self, subject: SubjectId, kind: str = USER) -> "Deferred[str | None]":
        """Return the current token, or None if there is none or it has expired."""
        return ask(self._connections, GetToken, subject, kind, hashed=self._hashed)

    def generate(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> "Deferred[str]":
        """Return a new token; the former one is revoked, and its open streams end."""
        return ask(self._connections, GenerateToken, subject, kind, expires_in, hashed=self._hashed)

    def reset(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> "Deferred[str]":
        """Return a new token in place of the former one: Ruby's name for `generate`."""
        return self.generate(subject, kind, expires_in)

    def obtain(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> "Deferred[str]":
        """Return the current token, which lives for `expires_in` seconds at least from now on."""
        return ask(self._connections, ObtainToken, subject, kind, expires_in, hashed=self._hashed)

    def renew(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> "Deferred[bool]":
        """Let the current token live for `expires_in` seconds from now, and its streams with it."""
        return ask(self._connections, RenewToken, subject, kind, expires_in)

    def clear(self, subject: SubjectId, kind: str = USER) -> "Deferred[bool]":
        """Revoke the current token, and end its open streams; return whether there was one."""
        return ask(self._connections, ClearToken, subject, kind)
