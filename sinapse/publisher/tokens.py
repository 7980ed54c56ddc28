"""Tokens: with one, a browser opens a stream in the name of a subject."""

from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.operations.tokens import (
    USER,
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)


class Tokens:
    """``publisher.tokens``: one current token for each subject and kind.

    The kind is the name of the subject's class: ``User`` 1 and ``Admin`` 1 each have a token.
    Every operation raises :class:`~sinapse.errors.InvalidSubject` for what is no subject, and
    :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses. Where tokens are
    `hashed` in Redis, nobody can tell the current one: :meth:`get` and :meth:`obtain` raise
    :class:`~sinapse.errors.TokenIsHashed`.

    Where there are several Redis, all of them are told of a token that is revoked, the one that has
    it first. One that is away then does not matter to the call, which may take as long as it takes
    to find that out: nodes hear of it from those that are there.
    """

    def __init__(self, connections: Runner, *, hashed: bool = False) -> None:
        self._run = connections.run
        self._hashed = hashed

    def get(self, subject: SubjectId, kind: str = USER) -> str | None:
        """Return the current token, or None if there is none or it has expired."""
        return self._run(GetToken(subject, kind, hashed=self._hashed))

    def generate(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> str:
        """Return a new token; the former one is revoked, and its open streams end.

        So are those before it that :meth:`obtain` has left to run out.

        `expires_in` is seconds, of which milliseconds count; without it the token is valid until
        it is cleared or replaced. Raises ``ValueError`` if that is not a time to come.
        """
        return self._run(GenerateToken(subject, kind, expires_in, hashed=self._hashed))

    def reset(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> str:
        """Return a new token in place of the former one: Ruby's name for `generate`.

        Ruby's Sinapse forgot to delete the former token, which stayed valid. Here it does not.
        """
        return self.generate(subject, kind, expires_in)

    def obtain(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> str:
        """Return the current token, which lives for `expires_in` seconds at least from now on.

        If there is none, a new one is made; so it is when the current one was obtained first
        `expires_in` seconds ago, or earlier: that is left to run out, and has lived for two such
        times then at most. For a page that is loaded: those that are open already keep their
        streams, and of several that come at once all get the same token. Without `expires_in` it
        does not expire, and is told for ever; ``ValueError`` as :meth:`generate`.
        """
        return self._run(ObtainToken(subject, kind, expires_in, hashed=self._hashed))

    def renew(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> bool:
        """Let the current token live for `expires_in` seconds from now, and its streams with it.

        Without `expires_in` it does not expire any more. A life is never made shorter. Returns
        whether there was a token; ``ValueError`` as :meth:`generate`.
        """
        return self._run(RenewToken(subject, kind, expires_in))

    def clear(self, subject: SubjectId, kind: str = USER) -> bool:
        """Revoke the current token, and end its open streams; return whether there was one.

        So are those before it that :meth:`obtain` has left to run out.
        """
        return self._run(ClearToken(subject, kind))
