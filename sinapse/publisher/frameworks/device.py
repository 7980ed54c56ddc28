"""The device of a page: its session, which is kept where a framework keeps its own.

Pure: what is to be asked of Redis is yielded, and whoever drives it puts that to a publisher.
"""

from collections.abc import Generator
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, TypeVar

from sinapse.publisher.operations.identity import given_id
from sinapse.publisher.operations.sessions import MAX_DEVICE, NewSession, given_session_id
from sinapse.publisher.sessions import Sessions

T = TypeVar("T")

#: Yields calls of ``publisher.sessions``, and is sent what they return; returns the result.
Asking: TypeAlias = Generator[methodcaller, Any, T]

#: What the session of a framework has ours by.
KEY = "_sinapse"


class Kept(Protocol):
    """The session of a framework: what it keeps for one browser."""

    def get(self, key: str, /) -> Any:
        """Return what is there; None if there is nothing."""

    def __setitem__(self, key: str, value: Any, /) -> None: ...

    def __delitem__(self, key: str, /) -> None: ...


class Held(NamedTuple):
    """A session of ours, as that of a framework has it."""

    subject: str
    id: str
    token: str

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Return what is kept under :data:`KEY`; None if that is nothing of ours."""
        match value:
            case {"subject": str(subject), "id": str(session), "token": str(token)}:
                return cls(subject, session, token) if _can_be(subject, session) else None
        return None


def _can_be(subject: str, session: str) -> bool:
    """Whether there can be a session of that id: what is kept may be of another version."""
    try:
        given_session_id(session)
        given_id(subject)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Device:
    """A browser: what is kept for it, and what it says that it is (RFC 9110 §10.1.5)."""

    kept: Kept
    user_agent: str | None = None

    @property
    def held(self) -> Held | None:
        """The session that it has; it may have ended meanwhile."""
        return Held.read(self.kept.get(KEY))

    def token(self, subject: str, lifetime: float) -> Asking[str]:
        """Return the token of its session, which lives for `lifetime` seconds from now on.

        A session that has ended, or is of another subject, gives way to a new one. What is kept
        changes only then: frameworks save it as a whole, over what others save at the same time.
        """
        held = self.held
        if held is not None and held.subject == subject:
            is_there: bool = yield methodcaller("renew", subject, held.id, lifetime)
            if is_there:
                return held.token
        else:
            yield from self.end()
        name = name_of(self.user_agent)
        new: NewSession = yield methodcaller("open", subject, device=name, expires_in=lifetime)
        self.kept[KEY] = Held(subject, new.id, new.token)._asdict()
        return new.token

    def end(self) -> Asking[bool]:
        """End its session; return whether there was one. If Redis fails, the device keeps it."""
        held = self.held
        if held is None:
            return False
        was_there: bool = yield methodcaller("end", held.subject, held.id)
        del self.kept[KEY]
        return was_there

    def end_others(self, subject: str) -> Asking[int]:
        """End the sessions of `subject` on other devices; return how many ended."""
        held = self.held
        but = held.id if held is not None and held.subject == subject else None
        ended: int = yield methodcaller("end_all", subject, but)
        return ended


def name_of(user_agent: str | None) -> str | None:
    """Return a name for a device: what it says that it is, as far as that can be shown."""
    shown = "".join(filter(str.isprintable, user_agent or "")).strip()
    return shown[:MAX_DEVICE] or None


def ask(asking: Asking[T], sessions: Sessions) -> T:
    """Call `sessions` for what is asked, and return the result; raises what they raise."""
    answer: Any = None
    try:
        while True:
            answer = asking.send(answer)(sessions)
    except StopIteration as ended:
        result: T = ended.value
        return result
