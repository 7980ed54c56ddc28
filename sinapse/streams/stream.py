"""What every open stream has, whatever carries it."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.websocket import WebSocket
from sinapse.hub.subscribers import Subject


class Stream:
    """An open stream; `token` is what it was opened with."""

    __slots__ = ("address", "bucket", "expiry", "move", "opened", "subject", "token", "whose")

    #: Whether it goes on after the first thing that it gets.
    goes_on = True

    framing: EventStream | WebSocket | JSONList
    #: Nothing was written since the keep-alive looked last.
    quiet: bool

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.subject: Subject | None = None
        #: When it opened, and where its client is; whose it is, also when it has left the hub.
        self.opened = 0.0
        self.address = ""
        self.whose = b""
        #: When the token ends, if it does.
        self.expiry: IDelayedCall | None = None
        #: When it is to move on to another node, if it is.
        self.move: IDelayedCall | None = None
        #: Place in the ring of keep-alives, if it has one.
        self.bucket: int | None = None

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be written."""
        return False

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
        raise NotImplementedError

    def send(self, frame: bytes) -> None:
        """Write `frame`, or queue it behind what waits already."""
        raise NotImplementedError

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""
        raise NotImplementedError

    def notice(self, event: str, data: str) -> None:
        """Tell the client of an event of the server's own; not one that would be answered so."""

    def come_back(self, seconds: float) -> None:
        """Tell the client when to come back, before the end; nothing, if its answer says so."""

    def keep_alive(self) -> None:
        """Write something that means nothing; not to who is answered soon anyway."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""
        raise NotImplementedError

    def forget_expiry(self) -> None:
        """End no more when the token ends."""
        _cancel(self.expiry)
        self.expiry = None

    def forget_move(self) -> None:
        """Move on no more."""
        _cancel(self.move)
        self.move = None


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
