"""What streams need of Redis, be it one or several: leave, a place in the table, replays."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeAlias

from sinapse.errors import CloseReason
from sinapse.hub.subscribers import Channel, Subject

#: Is told of a subject, its token, and when that expires, on the reactor's clock.
ExpiryTold: TypeAlias = Callable[[bytes, bytes, float], None]


class Joining(Protocol):
    """A stream on its way in."""

    @property
    def token(self) -> bytes:
        """What it was admitted with."""


class Entry(Protocol):
    """What is known of a token."""

    @property
    def subject(self) -> bytes:
        """Who it stands for."""

    @property
    def expires(self) -> float | None:
        """When it does, on the reactor's clock: no later than for Redis; None if it does not."""


class Admission(Protocol):
    """Leave to open a stream, to be used in the very turn of the reactor that brought it."""

    @property
    def joining(self) -> Any:
        """For :meth:`Table.open`; a :class:`Joining`."""

    @property
    def entry(self) -> Entry:
        """What its token is good for."""


class Authority(Protocol):
    """Who says who may listen to what."""

    @property
    def ready(self) -> bool:
        """Whether it can say so now."""

    @property
    def state(self) -> str:
        """How it is, in words."""

    async def admit(self, token: bytes) -> Admission:
        """Give leave; raises ``Unauthorized``, ``LimitReached``, or ``BrokerUnavailable``."""

    def withdraw(self, admission: Any) -> None:
        """Take back leave that is not used."""

    async def look_up(self, token: bytes) -> Entry:
        """Return what is known of `token`; raises as :meth:`admit` does."""

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Tell when the tokens of open streams expire, whenever that is read again."""


class Table(Protocol):
    """Who listens to what on this node."""

    @property
    def subjects(self) -> Mapping[bytes, Subject]:
        """Subjects with open streams."""

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that somebody here may listen to."""

    @property
    def here(self) -> Any:
        """Where who is live now goes on; its text is the id to resume from."""

    def streams_of(self, subject: bytes) -> Sequence[Any]:
        """Return the open streams of a subject, the oldest first."""

    def channels_of(self, subject_id: bytes) -> AbstractSet[bytes]:
        """Return what a subject with open streams may listen to."""

    def is_live(self, subscriber: Any) -> bool:
        """Whether a stream gets what is dispatched: it neither replays nor is held."""

    def open(self, joining: Any, make: Callable[[], Any], *, live: bool = True) -> Any:
        """End a join with an open stream, which `make` makes; raises as ``Authority.admit``."""

    def where(self, subscriber: Any) -> Any:
        """Return where a stream goes on, as :attr:`here`; None if it is not live."""

    def suspend(self, subscriber: Any) -> Any:
        """Give a stream nothing more until it resumes from what is returned, as :meth:`where`."""

    def leave(self, subscriber: Any) -> None:
        """Forget a stream that has ended."""

    def end(self, subscriber: Any, reason: CloseReason) -> None:
        """End a stream, after what was dispatched for it."""


class Resumptions(Protocol):
    """Who brings streams up to date."""

    def begin(self, connection: Any, last_event_id: str) -> None:
        """Resume a stream that gets nothing yet, after what its client sent as an id."""
