"""An open stream over several Redis: it has a member in the hub of each.

Its last event ID has one part for each Redis, the id of the last message that came from there.
Each part is right whatever the other Redis do: one is away, one replays, one is live.
"""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from sinapse.broker.interface import Resuming
from sinapse.errors import CloseReason
from sinapse.framing.partial import PartialFraming
from sinapse.hub.subscribers import Subject


class Bundle:
    """An open stream, and its place in each Redis; its token is in that of the number `keeper`."""

    __slots__ = ("_ids", "_waiting", "keeper", "lacks", "members", "stream")

    def __init__(
        self,
        stream: Resuming,
        framings: Sequence[PartialFraming],
        place: Sequence[bytes],
        *,
        keeper: int,
    ) -> None:
        self.stream = stream
        self.keeper = keeper
        #: The names of the Redis that are away, as far as its client has been told.
        self.lacks: tuple[str, ...] = ()
        self._ids: list[bytes] = []
        self.begin_at(place)
        self._waiting: list[Deferred[None]] = []
        self.members = [Member(self, *each) for each in enumerate(framings)]

    def begin_at(self, place: Sequence[bytes]) -> None:
        """Note the place of the stream in each Redis: the parts of its id."""
        self._ids = list(place)

    def send(self, partial: bytes, framing: PartialFraming, shard: int) -> None:
        """Complete a frame from one Redis, and send it."""
        self.stream.send(framing.complete(partial, self._ids, shard))

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self.stream.drained().addCallbacks(self._go_on, self._give_up)
        return waiting

    def _go_on(self, _: None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _give_up(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.cancel()


class Member:
    """The member of a stream in the hub of one Redis."""

    __slots__ = ("bundle", "framing", "shard", "subject")

    #: What it is sent is not complete.
    descriptor = None

    def __init__(self, bundle: Bundle, shard: int, framing: PartialFraming) -> None:
        self.bundle = bundle
        self.shard = shard
        self.framing = framing
        self.subject: Subject | None = None

    @property
    def is_with_token(self) -> bool:
        """Whether the token of the stream is kept in the same Redis."""
        return self.bundle.keeper == self.shard

    @property
    def token(self) -> bytes:
        """The token of the stream."""
        return self.bundle.stream.token

    @token.setter
    def token(self, token: bytes) -> None:
        self.bundle.stream.token = token

    @property
    def name(self) -> str | None:
        """What the client calls the stream."""
        return self.bundle.stream.name

    @name.setter
    def name(self, name: str | None) -> None:
        self.bundle.stream.name = name

    def send(self, partial: bytes) -> None:
        """Complete `partial`, and send it."""
        self.bundle.send(partial, self.framing, self.shard)

    def close(self, reason: CloseReason) -> None:
        """End the stream, and with it its other members."""
        self.bundle.stream.close(reason)

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        return self.bundle.drained()

    def notice(self, event: str, data: str) -> None:
        """Send the client an event of the server's own."""
        self.bundle.stream.notice(event, data)
