"""Tokens: with one, a browser opens a stream in the name of a subject."""

from sinapse.keys import (
    REVOKE,
    control_channel,
    current_token_key,
    kind_name,
    new_token,
    token_key,
)
from sinapse.publisher.connections import Connections
from sinapse.publisher.identity import SubjectId, given_id
from sinapse.scripts import CLEAR_TOKEN, GENERATE_TOKEN, OBTAIN_TOKEN, RENEW_TOKEN

#: The kind of a subject where none is named.
USER = "User"

#: Seconds, 317 years: more is a mistake, and Redis refuses what its clock cannot add up.
MAX_LIFETIME = 10**10


class Tokens:
    """``publisher.tokens``: one current token for each subject and kind.

    The kind is the name of the subject's class: ``User`` 1 and ``Admin`` 1 each have a token.
    Every operation raises :class:`~sinapse.errors.InvalidSubject` for what is no subject, and
    :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def get(self, subject: SubjectId, kind: str = USER) -> str | None:
        """Return the current token, or None if there is none or it has expired."""
        key = current_token_key(kind_name(kind), given_id(subject))
        token: bytes | None = self._connections.execute("GET", key)
        return None if token is None else token.decode(errors="replace")

    def generate(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> str:
        """Return a new token; the former one is revoked, and its open streams end.

        `expires_in` is seconds, of which milliseconds count; without it the token is valid until
        it is cleared or replaced. Raises ``ValueError`` if that is not a time to come.
        """
        subject = given_id(subject)
        current = current_token_key(kind_name(kind), subject)
        expiry = _expiry(expires_in)
        while True:
            token = new_token()
            written = self._connections.run(
                GENERATE_TOKEN,
                [current, token_key(token)],
                [token, subject, token_key(""), control_channel(subject, REVOKE), *expiry],
            )
            if written:
                return token

    def reset(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> str:
        """Return a new token in place of the former one: the origin's name for `generate`.

        The origin forgot to delete the former token, which stayed valid. Here it does not.
        """
        return self.generate(subject, kind, expires_in)

    def obtain(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> str:
        """Return the current token, which lives for `expires_in` seconds at least from now on.

        If there is none, a new one is made. For a page that is loaded: those that are open already
        keep their streams, and of several that come at once all get the same token. Without
        `expires_in` it does not expire; ``ValueError`` as :meth:`generate`.
        """
        subject = given_id(subject)
        current = current_token_key(kind_name(kind), subject)
        expiry = _expiry(expires_in)[1:]
        while True:
            new = new_token()
            token: bytes | None = self._connections.run(
                OBTAIN_TOKEN,
                [current, token_key(new)],
                [new, subject, token_key(""), *expiry],
            )
            if token:
                return token.decode(errors="replace")

    def renew(self, subject: SubjectId, kind: str = USER, expires_in: float | None = None) -> bool:
        """Let the current token live for `expires_in` seconds from now, and its streams with it.

        Without `expires_in` it does not expire any more. A life is never made shorter. Returns
        whether there was a token; ``ValueError`` as :meth:`generate`.
        """
        return bool(
            self._connections.run(
                RENEW_TOKEN,
                [current_token_key(kind_name(kind), given_id(subject))],
                [token_key(""), *_expiry(expires_in)[1:]],
            )
        )

    def clear(self, subject: SubjectId, kind: str = USER) -> bool:
        """Revoke the current token, and end its open streams; return whether there was one."""
        subject = given_id(subject)
        return bool(
            self._connections.run(
                CLEAR_TOKEN,
                [current_token_key(kind_name(kind), subject)],
                [token_key(""), control_channel(subject, REVOKE)],
            )
        )


def _expiry(seconds: float | None) -> tuple[str, ...]:
    """Return the operands of SET for a lifetime."""
    if seconds is None:
        return ()
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_LIFETIME:
        raise ValueError(f"expires_in is seconds, over 0 and up to {MAX_LIFETIME}: {seconds!r}")
    return ("PX", str(max(1, round(seconds * 1000))))
