"""How much there may be of what clients can ask for. No socket, and no clock of its own."""

from collections import Counter
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass

from sinapse.errors import LimitReached

#: Header fields of a request; browsers send about 20.
MAX_FIELDS = 100

#: Bytes of the name of one.
MAX_NAME = 256

#: Seconds that a refused client has to read why.
LINGER = 2

#: Seconds without progress that a client may take to accept what we have said already: as long as
#: TCP waits for somebody to acknowledge data.
PATIENCE = 60

#: Requests of one connection that are handled a second, and at once, however many it has sent
#: without waiting for an answer; the others have to wait.
REQUESTS = 200

#: Frames of one connection, over HTTP/2 or of a WebSocket, that are handled a second, and at once
#: (CVE-2019-9512: PING, -9515: SETTINGS).
FRAMES = 1000

#: Digits of a Content-Length: more than any body has, and fewer than ``int`` refuses.
MAX_DIGITS = 18

#: What is said of a request that goes beyond.
REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


@dataclass(frozen=True)
class RequestLimits:
    """What a request may be: seconds until it has arrived whole, and sizes in bytes.

    nginx and Apache take some 8 KiB of URL, nginx and Node.js 32 and 16 KiB of header section. The
    body is a form with a token in it. `idle` is seconds until the next one begins on a connection
    that stays: more than the 60 for which load balancers use it again.
    """

    timeout: float = 10
    idle: float = 75
    url: int = 8 * 1024
    header: int = 16 * 1024
    body: int = 16 * 1024


class TokenBucket:
    """Lets `rate` a second through, and as many at once as come together in a second.

    `seconds` is a clock.
    """

    def __init__(self, rate: float, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._seconds = seconds
        self._filled = self._most
        self._at = seconds()

    def available(self) -> int:
        """Return how many may pass now."""
        now = self._seconds()
        # A clock that goes back takes nothing away.
        self._filled = min(self._most, self._filled + max(0.0, now - self._at) * self._rate)
        self._at = now
        return int(self._filled)

    def take(self, count: float = 1) -> None:
        """Note that so many have passed; those that were too many are waited for."""
        self._filled -= count

    def wait(self) -> float:
        """Return the seconds until one may pass."""
        return 0.0 if self.available() >= 1 else (1 - self._filled) / self._rate


class StreamLimits:
    """How many streams there may be, in all, of an address and of a subject; 0 is any number.

    A stream counts from the request on: many that come at once do not get in while the first are
    looked up. Whoever `replaces` ends the oldest stream of a subject that has too many, in place of
    refusing the newest. `counted` returns what an address is counted by, None if it is not;
    `is_full` tells of another reason why there is no room.
    """

    def __init__(
        self,
        *,
        total: int = 0,
        per_address: int = 0,
        per_subject: int = 0,
        replaces: bool = True,
        counted: Callable[[str], str | None] = lambda address: address,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._per_address = per_address
        self.per_subject = per_subject
        self._replaces = replaces
        self._total = total
        self._counted = counted
        self._is_full = is_full
        self._count = 0
        self._by_address: Counter[str] = Counter()

    @contextmanager
    def opening(self, address: str) -> Iterator[None]:
        """Count a request for a stream; raises :class:`~sinapse.errors.LimitReached`."""
        if self._is_full() or 0 < self._total <= self._count:
            raise LimitReached("too many streams", 503)
        key = self._key(address)
        if key is not None and self._by_address[key] >= self._per_address:
            raise LimitReached("too many streams of this address", 429)
        self.opened(address)
        try:
            yield
        finally:
            self.closed(address)

    def opened(self, address: str) -> None:
        """Count an open stream."""
        self._count += 1
        if (key := self._key(address)) is not None:
            self._by_address[key] += 1

    def closed(self, address: str) -> None:
        """Count a stream no longer."""
        self._count -= 1
        if (key := self._key(address)) is not None:
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]

    def exceeded(self, streams: Sized) -> bool:
        """Whether one of the streams of a subject must go for another one.

        Raises :class:`~sinapse.errors.LimitReached` if that other one is to go.
        """
        if not 0 < self.per_subject <= len(streams):
            return False
        if not self._replaces:
            raise LimitReached("too many streams of this subject", 429)
        return True

    def _key(self, address: str) -> str | None:
        return self._counted(address) if self._per_address else None
