"""What compression costs and saves: bytes and processor time of a delivery, plain and compressed.

Usage: python bench/compress.py [STREAMS [MESSAGES]]

JSON and HTML of 1, 10 and 60 KB go to one stream, and to so many. Each message is published when
one stream has got the whole of the one before. Sinapse compresses it once for all; Mercure, if it
is installed, is compressed by Caddy, which does so for each stream.
"""

import json
import random
import resource
import select
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from load import Stream  # noqa: E402
from machine import Cores, cpu, description  # noqa: E402
from peers import mercure, sinapse  # noqa: E402
from peers.server import Failed, Missing, Peer, Running, Workload  # noqa: E402

from tests.support.gzipped import GzippedStream  # noqa: E402

STREAMS = 5000
MESSAGES = 20
SIZES = (1, 10, 60)

#: Seconds without a byte after which nothing more is on its way.
QUIET = 1

WORDS = (ROOT / "docs" / "delivery.md").read_text().split()


def some_json(dice: random.Random) -> str:
    """Return a row of a table."""
    row = {
        "id": dice.randrange(10**6),
        "name": " ".join(dice.choices(WORDS, k=3)),
        "price": round(dice.random() * 100, 2),
        "at": f"2026-11-{dice.randint(1, 30):02}T{dice.randrange(24):02}:00:00Z",
        "active": dice.random() < 0.5,
    }
    return json.dumps(row)


def some_html(dice: random.Random) -> str:
    """Return a line of a list."""
    number, text = dice.randrange(10**6), " ".join(dice.choices(WORDS, k=12))
    return (
        f'<li class="message message--unread" id="message-{number}"><a class="avatar"'
        f' href="/users/{number % 997}">{dice.choice(WORDS)}</a><p class="text">{text}</p></li>'
    )


def data(some: Callable[[random.Random], str], size: int, number: int) -> bytes:
    """Return so many KB, the same at every run."""
    dice = random.Random(number)  # noqa: S311
    text = b""
    while len(text) < size * 1000:
        text += some(dice).encode()
    return text[: size * 1000].decode(errors="ignore").encode()


class Crowd:
    """Streams of which only bytes are counted."""

    def __init__(self, port: int, streams: list[Stream], encoding: str, stack: ExitStack) -> None:
        self.size = 0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for each in streams:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            fields = [f"GET {each.target} HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream"]
            fields += [f"Accept-Encoding: {encoding}", *filter(None, [each.header]), "", ""]
            client.sendall("\r\n".join(fields).encode())
            self._sockets[client.fileno()] = client
            self._poll.register(client, select.EPOLLIN)
        self.read(QUIET)

    def read(self, quiet: float) -> None:
        """Read until nothing has come for so many seconds."""
        while ready := self._poll.poll(quiet):
            for descriptor, _ in ready:
                got = len(self._sockets[descriptor].recv(1 << 18))
                if not got:
                    sys.exit("a stream has ended")
                self.size += got


def publishing(running: Running, stack: ExitStack) -> Callable[[int], None]:
    """Return what publishes to a channel."""
    place = "127.0.0.1", running.publishing.port
    client = stack.enter_context(socket.create_connection(place))

    def publish(channel: int) -> None:
        client.sendall(running.publishing.templates[channel])
        client.recv(65536)

    return publish


def measure(peer: Peer, messages: Sequence[bytes], streams: int, *, compress: bool) -> str:
    """Return bytes and microseconds of a delivery, as columns.

    Each message has a channel of its own, and all streams hear all of them.
    """
    encoding = "gzip" if compress else "identity"
    count = len(messages)
    workload = Workload([range(count)] * streams, count, 3600, data=messages, compress=compress)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(peer.run(workload, folder, Cores.split().server))
        first, *others = running.streams
        fields = dict([first.header.split(": ", 1)] if first.header else [])
        fields["Accept-Encoding"] = encoding
        probe = stack.enter_context(GzippedStream(running.port, first.target, fields))
        crowd = Crowd(running.port, others, encoding, stack)
        publish = publishing(running, stack)
        publish(0)
        probe.wait_for_message(messages[0].decode())
        if probe.headers.get("Content-Encoding", "identity") != encoding:
            raise Failed(f"the stream is not {encoding}")
        crowd.read(QUIET)
        size, begun = probe.size + crowd.size, cpu(running.pid)
        for channel, message in enumerate(messages[1:], 1):
            publish(channel)
            probe.wait_for_message(message.decode())
            crowd.read(0)
        crowd.read(QUIET)
        used = cpu(running.pid).since(begun).total
        deliveries = streams * (count - 1)
        size = probe.size + crowd.size - size
        return f"{size / deliveries:9,.0f} {used / deliveries * 1e6:9,.1f}"


def main() -> None:
    """Print the table."""
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    messages = int(sys.argv[2]) if len(sys.argv) > 2 else MESSAGES
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(description())
    print(f"{'':39} {'bytes':>9} {'µs':>9} {'bytes':>9} {'µs':>9}")
    for count in (1, streams):
        for some in (some_json, some_html):
            for size in SIZES:
                for peer in (sinapse.PEER, mercure.PEER):
                    what = f"{count:,} x {size} KB {some.__name__[5:].upper()}, {peer.name}"
                    texts = [data(some, size, number) for number in range(messages + 1)]
                    try:
                        columns = [
                            measure(peer, texts, count, compress=compress)
                            for compress in (False, True)
                        ]
                    except (Missing, Failed) as reason:
                        columns = [str(reason).partition("\n")[0]]
                    print(f"{what:39} {' '.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
