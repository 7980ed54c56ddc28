"""Tokens that end: every node is told, by whatever Redis it still hears."""

from collections.abc import Callable, Sequence
from typing import Any

from sinapse.protocol.keys import REVOKE, hashed_token, session_id
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import REVOKE_TOKEN
from sinapse.protocol.sharding import Shards, numbered
from sinapse.publisher.operations.identity import SubjectId, given_id
from sinapse.publisher.operations.operation import Operation, Request, T, call

#: Milliseconds, a day: for how long several Redis remember that a token was revoked. A node that
#: was disconnected from all of them for longer asks the one that had the token.
REMEMBERED = 24 * 3600 * 1000


class Revoking(Operation[T]):
    """An operation on tokens of a subject, which may revoke some.

    The other Redis get an announcement of these, so that every node receives it.
    """

    __slots__ = ("former", "subject")

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)
        #: The revoked tokens, as they were stored.
        self.former: Sequence[bytes] = ()

    def revoked(self, tokens: Sequence[bytes]) -> None:
        """Note which tokens Redis has revoked, as they were stored."""
        self.former = tokens

    @property
    def spread_by(self) -> str:
        """The subject, whose tokens are all in one Redis."""
        return self.subject

    def place(self, shards: Shards) -> int:
        """Return which Redis is the home of the subject."""
        return shards.home(self.spread_by.encode())

    def _told(self, names: Names) -> str:
        return names.control_channel(self.subject, REVOKE)

    def other(self, shards: Shards) -> int | None:
        """Return the other home of the subject, if that moves."""
        return shards.other_home(self.spread_by.encode())

    def announcements(self) -> Sequence[Operation[Any]]:
        """Return what tells another Redis of each token: it may have a copy of it."""
        return [_Revoked(self.subject, token) for token in self.former]


class _Revoked(Operation[None]):
    """Announces a revoked token to a Redis that is not its home."""

    __slots__ = ("_subject", "_token")

    def __init__(self, subject: str, token: bytes) -> None:
        self._subject = subject
        self._token = token.decode(errors="replace")

    def request(self, names: Names) -> Request:
        """Return the command."""
        told = names.control_channel(self._subject, REVOKE)
        keys = [names.revoked_key(self._token), names.token_key(self._token)]
        if (session := session_id(self._token.encode())) is not None:
            keys.append(names.session_key(session))
        return call(names, REVOKE_TOKEN, keys, (self._token, told, str(REMEMBERED)))

    def result(self, answer: Any) -> None:
        """Return nothing: it does not matter how many nodes received it."""


class NewToken:
    """A token of `subject` that `make` has made; its Redis is that of the subject."""

    __slots__ = ("_hashed", "_make", "_shards", "_subject", "text")

    def __init__(self, subject: str, make: Callable[[], str], *, hashed: bool) -> None:
        self._subject = subject
        self._make = make
        self._hashed = hashed
        self._shards = numbered(1)
        self.text: str = make()

    @property
    def stored(self) -> str:
        """The token as it is stored in Redis."""
        return hashed_token(self.text) if self._hashed else self.text

    def spread_over(self, shards: Shards) -> None:
        """Make one whose place among several Redis is where the subject has its own."""
        self._shards = shards
        self.make_another()

    def make_another(self) -> None:
        """Make another one in its place."""
        home = self._shards.home(self._subject.encode())
        self.text = self._make()
        while self._shards.home(self.stored.encode()) != home:
            self.text = self._make()
