"""What a subject has at its home, tokens and sessions, as it stands in one place.

While a home moves, the other one is made the same: see :mod:`.moving`.
"""

from dataclasses import dataclass, field
from typing import Any

from sinapse.protocol.keys import REVOKE
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import (
    READ_SESSION,
    READ_TOKEN,
    READ_TOKENS,
    WRITE_SESSION,
    WRITE_TOKEN,
    WRITE_TOKENS,
)
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.operation import Argument, Operation, Request, call


@dataclass(frozen=True, slots=True)
class Life:
    """How long something lives."""

    ends: int | None
    """In whole seconds by the clock of its Redis, so that two readings are equal; None for ever."""
    left: bytes = field(compare=False)
    """The milliseconds that it has left, or -1, as Redis says it."""


@dataclass(frozen=True, slots=True)
class TokenState:
    """A token: who it stands for, nobody if it is not there."""

    subject: str
    life: Life

    @property
    def ends(self) -> bool:
        """Whether it ends by itself."""
        return self.life.ends is not None


@dataclass(frozen=True, slots=True)
class HeldToken:
    """A token of a subject, and when it was obtained first, by a clock in milliseconds."""

    token: bytes = field(repr=False)
    obtained: bytes
    life: Life


@dataclass(frozen=True, slots=True)
class TokensState:
    """The tokens of a subject of some kind, and which is the current one."""

    current: bytes = field(default=b"", repr=False)
    held: tuple[HeldToken, ...] = ()
    known_for: bytes = field(default=b"-1", compare=False)
    """The milliseconds for which it is known when they were obtained, or -1."""

    @property
    def ends(self) -> bool:
        """Whether any of them ends by itself."""
        return any(each.life.ends is not None for each in self.held)


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session: nothing if it is not there."""

    place: bytes = b""
    life: Life = Life(None, b"-1")  # It does not change.
    fields: tuple[bytes, ...] = ()
    """Their names and values, but for when it was seen last."""
    seen: bytes = field(default=b"", compare=False)

    @property
    def ends(self) -> bool:
        """Whether it ends by itself."""
        return self.life.ends is not None


@dataclass(frozen=True, slots=True)
class _AtHome:
    subject: str

    def places(self, shards: Shards) -> tuple[int, int | None]:
        """Return its place, and the other one if it moves."""
        subject = self.subject.encode()
        return shards.home(subject), shards.other_home(subject)


@dataclass(frozen=True, slots=True)
class Token(_AtHome):
    """A token as such, whoever has given it to its subject."""

    token: str = field(repr=False)

    def read(self) -> Operation[TokenState]:
        """Return what reads it."""
        return ReadToken(self)

    def write(self, state: TokenState) -> Operation[None]:
        """Return what makes it the same in another place."""
        return WriteToken(self, state)

    def forget(self) -> Operation[None]:
        """Return what removes it, and tells nobody."""
        return WriteToken(self, TokenState("", Life(None, b"-1")))


@dataclass(frozen=True, slots=True)
class Tokens(_AtHome):
    """The tokens of a subject of some kind."""

    kind: str

    def read(self) -> Operation[TokensState]:
        """Return what reads them."""
        return ReadTokens(self)

    def write(self, state: TokensState) -> Operation[None]:
        """Return what makes them the same in another place; nodes are told which end."""
        return WriteTokens(self, state)

    def forget(self) -> Operation[None]:
        """Return what removes them, and tells nobody."""
        return WriteTokens(self, TokensState(), tells=False)


@dataclass(frozen=True, slots=True)
class Session(_AtHome):
    """A session of a subject, by its id."""

    session: str

    def read(self) -> Operation[SessionState]:
        """Return what reads it."""
        return ReadSession(self)

    def write(self, state: SessionState) -> Operation[None]:
        """Return what makes it the same in another place; nodes are told if it ends."""
        return WriteSession(self, state)

    def forget(self) -> Operation[None]:
        """Return what removes it, and tells nobody."""
        return WriteSession(self, SessionState(), tells=False)


class ReadToken(Operation[TokenState]):
    """Who a token stands for, and until when."""

    __slots__ = ("of",)

    def __init__(self, of: Token) -> None:
        self.of: Token = of

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, READ_TOKEN, (names.token_key(self.of.token),), ())

    def result(self, answer: Any) -> TokenState:
        """Return it."""
        subject, left, now = answer
        return TokenState(subject.decode(errors="replace"), _life(left, now))


class WriteToken(Operation[None]):
    """Makes a token what it is in another place."""

    __slots__ = ("of", "state")

    def __init__(self, of: Token, state: TokenState) -> None:
        self.of: Token = of
        self.state: TokenState = state

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        key = names.token_key(self.of.token)
        return call(names, WRITE_TOKEN, (key,), (self.state.subject, self.state.life.left))

    def result(self, answer: Any) -> None:
        """Return nothing."""


class _OfTokens:
    __slots__ = ()

    of: Tokens

    def _keys(self, names: Names) -> tuple[str, str]:
        of = self.of
        return (
            names.current_token_key(of.kind, of.subject),
            names.obtained_tokens_key(of.kind, of.subject),
        )


class ReadTokens(_OfTokens, Operation[TokensState]):
    """The tokens of a subject of some kind, and until when they live."""

    __slots__ = ("of",)

    def __init__(self, of: Tokens) -> None:
        self.of: Tokens = of

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, READ_TOKENS, self._keys(names), (names.token_key(""), self.of.subject))

    def result(self, answer: Any) -> TokensState:
        """Return them."""
        now, current, known_for, *held = answer
        return TokensState(
            current,
            tuple(
                HeldToken(token, obtained, _life(left, now))
                for token, obtained, left in zip(held[::3], held[1::3], held[2::3], strict=True)
            ),
            _milliseconds(known_for),
        )


class WriteTokens(_OfTokens, Operation[None]):
    """Makes the tokens of a subject what they are in another place."""

    __slots__ = ("of", "state", "tells")

    def __init__(self, of: Tokens, state: TokensState, *, tells: bool = True) -> None:
        self.of: Tokens = of
        self.state: TokensState = state
        self.tells: bool = tells

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(self.of.subject, REVOKE) if self.tells else ""
        arguments: list[Argument] = [names.token_key(""), self.of.subject, told]
        arguments += [self.state.current, self.state.known_for]
        for each in self.state.held:
            arguments += [each.token, each.obtained, each.life.left]
        return call(names, WRITE_TOKENS, self._keys(names), arguments)

    def result(self, answer: Any) -> None:
        """Return nothing."""


class _OfSession:
    __slots__ = ()

    of: Session

    def _keys(self, names: Names) -> tuple[str, str]:
        return names.sessions_key(self.of.subject), names.session_key(self.of.session)


class ReadSession(_OfSession, Operation[SessionState]):
    """What a session is."""

    __slots__ = ("of",)

    def __init__(self, of: Session) -> None:
        self.of: Session = of

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, READ_SESSION, self._keys(names), (self.of.session,))

    def result(self, answer: Any) -> SessionState:
        """Return it."""
        now, *found = answer
        if not found:
            return SessionState()
        place, left, flat = found
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        seen = fields.pop(b"seen", b"")
        pairs = [text for pair in sorted(fields.items()) for text in pair]
        return SessionState(place, _life(left, now), tuple(pairs), seen)


class WriteSession(_OfSession, Operation[None]):
    """Makes a session what it is in another place."""

    __slots__ = ("of", "state", "tells")

    def __init__(self, of: Session, state: SessionState, *, tells: bool = True) -> None:
        self.of: Session = of
        self.state: SessionState = state
        self.tells: bool = tells

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(self.of.subject, REVOKE) if self.tells else ""
        arguments: list[Argument] = [*(self.of.session, self.of.subject, names.token_key(""), told)]
        state = self.state
        if state.fields:
            arguments += [state.place, state.life.left, *state.fields]
            arguments += [b"seen", state.seen] if state.seen else []
        return call(names, WRITE_SESSION, self._keys(names), arguments)

    def result(self, answer: Any) -> None:
        """Return nothing."""


def _life(left: int, now: bytes) -> Life:
    ends = (int(now) + left) // 1000 if left >= 0 else None
    return Life(ends, _milliseconds(left))


def _milliseconds(left: int) -> bytes:
    """Return what Redis says of a key as it takes it; a key that is not there lives for ever."""
    return b"%d" % max(left, -1)
