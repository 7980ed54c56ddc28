"""Clients that come and go under load, for as long as you like: each gets everything, once.

Usage: python bench/soak.py [MINUTES CLIENTS]

A Redis and a daemon of their own on this machine; each client is a subject of its own with a few of
the channels. All the time messages are published, and clients disconnect at random, politely or
not, and resume with their last event ID some seconds later. Messages are numbered and go to the
channels in turn, so each client knows which number comes next. In the end all come back and wait
for their last message. Every line is a moment: clients that are connected, totals so far, and the
memory of the daemon, where Pss counts what is shared in parts. Ends with 1 if anything was lost,
doubled, out of order, not allowed or followed by a reset.
"""

import contextlib
import heapq
import random
import re
import resource
import selectors
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.machine import memory
from sinapse.publisher import Publisher
from tests.support import running_redis
from tests.support.daemon import Daemon, running_daemon

DEFAULTS = 10, 2000
CHANNELS = 100
CHANNELS_OF_A_CLIENT = 4

#: A second.
MESSAGES = 100
DISCONNECTIONS = 50

#: Seconds, at most, that a client is away; between two lines; and for the last messages to come.
AWAY = 5.0
INTERVAL = 10.0
LAST_MESSAGES_TIMEOUT = 60.0

#: Seconds between two looks at what is due.
TICK = 0.01

TEXT = "x" * 100
CHANCE = random.Random()  # noqa: S311
EVENT = re.compile(rb"(?:id: (\S+)\n)?(?:event: (\w+)\n)?data: (\S+).*\n\n")


class Failure(Exception):
    """What was received is not what was published."""


class Client:
    """A browser, as far as it matters here."""

    def __init__(self, number: int) -> None:
        self.subject = str(number)
        self.channels = sorted(CHANCE.sample(range(CHANNELS), CHANNELS_OF_A_CLIENT))
        self.token = ""
        self.buffer = b""
        self.last_id = b""
        #: The number that comes next; None until the stream has opened for the first time.
        self.next: int | None = None

    def connect(self, port: int) -> socket.socket:
        """Open the stream, or resume it."""
        request = b"GET /?access_token=%b HTTP/1.1\r\nHost: a\r\n" % self.token.encode()
        if self.last_id:
            request += b"Last-Event-ID: %b\r\n" % self.last_id
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request + b"Accept: text/event-stream\r\n\r\n")
        connection.setblocking(False)
        self.buffer = b""
        return connection

    def following(self, number: int) -> int:
        """Return the first number from `number` on that is for this client."""
        turn, place = divmod(number, CHANNELS)
        for channel in self.channels:
            if channel >= place:
                return turn * CHANNELS + channel
        return (turn + 1) * CHANNELS + self.channels[0]

    def feed(self, data: bytes, base: int) -> int:
        """Take bytes, and return how many messages they completed; raises Failure.

        `base` is the counter of the message with the number 0. A chunk of HTTP has whole events, so
        what is between them need not be looked at.
        """
        self.buffer += data
        count = end = 0
        for match in EVENT.finditer(self.buffer):
            end = match.end()
            identifier, kind, text = match.groups()
            if kind == b"authentication":
                if self.next is None:
                    self.last_id = identifier
                    self.next = self.following(_counter(identifier) - base + 1)
                continue
            if kind == b"position":
                continue
            number = int(text) if text.isdigit() else -1
            if kind is not None or number != self.next or _counter(identifier) != base + number:
                raise Failure(f"{self.subject}: {match[0][:200]!r} in place of {self.next}")
            self.last_id = identifier
            self.next = self.following(number + 1)
            count += 1
        self.buffer = self.buffer[end:]
        if len(self.buffer) > 1000 or (self.buffer and b"HTTP/1.1 401" in self.buffer):
            raise Failure(f"{self.subject}: {self.buffer[:200]!r}")
        return count


def _counter(identifier: bytes) -> int:
    return int(identifier.partition(b"-")[2])


class Soak:
    """All clients, and who publishes."""

    def __init__(self, daemon: Daemon, publisher: Publisher, count: int) -> None:
        self._daemon = daemon
        self._publisher = publisher
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Client]] = []
        self.clients = [Client(number) for number in range(count)]
        self.connected: dict[Client, socket.socket] = {}
        self.totals: Counter[str] = Counter()
        for client in self.clients:
            for channel in client.channels:
                publisher.channels.add(client.subject, f"soak:{channel}")
            client.token = publisher.tokens.generate(client.subject)
        self._base = self._publish_first()

    def _publish_first(self) -> int:
        """Publish what nobody is to get, and return the counter of the message that follows."""
        self._publisher.publish("soak:before", "")
        with self._daemon.stream(self.clients[0].token).opened() as stream:
            return _counter((stream.position or "").encode()) + 1

    def publish(self) -> None:
        """Publish the next message."""
        number = self.totals["published"]
        self._publisher.publish(f"soak:{number % CHANNELS}", f"{number} {TEXT}")
        self.totals["published"] += 1

    def connect(self, client: Client) -> None:
        """Let a client come."""
        self.totals["resumed" if client.last_id else "opened"] += 1
        connection = self.connected[client] = client.connect(self._daemon.port)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def disconnect(self, client: Client) -> None:
        """Let a client go, and come back after some time."""
        connection = self.connected.pop(client)
        self._selector.unregister(connection)
        if CHANCE.random() < 0.5:
            linger = struct.pack("ii", 1, 0)  # A reset, in place of a polite end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
        due = time.monotonic() + CHANCE.uniform(0, AWAY)
        heapq.heappush(self._due, (due, id(client), client))

    def disconnect_somebody(self) -> None:
        """Let a client go that is chosen by chance, if it is there."""
        client = CHANCE.choice(self.clients)
        if client in self.connected:
            self.disconnect(client)

    def turn(self, seconds: float) -> None:
        """Read what comes within some seconds, and connect who is due."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self.connect(heapq.heappop(self._due)[2])
        for key, _ in self._selector.select(seconds):
            client: Client = key.data
            try:
                data = self.connected[client].recv(65536)
            except ConnectionError:
                data = b""
            if data:
                self.totals["received"] += client.feed(data, self._base)
            else:
                self.totals["ended by the daemon"] += 1
                self.disconnect(client)

    def is_complete(self) -> bool:
        """Whether every client has got its last message."""
        return all(
            client.next is not None and client.next >= self.totals["published"]
            for client in self.clients
        )


def line(soak: Soak, started: float, pid: int) -> str:
    """Return what is to be told now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    rss = pages * resource.getpagesize()
    return (
        f"{time.monotonic() - started:6.0f} s {len(soak.connected):6} connected"
        f" {soak.totals['published']:9} published {soak.totals['received']:11} received"
        f" {soak.totals['resumed']:8} resumed"
        f"   RSS {rss / 2**20:6.1f} MiB, Pss {memory(pid) / 2**20:6.1f} MiB"
    )


def run(soak: Soak, seconds: float, pid: int) -> None:
    """Go on for some seconds, then let everybody get everything; raises Failure."""
    for client in soak.clients:
        soak.connect(client)
        soak.turn(0)
    while any(client.next is None for client in soak.clients):
        soak.turn(TICK)
    started = time.monotonic()
    reported = done = 0
    while (elapsed := time.monotonic() - started) < seconds:
        while soak.totals["published"] < elapsed * MESSAGES:
            soak.publish()
        for _ in range(done, int(elapsed * DISCONNECTIONS)):
            soak.disconnect_somebody()
        done = int(elapsed * DISCONNECTIONS)
        if elapsed >= reported * INTERVAL:
            print(line(soak, started, pid), flush=True)
            reported += 1
        soak.turn(TICK)
    deadline = time.monotonic() + LAST_MESSAGES_TIMEOUT
    while not soak.is_complete():
        if time.monotonic() > deadline:
            late = sum((client.next or 0) < soak.totals["published"] for client in soak.clients)
            raise Failure(f"{late} clients wait for messages that do not come")
        soak.turn(TICK)
    print(line(soak, started, pid))


def main() -> int:
    """Run it, and return the status to exit with."""
    minutes, count = sys.argv[1:] if len(sys.argv) == 3 else DEFAULTS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_redis(folder))
        daemon = stack.enter_context(running_daemon(folder, server.url))
        publisher = stack.enter_context(Publisher(server.url))
        soak = Soak(daemon, publisher, int(count))
        print(f"{count} clients, {MESSAGES} messages and {DISCONNECTIONS} disconnections a second")
        try:
            run(soak, float(minutes) * 60, daemon.pid)
        except Failure as failure:
            print(f"FAILED: {failure}")
            return 1
        finally:
            print(", ".join(f"{value} {name}" for name, value in soak.totals.items()))
        if "Traceback" in daemon.log:
            print(daemon.log)
            return 1
    print("each client got every message, once and in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
