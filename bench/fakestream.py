"""A fake stream, for bench/nodes.py: in place of a socket it has a list of what it was sent."""

import re
from functools import lru_cache

from population import Ranges, Received
from twisted.internet.defer import Deferred, succeed

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.hub.subscribers import Framing, Subject

#: Frames that a stream keeps before it reads what is in them: the memory of a run is bounded.
KEPT = 32

#: That of streams over HTTP/1.1.
FRAMING = EventStream(chunked=True)

#: A message as bench/simulate.py publishes it: its channel, and its number there.
MESSAGE = re.compile(rb"^data: (\S+) (\d+) x*\n", re.MULTILINE)
ID = re.compile(rb"^id: (\S+)\n", re.MULTILINE)
RESET = b"event: reset\n"


@lru_cache(maxsize=10_000)
def messages_in(frame: bytes) -> tuple[tuple[str, int], ...]:
    """Return channels and numbers of the messages in a frame, which many streams may share."""
    return tuple((channel.decode(), int(number)) for channel, number in MESSAGE.findall(frame))


class FakeStream:
    """A client, and the stream that it has now."""

    framing: Framing = FRAMING
    descriptor: int | None = None
    name: str | None = None

    def __init__(self, user: str, token: bytes) -> None:
        self.user = user
        self.token = token
        self.subject: Subject | None = None
        self.last_id = ""
        self.faults: list[str] = []
        self._received = Received()
        self._frames: list[bytes] = []

    def read(self) -> Ranges:
        """Read what has come; return all that it has received, and note its last id."""
        for frame in self._frames:
            for channel, number in messages_in(frame):
                self._received.add(channel, number)
            if RESET in frame:
                self.faults.append(f"user {self.user}: messages are missing, says a reset")
            if ids := ID.findall(frame):
                self.last_id = ids[-1].decode()
        self._frames.clear()
        return self._received.ranges

    def send(self, frame: bytes) -> None:
        """Take a frame."""
        self._frames.append(frame)
        if len(self._frames) >= KEPT:
            self.read()

    def close(self, reason: CloseReason) -> None:
        """Note that the node has ended the stream."""
        self.faults.append(f"user {self.user}: the stream was ended: {reason.text}")

    def drained(self) -> "Deferred[None]":
        """Fire at once: nothing ever waits."""
        return succeed(None)

    def notice(self, event: str, data: str) -> None:
        """Note an event of the server's own, of which none is expected."""
        self.faults.append(f"user {self.user}: a notice: {event} {data}")
