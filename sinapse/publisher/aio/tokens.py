"""Tokens: with one, a browser opens a stream in the name of a subject."""

from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.aio.shards import ShardedConnections
from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.tokens import (
    USER,
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)


class Tokens:
    """``publisher.tokens``: as :class:`sinapse.publisher.tokens.Tokens`, to be awaited."""

    def __init__(
        self, connections: Connections | ShardedConnections, *, hashed: bool = False
    ) -> None:
        self._run = connections.run
        self._hashed = hashed

    async def get(self, subject: SubjectId, kind: str = USER) -> str | None:
        """Return the current token, or None if there is none or it has expired."""
        return await self._run(GetToken(subject, kind, hashed=self._hashed))

    async def generate(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> str:
        """Return a new token; the former one is revoked, and its open streams end."""
        return await self._run(GenerateToken(subject, kind, expires_in, hashed=self._hashed))

    async def reset(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> str:
        """Return a new token in place of the former one: Ruby's name for `generate`."""
        return await self.generate(subject, kind, expires_in)

    async def obtain(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> str:
        """Return the current token, which lives for `expires_in` seconds at least from now on."""
        return await self._run(ObtainToken(subject, kind, expires_in, hashed=self._hashed))

    async def renew(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> bool:
        """Let the current token live for `expires_in` seconds from now, and its streams with it."""
        return await self._run(RenewToken(subject, kind, expires_in))

    async def clear(self, subject: SubjectId, kind: str = USER) -> bool:
        """Revoke the current token, and end its open streams; return whether there was one."""
        return await self._run(ClearToken(subject, kind))
