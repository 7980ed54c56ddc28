"""Many EventSources in one thread: bare sockets, which come back as a browser does.

Each is a subject of its own with some of the channels, and knows what comes next: messages are
numbered, and published to the channels in turn. One that is told to come back at a time does so
then, with its last event ID; whatever a browser would give up at is a refusal.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable

from sinapse.publisher import Publisher

CHANNELS = 20
CHANNELS_OF_A_CLIENT = 3

#: Milliseconds: the reconnection time of a browser that was told none.
RETRY = 3000

#: Bytes that make a message what it is in life.
TEXT = "x" * 100

#: Seconds, at most, of one look at the sockets, and of a wait for all of them.
TICK = 0.01
CROWD_TIMEOUT = 60.0

_FIELD = re.compile(rb"(\w+): (.*)")


class Client:
    """One EventSource. What it sees goes into `totals`, what is wrong into `faults`."""

    def __init__(self, number: int, totals: Counter[str], faults: list[str]) -> None:
        self.number = number
        self.channels = sorted(random.sample(range(CHANNELS), CHANNELS_OF_A_CLIENT))
        self.token = ""
        self.socket: socket.socket | None = None
        self.begun = 0.0
        self.last_id = b""
        self.is_open = False
        #: Milliseconds.
        self.retry = RETRY
        #: The number of the message that comes next; None before the first connection.
        self.next: int | None = None
        self._totals = totals
        self._faults = faults
        self._head = self._chunks = self._text = b""

    def connect(self, port: int) -> socket.socket:
        """Begin to connect."""
        self._head = self._chunks = self._text = b""
        self.is_open = False
        self.begun = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.socket.connect(("127.0.0.1", port))
        return self.socket

    def connected(self) -> None:
        """Send the request; raises OSError if there is nobody."""
        assert self.socket is not None
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "no connection")
        request = b"GET /?access_token=%b HTTP/1.1\r\nHost: localhost\r\n" % self.token.encode()
        if self.last_id:
            request += b"Last-Event-ID: %b\r\n" % self.last_id
        self.socket.send(request + b"Accept: text/event-stream\r\n\r\n")

    def feed(self, data: bytes) -> bool:
        """Take what has come; returns whether that was the end of the stream in good order."""
        if not self.is_open:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return False
            self.is_open = True
            status = head.split(b" ", 2)[1].decode()
            self._totals[f"answered {status}"] += 1
            if status != "200" or b"text/event-stream" not in head:
                self.fault(f"refused with {status}")
            if b"content-length" in head.lower():  # A short one, as a whole.
                self._parse(data)
                return True
        self._chunks += data
        while (end := self._chunks.find(b"\r\n")) > 0:
            size = int(self._chunks[:end], 16)
            if len(self._chunks) < end + 2 + size + 2:
                return False
            body = self._chunks[end + 2 : end + 2 + size]
            self._chunks = self._chunks[end + 2 + size + 2 :]
            if not size:
                return True
            self._parse(body)
        return False

    def _parse(self, body: bytes) -> None:
        *blocks, self._text = (self._text + body).split(b"\n\n")
        for block in blocks:
            fields = dict(_FIELD.findall(block))
            if b"retry" in fields:
                self.retry = int(fields[b"retry"])
            if b"data" in fields:
                self._take(fields)

    def _take(self, fields: dict[bytes, bytes]) -> None:
        identifier, kind = fields.get(b"id", b""), fields.get(b"event")
        if kind == b"authentication":
            if self.next is None:
                self.last_id, self.next = identifier, 0
            return
        if kind == b"position":  # For the time to come back that stands with it.
            return
        text = fields[b"data"].partition(b" ")[0]
        number = int(text) if text.isdigit() and kind is None else -1
        expected = self.following(self.next or 0)
        if number != expected:
            self.fault(f"{kind!r} {text[:100]!r} in place of {expected}")
        self.last_id = identifier
        self.next = number + 1
        self._totals["received"] += 1

    def following(self, number: int) -> int:
        """Return the first number from `number` on that is for this client."""
        turn, place = divmod(number, CHANNELS)
        for channel in self.channels:
            if channel >= place:
                return turn * CHANNELS + channel
        return (turn + 1) * CHANNELS + self.channels[0]

    def fault(self, what: str) -> None:
        self._faults.append(f"client {self.number}: {what}")


class Crowd:
    """All of them, and who publishes, `rate` messages a second, whenever :meth:`turn` is called.

    They come back after `haste` times what they were told.
    """

    def __init__(
        self, publisher: Publisher, port: int, count: int, rate: float, haste: float = 1
    ) -> None:
        self.totals: Counter[str] = Counter()
        self.faults: list[str] = []
        self.clients = [Client(number, self.totals, self.faults) for number in range(count)]
        self.published = 0
        self._publisher = publisher
        self._port = port
        self._rate = rate
        self._haste = haste
        self._began: float | None = None
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int]] = []
        for client in self.clients:
            for channel in client.channels:
                publisher.channels.add(f"crowd:{client.number}", f"crowd:{channel}")
            client.token = publisher.tokens.generate(f"crowd:{client.number}")

    def open(self, wave: int = 50) -> None:
        """Let all connect, some at a time, and return when they have."""
        for start in range(0, len(self.clients), wave):
            for client in self.clients[start : start + wave]:
                self._connect(client)
            last = self.clients[: start + wave]
            self.until(lambda last=last: all(each.next is not None for each in last))  # type: ignore[misc]

    def until(self, condition: Callable[[], object], timeout: float = CROWD_TIMEOUT) -> None:
        """Go on until `condition` returns something true."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.faults.append(f"what was waited for did not come within {timeout} s")
                return
            self.turn()

    def settle(self) -> None:
        """Publish no more, and return when everybody has come back and got everything."""
        self._began = None
        self.until(self._is_complete)

    def begin(self) -> None:
        """Begin to publish."""
        self._began = time.monotonic() - self.published / self._rate

    def turn(self) -> None:
        """Publish what is due, let those come back whose time has come, and read."""
        now = time.monotonic()
        if self._began is not None:
            # Not all at once what was missed in a stall.
            for _ in range(min(10, int((now - self._began) * self._rate) - self.published)):
                self._publish()
        while self._due and self._due[0][0] <= now:
            self._connect(self.clients[heapq.heappop(self._due)[1]])
        for key, events in self._selector.select(TICK):
            client: Client = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    client.connected()
                    assert client.socket is not None
                    self._selector.modify(client.socket, selectors.EVENT_READ, client)
                else:
                    self._read(client)
            except OSError as error:
                if client.is_open:
                    self.totals["cut"] += 1
                else:
                    client.fault(f"not connected: {error}")
                self._end(client)

    def close(self) -> None:
        """Let all go."""
        for client in self.clients:
            if client.socket is not None:
                client.socket.close()
        self._selector.close()

    def _publish(self) -> None:
        channel = self.published % CHANNELS
        self._publisher.publish(f"crowd:{channel}", f"{self.published} {TEXT}")
        self.published += 1

    def _read(self, client: Client) -> None:
        assert client.socket is not None
        data = client.socket.recv(65536)
        was_open = client.is_open
        if not data:
            if was_open:
                self.totals["cut"] += 1
            else:
                client.fault("no answer")
            self._end(client)
        elif client.feed(data):
            self.totals["ended"] += 1
            self._end(client)

    def _connect(self, client: Client) -> None:
        self.totals["resumed" if client.last_id else "opened"] += 1
        self._selector.register(client.connect(self._port), selectors.EVENT_WRITE, client)

    def _end(self, client: Client) -> None:
        assert client.socket is not None
        self._selector.unregister(client.socket)
        client.socket.close()
        client.socket = None
        due = time.monotonic() + client.retry / 1000 * self._haste
        heapq.heappush(self._due, (due, client.number))

    def _is_complete(self) -> bool:
        return all(
            client.next is not None and client.following(client.next) >= self.published
            for client in self.clients
        )
