"""What groups cost, beside lists: a channel given to 10,000 people, connects, and memory.

Usage: python bench/groups.py [ROUNDS]

Everything is on this machine. What stands for a node that has no member is a connection that
listens to what a node listens to; streams are open on a real daemon, and idle. Ways take turns in
each round; figures are medians of the rounds, with the least and the most. Needs a C compiler, and
Linux for the figures.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

import redis  # noqa: E402
from load import Load, Stream  # noqa: E402
from machine import cpu, description, memory  # noqa: E402
from redis_costs import listening, processor_seconds  # noqa: E402
from text import Figures, medians, note  # noqa: E402

from sinapse.publisher import Publisher  # noqa: E402
from tests.support import RedisServer, eventually, running_redis  # noqa: E402
from tests.support.daemon import Daemon, running_daemon  # noqa: E402

ROUNDS = 5

#: People who may listen, processes that they are on, and changes of a measure.
MEMBERS = 10_000
PROCESSES = 20
CHANGES = 100

#: Streams of a daemon.
STREAMS = 2000
WINDOW = 100

#: Groups of each subject that connects, and channels of each of them.
GROUPS = 5
CHANNELS = 4

#: Channels of a long list.
LONG = 100


@contextmanager
def opened(daemon: Daemon, tokens: list[str]) -> Iterator[Load]:
    """Open a stream with each token, and end them behind the block."""
    streams = [Stream(f"/?access_token={token}", (0,)) for token in tokens]
    with Load(daemon.port, streams, None, window=WINDOW) as load:
        answer = load.ask("open")
        if answer["opened"] != len(tokens):
            sys.exit(f"not all streams have opened: {answer}")
        yield load
    eventually(lambda: not daemon.metrics()["sinapse_streams"])


def subjects(publisher: Publisher, count: int) -> list[str]:
    """Give as many subjects a token and a list of one channel; return the tokens."""
    with publisher.pipeline() as pipeline:
        for number in range(count):
            pipeline.channels.add(number, f"own:{number % 100}")
    return [publisher.tokens.generate(number) for number in range(count)]


def give(figures: Figures, server: RedisServer, publisher: Publisher, client: redis.Redis) -> None:
    """Give channels to all people, by a group and by their lists, where twenty nodes hear it."""
    with publisher.pipeline() as pipeline:
        for number in range(MEMBERS):
            pipeline.groups.add(number, "all")
    everybody = publisher.groups.channels("all")
    with listening(server, PROCESSES):
        before, begun = processor_seconds(client), time.perf_counter()
        for number in range(CHANGES):
            everybody.add(f"news:{number}")
        used, elapsed = processor_seconds(client) - before, time.perf_counter() - begun
        note(figures, "given to a group: ms of Redis", used / CHANGES * 1e3)
        note(figures, "given to a group: ms until it is done", elapsed / CHANGES * 1e3)
        before, begun = processor_seconds(client), time.perf_counter()
        with publisher.pipeline() as pipeline:
            for number in range(MEMBERS):
                pipeline.channels.add(number, "news")
        used, elapsed = processor_seconds(client) - before, time.perf_counter() - begun
        note(figures, "given to as many lists: ms of Redis", used * 1e3)
        note(figures, "given to as many lists: ms until it is done", elapsed * 1e3)


def heard(figures: Figures, daemon: Daemon, publisher: Publisher) -> None:
    """Give channels to members with streams on one daemon."""
    tokens = subjects(publisher, STREAMS)
    with publisher.pipeline() as pipeline:
        for number in range(STREAMS):
            pipeline.groups.add(number, "all")
    everybody = publisher.groups.channels("all")
    with opened(daemon, tokens):
        before = cpu(daemon.pid).total
        for number in range(CHANGES):
            everybody.add(f"news:{number}")
            publisher.publish("own:0", "so that it has been heard", retain=0)
        used = cpu(daemon.pid).total - before
        note(figures, "heard: µs of a daemon for each member there", used / CHANGES / STREAMS * 1e6)


def connects(figures: Figures, daemon: Daemon, publisher: Publisher, client: redis.Redis) -> None:
    """Open streams without groups, and with some."""
    for groups in (0, GROUPS):
        client.flushdb()
        tokens = subjects(publisher, STREAMS)
        with publisher.pipeline() as pipeline:
            for group in range(groups):
                for channel in range(CHANNELS):
                    pipeline.groups.channels(f"g{group}").add(f"of group {group}: {channel}")
                for number in range(STREAMS):
                    pipeline.groups.add(number, f"g{group}")
        before, redis_before = cpu(daemon.pid).total, processor_seconds(client)
        with opened(daemon, tokens):
            used = cpu(daemon.pid).total - before
            redis_used = processor_seconds(client) - redis_before
        what = f"a connect with {groups} groups of {CHANNELS}" if groups else "a connect"
        note(figures, f"{what}: µs of a daemon", used / STREAMS * 1e6)
        note(figures, f"{what}: µs of Redis", redis_used / STREAMS * 1e6)


def bytes_of_streams(
    figures: Figures, daemon: Daemon, publisher: Publisher, client: redis.Redis
) -> None:
    """Open streams whose long list is a group's, and such that have a list each."""
    for is_by_group in (True, False):
        client.flushdb()
        tokens = subjects(publisher, STREAMS)
        names = [f"news:{number}" for number in range(LONG)]
        if is_by_group:
            with publisher.pipeline() as pipeline:
                for name in names:
                    pipeline.groups.channels("all").add(name)
                for number in range(STREAMS):
                    pipeline.groups.add(number, "all")
        for number in range(0 if is_by_group else STREAMS):
            with publisher.pipeline() as pipeline:
                for name in names:
                    pipeline.channels.add(number, name)
        before = memory(daemon.pid)
        with opened(daemon, tokens):
            used = memory(daemon.pid) - before
        what = "by a group" if is_by_group else "by their lists"
        note(figures, f"a stream with {LONG} channels {what}: KiB", used / STREAMS / 1024)


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: Figures = {}
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as name,
            running_redis(Path(name)) as server,
            server.client() as client,
            Publisher(server.url) as publisher,
        ):
            version = client.info("server")["redis_version"]
            give(figures, server, publisher, client)
            client.flushdb()
            for measure in (heard, connects, bytes_of_streams):
                # Each with a daemon of its own: memory that was used once is not given back.
                folder = Path(name) / measure.__name__
                folder.mkdir()
                with running_daemon(folder, server.url) as daemon:
                    arguments = () if measure is heard else (client,)
                    measure(figures, daemon, publisher, *arguments)  # type: ignore[operator]
                client.flushdb()
    print(f"{description()}, Redis {version}; medians of {rounds}, and the least and the most\n")
    print(medians(figures))


if __name__ == "__main__":
    main()
