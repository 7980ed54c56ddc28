"""What publishing costs: redis-py's PUBLISH, and the publisher without and with retention.

Usage: python bench/publish.py [MESSAGES ROUNDS]

One client, one connection, one message after the other, to a Redis of its own on this machine, with
a subscriber in the place of a node. The rounds are interleaved and the figures are medians, so that
what else the machine does falls on all alike: compare the ratios, which are to the first row.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import redis

from sinapse.keys import NODES
from sinapse.message import Message, pack
from sinapse.publisher import Publisher
from tests.support import running_redis

DEFAULTS = 5000, 9
CHANNELS = 10
DATA = '{"user":"somebody","text":"%s"}' % ("x" * 100)


class Figures(NamedTuple):
    """Of one round; microseconds a message."""

    elapsed: float
    client: float
    server: float


def measure(client: redis.Redis, publish: Callable[[str], object], messages: int) -> Figures:
    """Publish so many messages."""
    channels = [f"room:{number}" for number in range(CHANNELS)]
    server = server_seconds(client)
    used = time.process_time()
    start = time.perf_counter()
    for number in range(messages):
        publish(channels[number % CHANNELS])
    elapsed = time.perf_counter() - start
    used = time.process_time() - used
    server = server_seconds(client) - server
    return Figures(*(seconds / messages * 1e6 for seconds in (elapsed, used, server)))


def server_seconds(client: redis.Redis) -> float:
    """Return the processor time that Redis has used."""
    usage = client.info("cpu")
    return float(usage["used_cpu_user"] + usage["used_cpu_sys"])


def main() -> None:
    """Print the table."""
    messages, rounds = DEFAULTS if len(sys.argv) < 3 else map(int, sys.argv[1:3])
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as server,
        server.client() as client,
        client.pubsub() as node,
        Publisher(server.url) as publisher,
    ):
        node.subscribe(NODES)
        node.get_message(timeout=10)
        ways: dict[str, Callable[[str], object]] = {
            "redis-py PUBLISH": lambda channel: client.publish(channel, pack(Message(DATA))),
            "publish(retain=0)": lambda channel: publisher.publish(channel, DATA, retain=0),
            "publish(retain=300)": lambda channel: publisher.publish(channel, DATA, retain=300),
        }
        results: dict[str, list[Figures]] = {name: [] for name in ways}
        for publish in ways.values():
            measure(client, publish, messages // 10)
        for _ in range(rounds):
            for name, publish in ways.items():
                results[name].append(measure(client, publish, messages))
    print(f"{rounds} rounds of {messages} messages of {len(DATA)} bytes, {CHANNELS} channels\n")
    print(f"{'':20} {'messages/s':>12} {'client CPU':>12} {'Redis CPU':>12}   ratios")
    base = None
    for name, figures in results.items():
        middle = Figures(*map(median, zip(*figures, strict=True)))
        base = base or middle
        ratios = "  ".join(
            f"{value:.2f}"
            for value in (
                base.elapsed / middle.elapsed,
                middle.client / base.client,
                middle.server / base.server,
            )
        )
        print(
            f"{name:20} {1e6 / middle.elapsed:12,.0f} {middle.client:9.1f} µs"
            f" {middle.server:9.1f} µs   {ratios}"
        )


if __name__ == "__main__":
    main()
