"""What all open streams have in common, over any transport."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.websocket import WebSocket
from sinapse.hub.subscribers import Subject


class Stream:
    """An open stream; `token` is the one that it was opened with."""

    __slots__ = (
        "address",
        "bucket",
        "expiry",
        "move",
        "name",
        "opened",
        "subject",
        "token",
        "whose",
    )

    #: Whether it goes on after its first message.
    goes_on = True

    #: Its socket, if frames can be written straight to that.
    descriptor: int | None = None

    framing: EventStream | WebSocket | JSONList
    #: Nothing was written since the last visit of the keep-alive.
    quiet: bool

    def __init__(self, token: bytes) -> None:
        self.token = token
        #: What its client calls it.
        self.name: str | None = None
        self.subject: Subject | None = None
        #: When it opened, the address of its client, and its subject, also after it left the hub.
        self.opened = 0.0
        self.address = ""
        self.whose = b""
        #: The call for when the token expires, if it does.
        self.expiry: IDelayedCall | None = None
        #: The call for when it is to move on to a different node, if it is.
        self.move: IDelayedCall | None = None
        #: Its bucket in the ring of keep-alives, if it has one.
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
        """Send the client an event of the server's own; a long poll gets none."""

    def come_back(self, seconds: float) -> None:
        """Tell the client when to come back, before the end; for a long poll, do nothing."""

    def keep_alive(self) -> None:
        """Write something without a meaning; for a long poll, do nothing."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""
        raise NotImplementedError

    def forget_expiry(self) -> None:
        """Cancel the end at the expiry of the token."""
        _cancel(self.expiry)
        self.expiry = None

    def forget_move(self) -> None:
        """Cancel the move to a different node."""
        _cancel(self.move)
        self.move = None


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
