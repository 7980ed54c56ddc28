"""What streams need of Redis, one or several."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

from sinapse.errors import CloseReason
from sinapse.hub.joining import Joining
from sinapse.hub.subscribers import Channel, Subscriber
from sinapse.protocol.only import Only

#: Called with a subject, its token, and when that expires, on the reactor's clock.
ExpiryTold: TypeAlias = Callable[[bytes, bytes, float], None]


class Resuming(Subscriber, Protocol):
    """An open stream, which may need a replay."""

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""

    def notice(self, event: str, data: str) -> None:
        """Send the client an event of the server's own."""


class Holder(NamedTuple):
    """Who a token is of, as the Redis says that keeps it."""

    subject: bytes
    only: Only | None
    """The part of the channels that the token is for; None for all."""


class Admitted(NamedTuple):
    """The right to open a stream, as far as one Redis can grant it."""

    joining: Joining
    session: object
    """The session that it comes from."""


class Admission(NamedTuple):
    """The right to open a stream, to be used in the turn of the reactor that brought it."""

    token: bytes
    holder: Holder
    expires: float | None
    """When the token expires, on the reactor's clock, never later than for Redis; or None."""
    parts: Mapping[int, Admitted]
    """By the number of each Redis, without those that are away."""
    keeper: int = 0
    """The number of the Redis that keeps the token."""

    @property
    def subject(self) -> bytes:
        """The subject of the token."""
        return self.holder.subject


Streaming = TypeVar("Streaming", bound=Resuming)
Opened = TypeVar("Opened", bound=Resuming)


class Broker(Protocol[Streaming]):
    """Authorises streams, and gives the open ones their messages."""

    @property
    def ready(self) -> bool:
        """Whether it can do so now, as far as is asked for."""

    @property
    def parts_ready(self) -> Mapping[str, bool]:
        """By the name of each Redis, whether it can."""

    @property
    def state(self) -> str:
        """The state of the connections, in words."""

    async def when_ready(self) -> None:
        """Return when it is ready."""

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up the subject and the channels of `token`, and subscribe to the channels.

        Raises :class:`~sinapse.errors.Unauthorized`, :class:`~sinapse.errors.LimitReached`, or
        :class:`~sinapse.errors.BrokerUnavailable`.
        """

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used."""

    def place_before_past(self, admission: Admission) -> str | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any.

        Call it in the turn of the reactor that brought the admission.
        """

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes: see :meth:`sinapse.hub.hub.Hub.open`."""

    async def expiry(self, token: bytes) -> float | None:
        """Return when `token` expires, as in an admission; raises as :meth:`admit` does."""

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Call `told` whenever the expiry of a token of open streams is read again."""

    # Open streams

    @property
    def here(self) -> str:
        """The id from which the live streams go on."""

    def resume(self, stream: Streaming, last_event_id: str) -> None:
        """Start the replay for a stream that gets nothing yet, after the id of its client."""

    def is_live(self, stream: Streaming) -> bool:
        """Whether a stream gets messages when they are dispatched: no replay, not held."""

    def where(self, stream: Streaming) -> str | None:
        """Return the id from which a stream goes on; None if it is not live."""

    def has_written_to(self, stream: Streaming, since: int) -> bool:
        """Whether a message was written to a stream and all others of its channel together.

        `since` is how many messages had been counted before it. The stream itself notes what else
        is sent to it.
        """

    def suspend(self, stream: Streaming) -> str | None:
        """Send a stream nothing more until it resumes from the id that is returned, as `where`."""

    def leave(self, stream: Streaming) -> None:
        """Forget a stream that has ended."""

    def end(self, stream: Streaming, reason: CloseReason) -> None:
        """End a stream, after the messages that were dispatched for it."""

    # Subjects and channels

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams."""

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that a subject here may listen to."""

    def streams_of(self, subject: bytes) -> Sequence[Streaming]:
        """Return the open streams of a subject, the oldest first."""

    def channels_of(self, subject: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
