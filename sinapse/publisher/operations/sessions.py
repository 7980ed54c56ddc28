"""Sessions: any number of tokens for a subject, each of one device, that end one by one.

An operation checks its arguments: it raises :class:`~sinapse.errors.InvalidSubject`,
:class:`~sinapse.errors.InvalidChannel`, or ``ValueError`` for anything else that cannot be.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sinapse.errors import InvalidChannel
from sinapse.protocol.keys import (
    SESSION_ID_LENGTH,
    channel_name,
    new_session_token,
    plain,
    session_id,
)
from sinapse.protocol.names import Names
from sinapse.protocol.only import ANY
from sinapse.protocol.scripts import END_SESSIONS, LIST_SESSIONS, OPEN_SESSION, RENEW_SESSION
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations import homes
from sinapse.publisher.operations.identity import (
    ChannelLike,
    ChannelsLike,
    SubjectId,
    each_channel,
)
from sinapse.publisher.operations.lifetime import lifetime
from sinapse.publisher.operations.numbers import is_whole, shown
from sinapse.publisher.operations.operation import Operation, Request, T, call
from sinapse.publisher.operations.revoking import NewToken, Revoking

#: How many sessions a subject has, if the publisher is not told anything else; and the most that it
#: can be told.
SESSIONS = 100
MAX_SESSIONS = 1000

#: Characters of a device's name.
MAX_DEVICE = 256

#: Channels and prefixes that a token can be for: they are read whenever a stream opens.
MAX_ONLY = 100

_ID = re.compile(f"[0-9a-f]{{{SESSION_ID_LENGTH}}}")

#: A number as text, of a length that Python reads.
_DIGITS = re.compile("[0-9]{1,100}")


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was opened, with the token that nobody is told again."""

    id: str
    token: str = field(repr=False)
    ended: tuple[str, ...] = ()
    """Ids of the oldest sessions, which were ended because there were too many."""


@dataclass(frozen=True, slots=True)
class Session:
    """What Redis knows of a session. Times are seconds since 1970, by the clock of Redis."""

    id: str
    device: str | None
    """What it was opened for, in the words of the application."""
    only: frozenset[str] | None
    """The channels and prefixes that its token is for; None for all of the list."""
    opened: float
    seen: float | None
    """When a stream of it was open last, to the minute; None if none was."""
    expires: float | None
    """When it expires by itself; None for never."""


class OpenSession(Revoking[NewSession]):
    """Opens a session; if there are `most` of them, the oldest ends."""

    __slots__ = ("_ended", "_new", "device", "expires_in", "most", "only")

    def __init__(
        self,
        subject: SubjectId,
        device: str | None = None,
        expires_in: float | None = None,
        only: ChannelLike | ChannelsLike | None = None,
        *,
        most: int = SESSIONS,
        hashed: bool = False,
    ) -> None:
        super().__init__(subject)
        self.device: str | None = _device(device)
        #: In milliseconds.
        self.expires_in: int | None = lifetime(expires_in)
        self.only: frozenset[str] | None = None if only is None else _only(only)
        self.most: int = most
        self._new = NewToken(self.subject, new_session_token, hashed=hashed)
        self._ended: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """The new token."""
        return self._new.text

    @property
    def session(self) -> str:
        """The id."""
        return session_id(self.token.encode()) or ""

    @property
    def entries(self) -> Sequence[homes.Session]:
        """It, and those that were ended."""
        return [homes.Session(self.subject, each) for each in (self.session, *self._ended)]

    def spread_over(self, shards: Shards) -> None:
        """Generate a token whose Redis is that of the subject."""
        self._new.spread_over(shards)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        stored = self._new.stored
        return call(
            names,
            OPEN_SESSION,
            (
                names.sessions_key(self.subject),
                names.session_key(self.session),
                names.token_key(stored),
            ),
            (
                *(self.session, stored, self.subject),
                "" if self.expires_in is None else str(self.expires_in),
                self.device or "",
                "\n".join(sorted(self.only or ())),
                *(str(self.most), names.session_key(""), names.token_key(""), self._told(names)),
            ),
        )

    def result(self, answer: list[list[bytes]] | int) -> NewSession | Operation[NewSession]:
        """Return the session; if Redis has its token already, try a new one."""
        if isinstance(answer, list):
            ended, tokens = answer
            self.revoked(tokens)
            self._ended = tuple(map(_text, ended))
            return NewSession(self.session, self.token, self._ended)
        self._new.make_another()
        return self


class ListSessions(Revoking[list[Session]]):
    """The sessions of a subject, the oldest first."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(
            names, LIST_SESSIONS, (names.sessions_key(self.subject),), (names.session_key(""),)
        )

    def result(self, answer: list[list[bytes]]) -> list[Session]:
        """Return them."""
        return [_read(each) for each in answer]


class RenewSession(Revoking[bool]):
    """Extends the life of a session; the result is whether there was that session."""

    __slots__ = ("expires_in", "session")

    def __init__(self, subject: SubjectId, session: str, expires_in: float | None = None) -> None:
        super().__init__(subject)
        self.session: str = given_session_id(session)
        #: In milliseconds.
        self.expires_in: int | None = lifetime(expires_in)

    @property
    def entries(self) -> Sequence[homes.Session]:
        """It."""
        return (homes.Session(self.subject, self.session),)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        life = "" if self.expires_in is None else str(self.expires_in)
        keys = names.sessions_key(self.subject), names.session_key(self.session)
        return call(names, RENEW_SESSION, keys, (self.session, life, names.token_key("")))

    def result(self, answer: Any) -> bool:
        """Return whether there was one."""
        return bool(answer)


class _End(Revoking[T]):
    """Ends the session `one` of a subject, or all but one."""

    __slots__ = ("but", "one")

    def __init__(self, subject: SubjectId, one: str, but: str) -> None:
        super().__init__(subject)
        self.one: str = one
        self.but: str = but

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(
            names,
            END_SESSIONS,
            (names.sessions_key(self.subject),),
            (self.one, self.but, names.session_key(""), names.token_key(""), self._told(names)),
        )


class EndSession(_End[bool]):
    """Ends a session of a subject; the result is whether there was that session."""

    __slots__ = ()

    def __init__(self, subject: SubjectId, session: str) -> None:
        super().__init__(subject, given_session_id(session), "")

    @property
    def entries(self) -> Sequence[homes.Session]:
        """It, even if it has ended already: an attempt before may have failed in the midst."""
        return (homes.Session(self.subject, self.one),)

    def result(self, answer: list[bytes]) -> bool:
        """Return whether there was one."""
        self.revoked(answer)
        return bool(answer)


class EndSessions(_End[int]):
    """Ends all sessions of a subject, `but` one if it is given; the result is how many."""

    __slots__ = ()

    def __init__(self, subject: SubjectId, but: str | None = None) -> None:
        super().__init__(subject, "", "" if but is None else given_session_id(but))

    @property
    def entries(self) -> Sequence[homes.Session]:
        """Those that were ended."""
        ids = map(session_id, self.former)
        return [homes.Session(self.subject, each) for each in ids if each is not None]

    def elsewhere(self, place: int) -> Operation[int]:  # noqa: ARG002
        """End those that the other home has left: an attempt before may have failed."""
        return EndSessions(self.subject, self.but or None)

    def result(self, answer: list[bytes]) -> int:
        """Return how many there were."""
        self.revoked(answer)
        return len(answer)


def max_sessions(environment: Mapping[str, str], given: object) -> int:
    """Return how many sessions a subject may have: `given`, or what the environment says.

    Raises ``ValueError`` for what is no such number.
    """
    name = "max_sessions"
    if given is None:
        name = "SINAPSE_MAX_SESSIONS"
        text = environment.get(name) or str(SESSIONS)
        given = int(text) if _DIGITS.fullmatch(text) else text
    if not is_whole(given) or not 1 <= given <= MAX_SESSIONS:
        raise ValueError(f"{name} is a whole number, 1 to {MAX_SESSIONS}: {given!r:.80}")
    return given


def _read(answer: Sequence[bytes]) -> Session:
    session, opened, seen, device, only, expires = answer
    return Session(
        _text(session),
        _text(device) or None,
        frozenset(_text(only).split("\n")) if only else None,
        _seconds(opened) or 0.0,
        _seconds(seen),
        _seconds(expires),
    )


def given_session_id(value: object) -> str:
    """Return the id of a session; raises ``ValueError`` for what cannot be one."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        what = shown(value) if isinstance(value, str) else type(value).__name__
        raise ValueError(f"a session's id is {SESSION_ID_LENGTH} hexadecimal digits, not {what}")
    return plain(value)


def _device(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"a device is a str, not {type(value).__name__}")  # noqa: TRY004
    text = plain(value)
    if not 0 < len(text) <= MAX_DEVICE or not text.isprintable():
        raise ValueError(f"a device is 1 to {MAX_DEVICE} printable characters: {text!r:.80}")
    return text


def _only(given: ChannelLike | ChannelsLike) -> frozenset[str]:
    channels = each_channel(given)
    if not channels:
        raise InvalidChannel("only is empty: a token that is for nothing cannot open a stream")
    if len(channels) > MAX_ONLY:
        raise InvalidChannel(f"only has {len(channels)} channels, and {MAX_ONLY} at the most")
    return frozenset(map(_name_or_prefix, channels))


def _name_or_prefix(channel: ChannelLike) -> str:
    if not isinstance(channel, str) or not channel.endswith(ANY):
        return channel_name(channel)
    if channel == ANY:
        raise InvalidChannel("only has '*', which is all of the list: leave it out for that")
    return channel_name(channel.removesuffix(ANY)) + ANY


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace")


def _seconds(milliseconds: bytes) -> float | None:
    try:
        return int(milliseconds) / 1000
    except (ValueError, OverflowError):
        return None
