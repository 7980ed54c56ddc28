"""What Redis pays for what Sinapse asks of it: the figures that bench/scaling.py computes with.

Usage: python bench/redis_costs.py [ROUNDS]

A Redis of its own on this machine. What stands for a node is a connection that listens to what a
node listens to; streams are opened on a real daemon. A figure is the processor time that Redis
itself has counted, over the number of requests, each a round trip: with many publishers at once
Redis reads several requests in a turn, and pays less. Medians of the rounds. Needs a C compiler.
"""

import contextlib
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import linear_regression, median

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

import redis  # noqa: E402
from load import Load, Stream  # noqa: E402
from machine import description  # noqa: E402

from sinapse.protocol.keys import CONTROL_PATTERN  # noqa: E402
from sinapse.protocol.names import PLAIN  # noqa: E402
from sinapse.publisher import Publisher  # noqa: E402
from tests.support import RedisServer, eventually, running_redis  # noqa: E402
from tests.support.daemon import running_daemon  # noqa: E402

ROUNDS = 5

#: Requests of a measure, and bytes of data of a message.
REQUESTS = 2000
DATA = "x" * 128

#: How many nodes listen.
NODE_COUNTS = (1, 4, 16)

#: Streams that open, and channels of each of them.
STREAMS = 1000
SUBSCRIPTIONS = 5


def processor_seconds(client: redis.Redis) -> float:
    """Return the processor time that Redis has used."""
    usage = client.info("cpu")
    return float(usage["used_cpu_user"] + usage["used_cpu_sys"])


def cost(client: redis.Redis, count: int, work: Callable[[], object]) -> float:
    """Return the microseconds of Redis that each of `count` requests of `work` takes."""
    before = processor_seconds(client)
    work()
    return (processor_seconds(client) - before) / count * 1e6


@contextlib.contextmanager
def listening(server: RedisServer, count: int) -> Iterator[None]:
    """Listen as nodes do, to the channel of the measures and to all control messages."""
    sockets = []
    for _ in range(count):
        node = socket.create_connection(("127.0.0.1", server.port))
        node.sendall(f"SUBSCRIBE room:1 {PLAIN.nodes}\r\nPSUBSCRIBE {CONTROL_PATTERN}\r\n".encode())
        sockets.append(node)
    threads = [threading.Thread(target=_read, args=(node,)) for node in sockets]
    for thread in threads:
        thread.start()
    with server.client() as client:
        eventually(lambda: client.pubsub_numsub(PLAIN.nodes)[0][1] == count)
    try:
        yield
    finally:
        for node in sockets:
            node.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for node in sockets:
            node.close()


def _read(node: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while node.recv(1 << 20):
            pass


def by_nodes(server: RedisServer, work: Callable[[int], object]) -> tuple[float, float]:
    """Return the microseconds of a request, and those that each node adds to it."""
    with server.client() as client:
        points = []
        for count in NODE_COUNTS:
            with listening(server, count):

                def all_of_them() -> None:
                    for number in range(REQUESTS):
                        work(number)

                points.append((count, cost(client, REQUESTS, all_of_them)))
    line = linear_regression(*zip(*points, strict=True))
    return line.intercept, line.slope


def opening(server: RedisServer, folder: Path, *, missed: int) -> tuple[float, float]:
    """Return the microseconds of Redis for a stream that opens, and for one that resumes.

    Each has channels of its own, which its node has to subscribe to.
    """
    with server.client() as client, running_daemon(folder, server.url) as daemon:
        with Publisher(server.url) as publisher:
            with daemon.stream(_user(publisher, STREAMS)).opened() as stream:
                position = stream.position
            streams = [
                Stream(f"/?access_token={_user(publisher, user)}", (0,)) for user in range(STREAMS)
            ]
            for user in range(STREAMS):
                for number in range(missed):
                    publisher.publish(f"room:{user}:{number % SUBSCRIPTIONS}", DATA)
        results = []
        for header in ("", f"Last-Event-ID: {position}"):
            asking = [each._replace(header=header) for each in streams]
            with Load(daemon.port, asking, None, window=100) as load:
                results.append(cost(client, STREAMS, lambda load=load: load.ask("open")))  # type: ignore[misc]
            eventually(lambda: not daemon.metrics()["sinapse_streams"])
        return results[0], results[1]


def _user(publisher: Publisher, user: int) -> str:
    for number in range(SUBSCRIPTIONS):
        publisher.channels.add(user, f"room:{user}:{number}")
    return publisher.tokens.generate(user)


def memory(client: redis.Redis, publisher: Publisher) -> dict[str, float]:
    """Return the bytes that Redis keeps."""

    def used() -> int:
        return int(client.info("memory")["used_memory"])

    client.flushdb()
    before = used()
    for user in range(REQUESTS):
        _user(publisher, user)
    users = used()
    for number in range(REQUESTS):
        publisher.publish(f"room:{number % 10}", DATA)
    messages = used()
    for number in range(REQUESTS):
        publisher.publish(f"quiet:{number}", DATA)
    channels = used()
    return {
        f"a subject with token and {SUBSCRIPTIONS} channels": (users - before) / REQUESTS,
        "a retained message of 128 bytes": (messages - users) / REQUESTS,
        "a channel with one retained message": (channels - messages) / REQUESTS,
    }


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    with (
        tempfile.TemporaryDirectory() as name,
        running_redis(Path(name)) as server,
        server.client() as client,
        Publisher(server.url) as publisher,
    ):
        version = client.info("server")["redis_version"]
        for number in range(rounds):
            for what, work in {
                "publish": lambda _: publisher.publish("room:1", DATA),
                "publish, retain=0": lambda _: publisher.publish("room:1", DATA, retain=0),
                "change of a list": lambda each: publisher.channels.add(each % 100, f"at:{each}"),
            }.items():
                base, more = by_nodes(server, work)
                note(f"{what}: µs", base)
                note(f"{what}, each node that hears it: µs", more)
                client.flushdb()
            folder = Path(name) / str(number)
            folder.mkdir()
            opened, resumed = opening(server, folder, missed=10)
            note(f"a stream that opens, with {SUBSCRIPTIONS} channels of its own: µs", opened)
            note("one that resumes, and has missed 10 messages: µs", resumed)
            for what, size in memory(client, publisher).items():
                note(f"{what}: bytes", size)
    print(f"{description()}, Redis {version}; medians of {rounds}, and the least and the most\n")
    for what, values in figures.items():
        print(f"{what:65} {median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")


if __name__ == "__main__":
    main()
