"""What a stream costs over HTTP/2, beside one over HTTP/1.1, both with TLS.

Usage: python bench/http2.py [STREAMS]

A daemon of its own for each row, and one client process, which reads while the daemon is measured:
compare the rows. The streams are opened, and then get messages of 128 bytes, one after the other.
"""

import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from certificate import write_certificate  # noqa: E402
from machine import cpu, description, memory  # noqa: E402

from sinapse.publisher import Publisher  # noqa: E402
from tests.support import RedisServer, free_port, running_redis  # noqa: E402
from tests.support.daemon import Daemon, Stream, running_daemon  # noqa: E402
from tests.support.http2client import Client  # noqa: E402

STREAMS = 500
MESSAGES = 40
WARM = 100
DATA = "x" * 128


def http_1(port: int, context: ssl.SSLContext, path: str, _: int) -> Stream:
    """Open a connection with a stream."""
    return Stream(port, path, context=context).opened()


def http_2(port: int, context: ssl.SSLContext, path: str, streams: int) -> Client:
    """Open a connection with so many streams."""
    client = Client(port, context)
    for _ in range(streams):
        client.wait_for("data: ok\n\n", client.request(path, [("accept", "text/event-stream")]))
    return client


Opening = Callable[[int, ssl.SSLContext, str, int], Stream | Client]

ROWS: tuple[tuple[str, list[str], Opening, int], ...] = (
    ("HTTP/1.1", ["http/1.1"], http_1, 1),
    ("HTTP/2, 1 stream a connection", ["h2"], http_2, 1),
    ("HTTP/2, 10 streams a connection", ["h2"], http_2, 10),
)


def deliver(daemon: Daemon, publisher: Publisher, streams: int) -> None:
    """Publish, and wait until everything is delivered."""
    before = daemon.metrics()["sinapse_deliveries_total"]
    for number in range(1, MESSAGES + 1):
        publisher.publish("room:1", DATA)
        while daemon.metrics()["sinapse_deliveries_total"] < before + number * streams:
            time.sleep(0.05)


def measure(folder: Path, redis: RedisServer, streams: int, row: int) -> str:
    """Return a line of the table."""
    name, protocols, opening, each = ROWS[row]
    certificate, port = write_certificate(folder), free_port()
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(protocols)
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}"
    with (
        ExitStack() as stack,
        running_daemon(folder, redis.url, "--port", endpoint) as daemon,
        Publisher(redis.url) as publisher,
    ):
        publisher.channels.add("1", "room:1")
        path = f"/?access_token={publisher.tokens.generate('1')}"

        def connect(count: int) -> None:
            for _ in range(count // each):
                stack.enter_context(opening(port, context, path, each))

        connect(WARM)
        empty, begun = memory(daemon.pid), cpu(daemon.pid)
        connect(streams)
        opened, full = cpu(daemon.pid).since(begun).total, memory(daemon.pid)
        begun = cpu(daemon.pid)
        deliver(daemon, publisher, streams + WARM)
        used = cpu(daemon.pid).since(begun).total
        return (
            f"{name:33} {(full - empty) / streams / 1024:6.1f} {opened / streams * 1e6:8.0f}"
            f" {used / MESSAGES / (streams + WARM) * 1e6:8.1f}"
        )


def main() -> None:
    """Print the table."""
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    print(description())
    print(f"{f'{streams} streams':33} {'KiB':>6} {'µs/open':>8} {'µs/del.':>8}")
    for row in range(len(ROWS)):
        with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as redis:
            print(measure(Path(name), redis, streams, row), flush=True)


if __name__ == "__main__":
    main()
