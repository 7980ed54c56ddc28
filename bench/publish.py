"""What publishing costs: redis-py's PUBLISH, and the publisher without and with retention.

Usage: python bench/publish.py [MESSAGES ROUNDS]

One client, one connection, to a Redis of its own on this machine, with a subscriber in the place of
a node: one message after the other, then many in one round trip. The rounds are interleaved and the
figures are medians, so that what else the machine does falls on all alike: compare the ratios,
which are to the first row of each table. Two more tables are of asyncio, with batches and without:
tasks that publish one after the other, and many at once. The second of two ratios is that of
processor time, client and Redis together, which others on the machine disturb least.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import redis

from sinapse.protocol.message import Message, pack
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Outgoing, Publisher, aio
from tests.support import running_redis

DEFAULTS = 5000, 9
CHANNELS = [f"room:{number}" for number in range(10)]
DATA = '{"user":"somebody","text":"%s"}' % ("x" * 100)

#: Messages of one round trip.
MANY = 500

#: Tasks that publish at once.
TASKS = 1000

#: Publishes so many messages.
Way = Callable[[int], object]


class Figures(NamedTuple):
    """Of one round; microseconds a message."""

    elapsed: float
    client: float
    server: float


def measure(client: redis.Redis, publish: Way, messages: int) -> Figures:
    """Publish so many messages."""
    server = server_seconds(client)
    used = time.process_time()
    start = time.perf_counter()
    publish(messages)
    elapsed = time.perf_counter() - start
    used = time.process_time() - used
    server = server_seconds(client) - server
    return Figures(*(seconds / messages * 1e6 for seconds in (elapsed, used, server)))


def server_seconds(client: redis.Redis) -> float:
    """Return the processor time that Redis has used."""
    usage = client.info("cpu")
    return float(usage["used_cpu_user"] + usage["used_cpu_sys"])


def one_by_one(publish: Callable[[str], object]) -> Way:
    """Publish one message after the other."""

    def run(messages: int) -> None:
        for number in range(messages):
            publish(CHANNELS[number % len(CHANNELS)])

    return run


def many_at_once(publish: Callable[[list[str]], object]) -> Way:
    """Publish many messages in one round trip."""

    def run(messages: int) -> None:
        for start in range(0, messages, MANY):
            count = min(MANY, messages - start)
            publish([CHANNELS[number % len(CHANNELS)] for number in range(count)])

    return run


def pipelined(client: redis.Redis) -> Callable[[list[str]], object]:
    """Return what redis-py has for many messages."""

    def publish(channels: list[str]) -> object:
        pipe = client.pipeline(transaction=False)
        for channel in channels:
            pipe.publish(channel, pack(Message(DATA)))
        return pipe.execute()

    return publish


def together(publisher: Publisher, retain: int) -> Callable[[list[str]], object]:
    """Return what the publisher has for many messages."""
    return lambda channels: publisher.publish_many(
        Outgoing(channel, DATA, retain=retain) for channel in channels
    )


def of_tasks(loop: asyncio.Runner, publisher: aio.Publisher, tasks: int) -> Way:
    """Publish from so many tasks at once, on asyncio."""

    async def publish(messages: int) -> None:
        for start in range(0, messages, tasks):
            numbers = range(min(tasks, messages - start))
            if tasks == 1:
                await publisher.publish(CHANNELS[0], DATA, retain=300)
            else:
                await asyncio.gather(
                    *(
                        publisher.publish(CHANNELS[number % len(CHANNELS)], DATA, retain=300)
                        for number in numbers
                    )
                )

    return lambda messages: loop.run(publish(messages))


def compare(client: redis.Redis, ways: Mapping[str, Way], messages: int, rounds: int) -> None:
    """Print a table."""
    results: dict[str, list[Figures]] = {name: [] for name in ways}
    for publish in ways.values():
        measure(client, publish, messages // 10)
    for _ in range(rounds):
        for name, publish in ways.items():
            results[name].append(measure(client, publish, messages))
    print(f"\n{'':28} {'messages/s':>12} {'client CPU':>12} {'Redis CPU':>12}   ratios")
    base = None
    for name, figures in results.items():
        middle = Figures(*map(median, zip(*figures, strict=True)))
        base = base or middle
        ratios = (
            base.elapsed / middle.elapsed,
            (base.client + base.server) / (middle.client + middle.server),
        )
        print(
            f"{name:28} {1e6 / middle.elapsed:12,.0f} {middle.client:9.1f} µs"
            f" {middle.server:9.1f} µs   {'  '.join(f'{each:.2f}' for each in ratios)}"
        )


def main() -> None:
    """Print the tables."""
    messages, rounds = DEFAULTS if len(sys.argv) < 3 else map(int, sys.argv[1:3])
    print(f"{rounds} rounds of {messages} messages of {len(DATA)} bytes, {len(CHANNELS)} channels")
    print("ratios: messages a second, messages a second of processor time")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as server,
        server.client() as client,
        client.pubsub() as node,
        Publisher(server.url) as publisher,
    ):
        node.subscribe(PLAIN.nodes)
        node.get_message(timeout=10)
        alone: dict[str, Way] = {
            "redis-py PUBLISH": one_by_one(
                lambda channel: client.publish(channel, pack(Message(DATA)))
            ),
            "publish(retain=0)": one_by_one(
                lambda channel: publisher.publish(channel, DATA, retain=0)
            ),
            "publish(retain=300)": one_by_one(
                lambda channel: publisher.publish(channel, DATA, retain=300)
            ),
        }
        compare(client, alone, messages, rounds)
        many: dict[str, Way] = {
            f"redis-py pipeline of {MANY}": many_at_once(pipelined(client)),
            "publish_many(retain=0)": many_at_once(together(publisher, 0)),
            "publish_many(retain=300)": many_at_once(together(publisher, 300)),
        }
        compare(client, many, messages, rounds)
        with asyncio.Runner() as loop:
            apart = aio.Publisher(server.url, batch=False)
            joined = aio.Publisher(server.url)
            for tasks, name in ((1, "asyncio, one by one"), (TASKS, f"asyncio, {TASKS:,} tasks")):
                ways = {
                    f"{name}, apart": of_tasks(loop, apart, tasks),
                    f"{name}, batch": of_tasks(loop, joined, tasks),
                }
                compare(client, ways, messages, rounds)


if __name__ == "__main__":
    main()
