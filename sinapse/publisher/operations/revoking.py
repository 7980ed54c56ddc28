"""Tokens that end: every node is told, by whatever Redis it still hears."""

from collections.abc import Callable, Sequence
from typing import Any

from sinapse.protocol.keys import REVOKE, control_channel, revoked_key
from sinapse.protocol.scripts import REVOKE_TOKEN
from sinapse.protocol.sharding import shard_of
from sinapse.publisher.operations.identity import SubjectId, given_id
from sinapse.publisher.operations.operation import Operation, Request, T, call

#: Milliseconds, a day: for how long the other Redis remember that a token was revoked. A node that
#: was disconnected from all of them for longer asks the one that had the token.
REMEMBERED = 24 * 3600 * 1000


class Revoking(Operation[T]):
    """An operation on tokens of a subject, which may revoke some.

    All Redis get an announcement of these, so that every node receives it.
    """

    __slots__ = ("former", "subject")

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)
        #: The revoked tokens, as they were stored.
        self.former: Sequence[bytes] = ()

    @property
    def spread_by(self) -> str:
        """The subject, whose tokens are all in one Redis."""
        return self.subject

    @property
    def _told(self) -> str:
        return control_channel(self.subject, REVOKE)

    def announcements(self) -> Sequence[Operation[Any]]:
        """Return the same control messages as in the Redis of the tokens."""
        return [_Revoked(token, self._told) for token in self.former]


class _Revoked(Operation[None]):
    """Announces a revoked token to a Redis that did not have it."""

    __slots__ = ("_token", "_told")

    def __init__(self, token: bytes, told: str) -> None:
        self._token = token.decode(errors="replace")
        self._told = told

    def request(self) -> Request:
        """Return the command."""
        arguments = (self._token, self._told, str(REMEMBERED))
        return call(REVOKE_TOKEN, (revoked_key(self._token),), arguments)

    def result(self, answer: Any) -> None:
        """Return nothing: it does not matter how many nodes received it."""


def draw(new: Callable[[], str], stored: Callable[[str], str], subject: str, count: int) -> str:
    """Return a `new` token that has its place, as it is `stored`, where the subject has its own.

    That is one of `count` Redis.
    """
    home = shard_of(subject.encode(), count)
    token = new()
    while shard_of(stored(token).encode(), count) != home:
        token = new()
    return token
