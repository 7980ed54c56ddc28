"""What a subject has at its home, tokens and sessions, as it stands in one place.

While a home moves, the other one is made the same: see :mod:`.moving`.
"""

from collections.abc import Callable
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
from sinapse.publisher.operations.operation import Argument, Operation, Request, T, call


@dataclass(frozen=True, slots=True)
class Life:
    """How long something lives."""

    ends: int | None
    """In whole seconds by the clock of its Redis, so that two readings are equal; None for ever."""
    left: bytes = field(compare=False)
    """The milliseconds that it has left, or -1, as Redis says it."""


#: The life of what does not end by itself.
ENDLESS = Life(None, b"-1")


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


class _Ask(Operation[T]):
    """Asks one Redis what `asked` makes of its names; `meant` tells what the answer means."""

    __slots__ = ("_asked", "_meant")

    def __init__(self, asked: Callable[[Names], Request], meant: Callable[[Any], T]) -> None:
        self._asked = asked
        self._meant = meant

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return self._asked(names)

    def result(self, answer: Any) -> T:
        """Return what the answer means."""
        return self._meant(answer)


@dataclass(frozen=True, slots=True)
class _AtHome:
    subject: str

    def places(self, shards: Shards) -> tuple[int, int | None]:
        """Return its place, and the other one if it moves."""
        subject = self.subject.encode()
        return shards.home(subject), shards.other_home(subject)

    def _told(self, names: Names, tells: bool) -> str:
        """Return where nodes are told of a token that ends, if they are."""
        return names.control_channel(self.subject, REVOKE) if tells else ""


@dataclass(frozen=True, slots=True)
class Token(_AtHome):
    """A token as such, whoever has given it to its subject."""

    token: str = field(repr=False)

    def read(self) -> Operation[TokenState]:
        """Return what reads it."""
        return _Ask(
            lambda names: call(names, READ_TOKEN, (names.token_key(self.token),), ()), _token
        )

    def write(self, state: TokenState) -> Operation[None]:
        """Return what makes it the same in another place."""
        arguments = state.subject, state.life.left
        return _Ask(
            lambda names: call(names, WRITE_TOKEN, (names.token_key(self.token),), arguments),
            _nothing,
        )

    def forget(self) -> Operation[None]:
        """Return what removes it, and tells nobody."""
        return self.write(TokenState("", ENDLESS))


@dataclass(frozen=True, slots=True)
class Tokens(_AtHome):
    """The tokens of a subject of some kind."""

    kind: str

    def read(self) -> Operation[TokensState]:
        """Return what reads them."""
        return _Ask(
            lambda names: call(
                names, READ_TOKENS, self._keys(names), (names.token_key(""), self.subject)
            ),
            _tokens,
        )

    def write(self, state: TokensState) -> Operation[None]:
        """Return what makes them the same in another place; nodes are told which end."""
        return self._write(state, tells=True)

    def forget(self) -> Operation[None]:
        """Return what removes them, and tells nobody."""
        return self._write(TokensState(), tells=False)

    def _write(self, state: TokensState, *, tells: bool) -> Operation[None]:
        def asked(names: Names) -> Request:
            arguments: list[Argument] = [names.token_key(""), self.subject]
            arguments += [self._told(names, tells), state.current, state.known_for]
            for each in state.held:
                arguments += [each.token, each.obtained, each.life.left]
            return call(names, WRITE_TOKENS, self._keys(names), arguments)

        return _Ask(asked, _nothing)

    def _keys(self, names: Names) -> tuple[str, str]:
        return (
            names.current_token_key(self.kind, self.subject),
            names.obtained_tokens_key(self.kind, self.subject),
        )


@dataclass(frozen=True, slots=True)
class Session(_AtHome):
    """A session of a subject, by its id."""

    session: str

    def read(self) -> Operation[SessionState]:
        """Return what reads it."""
        return _Ask(
            lambda names: call(names, READ_SESSION, self._keys(names), (self.session,)), _session
        )

    def write(self, state: SessionState) -> Operation[None]:
        """Return what makes it the same in another place; nodes are told if it ends."""
        return self._write(state, tells=True)

    def forget(self) -> Operation[None]:
        """Return what removes it, and tells nobody."""
        return self._write(SessionState(), tells=False)

    def _write(self, state: SessionState, *, tells: bool) -> Operation[None]:
        def asked(names: Names) -> Request:
            arguments: list[Argument] = [self.session, self.subject, names.token_key("")]
            arguments.append(self._told(names, tells))
            if state.fields:
                arguments += [state.place, state.life.left, *state.fields]
                arguments += [b"seen", state.seen] if state.seen else []
            return call(names, WRITE_SESSION, self._keys(names), arguments)

        return _Ask(asked, _nothing)

    def _keys(self, names: Names) -> tuple[str, str]:
        return names.sessions_key(self.subject), names.session_key(self.session)


def _token(answer: Any) -> TokenState:
    subject, left, now = answer
    return TokenState(subject.decode(errors="replace"), _life(left, now))


def _tokens(answer: Any) -> TokensState:
    now, current, known_for, *held = answer
    return TokensState(
        current,
        tuple(
            HeldToken(token, obtained, _life(left, now))
            for token, obtained, left in zip(held[::3], held[1::3], held[2::3], strict=True)
        ),
        _milliseconds(known_for),
    )


def _session(answer: Any) -> SessionState:
    now, *found = answer
    if not found:
        return SessionState()
    place, left, flat = found
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    seen = fields.pop(b"seen", b"")
    pairs = [text for pair in sorted(fields.items()) for text in pair]
    return SessionState(place, _life(left, now), tuple(pairs), seen)


def _nothing(_answer: object) -> None:
    """Return nothing: that it was done is all."""


def _life(left: int, now: bytes) -> Life:
    ends = (int(now) + left) // 1000 if left >= 0 else None
    return Life(ends, _milliseconds(left))


def _milliseconds(left: int) -> bytes:
    """Return what Redis says of a key as it takes it; a key that is not there lives for ever.

    In its last millisecond a key has 0 left, which Redis refuses to write.
    """
    return b"%d" % (max(left, 1) if left >= 0 else -1)
