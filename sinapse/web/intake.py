"""What a client sends, handled in small parts and at a limited rate.

Between two parts other events have their turn. The rest waits in the network: nothing more is read
from a client until its last bytes are handled.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from sinapse.ratelimit import TokenBucket
from sinapse.web.limits import FRAMES_PER_SECOND

#: Bytes that are handled in a turn of the reactor: a request with some cookies, or some 80 of the
#: smallest over HTTP/2, which take as long as 80 requests do.
PART_SIZE = 1024


class Intake:
    """Gives what comes over `transport` to `handle`, in parts; `reactor` is the clock.

    `handle` says by :meth:`charge` what a part cost.
    """

    __slots__ = (
        "_call_later",
        "_frames",
        "_handle",
        "_is_held",
        "_is_over",
        "_next",
        "_transport",
        "_unread",
    )

    def __init__(self, transport: Any, handle: Callable[[bytes], None], reactor: Any) -> None:
        self._transport = transport
        self._handle = handle
        self._call_later: Callable[..., IDelayedCall] = reactor.callLater
        self._frames = TokenBucket(FRAMES_PER_SECOND, reactor.seconds)
        #: What has come and is not handled, and when the next part of it is.
        self._unread = bytearray()
        self._next: IDelayedCall | None = None
        self._is_held = False
        self._is_over = False

    def take(self, data: bytes) -> None:
        """Take new bytes, and handle as many of them as the rate allows now."""
        if self._is_over:
            return
        self._unread += data
        if self._next is None:
            self._read()

    def charge(self, frames: float) -> None:
        """Note that so many frames were handled."""
        self._frames.take(frames)

    def hold(self) -> None:
        """Read nothing until :meth:`go_on`: the client takes no answers."""
        self._is_held = True
        self._transport.pauseProducing()

    def go_on(self) -> None:
        """Read again."""
        self._is_held = False
        if self._next is None:
            self._read()

    def stop(self) -> None:
        """Handle nothing more, whatever has come or comes."""
        self._is_over = True
        self._unread.clear()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _read(self) -> None:
        """Handle a part of the bytes, if the rate allows it now, and the rest in later turns."""
        self._next = None
        if self._is_held or self._is_over:
            return
        if self._unread and not self._frames.wait():
            part = bytes(self._unread[:PART_SIZE])
            del self._unread[:PART_SIZE]
            self._handle(part)
        if self._unread:
            self._next = self._call_later(self._frames.wait(), self._read)
            self._transport.pauseProducing()
        elif not (self._is_held or self._is_over):
            self._transport.resumeProducing()
