"""What runs cost: many at once, in one process, beside a plain publish of each of their pieces.

Usage: python bench/runs.py [RUNS PIECES ROUNDS]

Each run sends its pieces on asyncio, small ones as a language model makes them, each after giving
the others their turn: as fast as this process and a Redis of its own on this machine can take them.
Beside it, as many tasks publish each piece by itself, retained for as long and replayed whole, and
plain (`retain=0`). A subscriber is in the place of a node. The rounds are interleaved and the
figures are medians, so that what else the machine does falls on all alike: compare the ratios,
which are to the runs. The process is this one; Redis is beside it.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import redis

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from machine import description  # noqa: E402

from sinapse.protocol.names import PLAIN  # noqa: E402
from sinapse.protocol.runs import MESSAGES  # noqa: E402
from sinapse.publisher import aio  # noqa: E402
from sinapse.publisher.runs.block import RUN_RETAIN  # noqa: E402
from tests.support import running_redis  # noqa: E402

DEFAULTS = 200, 1000, 3

#: Pieces of text: parts of words, as such models make them.
WORDS = ("The", " answer", " is", " not", " in", " the", " last", " para", "graph", ",", ".")

#: Sends the pieces of one run.
Way = Callable[[aio.Publisher, int, list[str]], Awaitable[None]]


class Figures(NamedTuple):
    """Of one round: pieces a second, and microseconds of processor time a piece."""

    rate: float
    client: float
    server: float


async def as_run(publisher: aio.Publisher, number: int, pieces: list[str]) -> None:
    """Send the pieces in a run."""
    async with publisher.run(number, name="answer") as run:
        for piece in pieces:
            await run.send(piece)
            await asyncio.sleep(0)


async def retained(publisher: aio.Publisher, number: int, pieces: list[str]) -> None:
    """Publish each piece by itself, so that a new stream gets all."""
    for piece in pieces:
        await publisher.publish(
            f"answer:{number}", piece, retain=RUN_RETAIN, retain_messages=MESSAGES, replay="all"
        )


async def plain(publisher: aio.Publisher, number: int, pieces: list[str]) -> None:
    """Publish each piece by itself, and keep nothing."""
    for piece in pieces:
        await publisher.publish(f"answer:{number}", piece, retain=0)


WAYS: dict[str, Way] = {
    "runs": as_run,
    "publish of each piece": retained,
    "publish(retain=0) of each": plain,
}


def server_seconds(client: redis.Redis) -> float:
    """Return the processor time that Redis has used."""
    usage = client.info("cpu")
    return float(usage["used_cpu_user"] + usage["used_cpu_sys"])


def measure(client: redis.Redis, url: str, way: Way, answers: list[list[str]]) -> Figures:
    """Send all the answers at once."""

    async def send() -> None:
        async with aio.Publisher(url) as publisher:
            numbered = enumerate(answers)
            await asyncio.gather(*(way(publisher, number, each) for number, each in numbered))

    client.flushall()
    server, used, start = server_seconds(client), time.process_time(), time.perf_counter()
    asyncio.run(send())
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    server = server_seconds(client) - server
    count = sum(map(len, answers))
    return Figures(count / elapsed, used / count * 1e6, server / count * 1e6)


def main() -> None:
    """Print the table."""
    runs, length, rounds = DEFAULTS if len(sys.argv) < 4 else map(int, sys.argv[1:4])
    chance = random.Random(1)  # noqa: S311
    answers = [chance.choices(WORDS, k=length) for _ in range(runs)]
    print(description())
    print(f"{rounds} rounds of {runs} at once, of {length} pieces each")
    results: dict[str, list[Figures]] = {name: [] for name in WAYS}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as server,
        server.client() as client,
        client.pubsub() as node,
    ):
        node.subscribe(PLAIN.nodes)
        node.get_message(timeout=10)
        for _ in range(rounds):
            for name, way in WAYS.items():
                results[name].append(measure(client, server.url, way, answers))
    print(f"\n{'':26} {'pieces/s':>12} {'process CPU':>12} {'Redis CPU':>12}   ratios")
    base = None
    for name, figures in results.items():
        middle = Figures(*map(median, zip(*figures, strict=True)))
        base = base or middle
        ratios = middle.rate / base.rate, middle.client / base.client
        print(
            f"{name:26} {middle.rate:12,.0f} {middle.client:9.1f} µs {middle.server:9.1f} µs"
            f"   {'  '.join(f'{each:.2f}' for each in ratios)}"
        )
    print("ratios: pieces a second, CPU of the process a piece")


if __name__ == "__main__":
    main()
