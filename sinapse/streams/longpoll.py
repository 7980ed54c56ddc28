"""A long poll: one answer with the new messages, for networks that hold back a stream.

A poll is a stream that ends with its first message. It resumes where the client was, and waits for
at most :data:`POLL_TIMEOUT` seconds. Messages after its answer are for the next poll.
"""

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from sinapse.errors import CloseReason
from sinapse.framing import deflate
from sinapse.framing.eventstream import GZIP
from sinapse.framing.jsonmessage import JSONList
from sinapse.streams.stream import Stream
from sinapse.web.answers import Fields, respond

#: Seconds: below the 30 s after which many proxies give up.
POLL_TIMEOUT = 25

#: The status of a poll that ends without a message; 204 otherwise.
_STATUSES = {
    CloseReason.REVOKED: 401,
    CloseReason.EXPIRED: 401,
    CloseReason.NO_CHANNELS: 401,
    CloseReason.REPLACED: 429,
    CloseReason.SHUTDOWN: 503,
    CloseReason.TOO_MANY_CHANNELS: 503,
}


class Owner(Protocol):
    """The owner, which opens the polls."""

    def waited(self, poll: "LongPoll") -> None:
        """Send the poll its answer, if it needs one: no message has come."""

    def closed(self, connection: "LongPoll", reason: CloseReason) -> None:
        """Forget the poll: it has ended. Called once."""


class LongPoll(Stream):
    """One poll, for messages after `last_event_id`; `headers` are those of its answer.

    That is compressed if it has `compress` bytes, unless that is None.
    """

    goes_on = False

    #: One for all polls: the hub encodes once for each.
    framing = JSONList()

    def __init__(
        self,
        owner: Owner,
        request: Request,
        headers: Fields,
        token: bytes,
        reactor: Any,
        *,
        last_event_id: str,
        compress: int | None = None,
    ) -> None:
        super().__init__(token)
        self._owner = owner
        self._request = request
        self._headers = [*headers]
        self._reactor = reactor
        self.last_event_id = last_event_id
        self._compress = compress
        self._items: list[bytes] = []
        self._drained: Deferred[None] | None = None
        self._is_answered = False
        self._end = reactor.callLater(POLL_TIMEOUT, self._wait_no_longer)
        request.notifyFinish().addErrback(lambda _: self._ended(CloseReason.CLIENT_GONE))

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written: only until the end of a turn of the reactor."""
        return sum(map(len, self._items))

    def send(self, frame: bytes) -> None:
        """Add some items, and answer in the next turn of the reactor."""
        if not self._items:
            self._reactor.callLater(0, self.answer)
        self._items.append(frame)

    def drained(self) -> "Deferred[None]":
        """Return a Deferred that fires at once while there are no items.

        Otherwise it never fires, and is cancelled: there is one answer, and therefore one page.
        """
        waiting: Deferred[None] = Deferred()
        if self._items:
            self._drained = waiting
        else:
            waiting.callback(None)
        return waiting

    def close(self, reason: CloseReason) -> None:
        """Answer now."""
        self.answer(reason)

    def answer(self, reason: CloseReason = CloseReason.ANSWERED) -> None:
        """Answer with the items so far."""
        if self._is_answered:
            return
        request, headers = self._request, self._headers
        status = 200 if self._items else _STATUSES.get(reason, 204)
        body = self.framing.whole(self._items) if self._items else b""
        self._ended(reason)
        if status == 200:
            headers = [*headers, (b"Content-Type", b"application/json")]
            if self._compress is not None and len(body) >= self._compress:
                headers.append(GZIP)
                body = deflate.whole(body)
        elif status != 204:
            body = b"%d %b\n" % (status, reason.text.encode())
        respond(request, status, body, headers)

    def _wait_no_longer(self) -> None:
        if not self._items:
            self._owner.waited(self)
        self.answer()

    def _ended(self, reason: CloseReason) -> None:
        if self._is_answered:
            return
        self._is_answered = True
        if self._end.active():
            self._end.cancel()
        if self._drained is not None:
            self._drained.cancel()
        self._owner.closed(self, reason)
