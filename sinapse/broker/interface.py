"""What streams need of Redis, be it one or several."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

from sinapse.errors import CloseReason
from sinapse.hub.joining import Joining
from sinapse.hub.subscribers import Channel, Subject, Subscriber

#: Is told of a subject, its token, and when that expires, on the reactor's clock.
ExpiryTold: TypeAlias = Callable[[bytes, bytes, float], None]


class Resuming(Subscriber, Protocol):
    """An open stream, which may have to be brought up to date."""

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""


class Admitted(NamedTuple):
    """The right to open a stream, as far as one Redis can give it."""

    joining: Joining
    session: object
    """The life of the connections that it rests on."""


class Admission(NamedTuple):
    """The right to open a stream, to be used in the turn of the reactor that brought it."""

    token: bytes
    subject: bytes
    """Who the token stands for."""
    expires: float | None
    """When it does, on the reactor's clock: no later than for Redis; None if it does not."""
    parts: Sequence[Admitted]
    """One for each Redis."""


Streaming = TypeVar("Streaming", bound=Resuming)
Opened = TypeVar("Opened", bound=Resuming)


class Broker(Protocol[Streaming]):
    """Who says who may listen to what, and gives it to the streams that are open here."""

    @property
    def ready(self) -> bool:
        """Whether it can say so now."""

    @property
    def state(self) -> str:
        """How it is, in words."""

    async def when_ready(self) -> None:
        """Return when it is."""

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up who may listen to what, and subscribe to it.

        Raises :class:`~sinapse.errors.Unauthorized`, :class:`~sinapse.errors.LimitReached`, or
        :class:`~sinapse.errors.BrokerUnavailable` when Redis cannot say.
        """

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used."""

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes: see :meth:`sinapse.hub.hub.Hub.open`."""

    async def expiry(self, token: bytes) -> float | None:
        """Return when `token` expires, as in an admission; raises as :meth:`admit` does."""

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Tell when the tokens of open streams expire, whenever that is read again."""

    # Open streams

    @property
    def here(self) -> str:
        """The id from which whoever is live now goes on."""

    def resume(self, stream: Streaming, last_event_id: str) -> None:
        """Bring a stream up to date that gets nothing yet, after what its client sent as an id."""

    def is_live(self, stream: Streaming) -> bool:
        """Whether a stream gets what is dispatched: it neither replays nor is held."""

    def where(self, stream: Streaming) -> str | None:
        """Return the id from which a stream goes on; None if it is not live."""

    def suspend(self, stream: Streaming) -> str | None:
        """Give a stream nothing more until it resumes from the id that is returned, as `where`."""

    def leave(self, stream: Streaming) -> None:
        """Forget a stream that has ended."""

    def end(self, stream: Streaming, reason: CloseReason) -> None:
        """End a stream, after what was dispatched for it."""

    # Who is there

    @property
    def subjects(self) -> Mapping[bytes, Subject]:
        """Subjects with open streams."""

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that somebody here may listen to."""

    def streams_of(self, subject: bytes) -> Sequence[Streaming]:
        """Return the open streams of a subject, the oldest first."""

    def channels_of(self, subject: bytes) -> AbstractSet[bytes]:
        """Return what a subject with open streams may listen to."""
