"""What the ear of a node with workers does: what Redis pays for a message, and how late that is.

Usage: python bench/ear.py [ROUNDS WORKERS]         (by default 5 rounds of 1 and 8 workers)

A Redis and a daemon of their own on this machine, with as many streams for each number of workers,
all of one channel. The load client of bench/run.py publishes plain messages, for which the share of
those who hear them is the largest, and times each delivery. The rounds are interleaved and the
figures are medians; the ratios are to the first number of workers. What Redis does while nothing is
published is left out: each worker asks now and then whether it is still there. Needs a C compiler.
"""

import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

import hiredis  # noqa: E402
from load import DATA, Load, Publishing, Stream  # noqa: E402
from machine import cpu, description  # noqa: E402

from sinapse.protocol.message import Message, pack  # noqa: E402
from sinapse.publisher import Publisher  # noqa: E402
from tests.support import RedisServer, eventually, running_redis  # noqa: E402
from tests.support.daemon import Daemon, running_daemon  # noqa: E402
from tests.support.workers import EAR_SERVES  # noqa: E402

ROUNDS = 5
WORKERS = (1, 8)

CHANNEL = "room:1"

#: Streams, and messages and how many in a second: all processes together have to fit on two cores.
STREAMS = 200
MESSAGES = 1000
RATE = 100

#: Seconds for which nothing is published, to see what Redis does then.
QUIET = 5

#: Names of the figures. What the ear costs is in that of the node.
FIGURES = ("Redis, µs a message", "node, µs a message", "its ear, µs", "p50, ms", "p99, ms")


@contextlib.contextmanager
def running(workers: int) -> Iterator[tuple[RedisServer, Daemon, Load]]:
    """Run a Redis, a daemon, and a load client with open streams at every worker."""
    with (
        tempfile.TemporaryDirectory(prefix="sinapse-") as name,
        running_redis(Path(name)) as server,
        running_daemon(Path(name), server.url, "--workers", str(workers)) as daemon,
        Publisher(server.url) as publisher,
    ):
        eventually(daemon.is_ready)
        publisher.channels.add("1", CHANNEL)
        target = f"/?access_token={publisher.tokens.generate('1')}"
        words = (b"PUBLISH", CHANNEL.encode(), pack(Message(DATA.decode())))
        request = hiredis.pack_command(words)  # type: ignore[arg-type]  # its hint is wrong
        publishing = Publishing(server.port, [request], "\r\n")
        while True:  # The kernel may give all to a few of the workers.
            with Load(daemon.port, [Stream(target, (0,))] * STREAMS, publishing) as load:
                assert load.ask("open")["opened"] == STREAMS  # noqa: S101
                if workers == 1 or serve_all(daemon):
                    yield server, daemon, load
                    return


def serve_all(daemon: Daemon) -> bool:
    """Whether each worker has streams."""
    told = json.loads(daemon.admin("/status").text)  # type: ignore[attr-defined]
    return all(each["streams"] for each in told["workers"])


def measure(workers: int) -> tuple[float, ...]:
    """Return the :data:`FIGURES` of one run."""
    with running(workers) as (server, daemon, load):
        assert server.process is not None  # noqa: S101
        pids = [server.process.pid, daemon.pid]
        if ears := EAR_SERVES.findall(daemon.log):
            pids.append(int(ears[-1]))
        load.ask(f"publish {RATE} {RATE}")  # Everybody is warm.
        before = [cpu(pid) for pid in pids]
        load.ask(f"idle {QUIET}")
        idle = [cpu(pid).since(was).total / QUIET for pid, was in zip(pids, before, strict=True)]
        before = [cpu(pid) for pid in pids]
        answer = load.ask(f"publish {MESSAGES} {RATE}")
        used = [cpu(pid).since(was).total for pid, was in zip(pids, before, strict=True)]
        assert answer["received"] == answer["expected"]  # noqa: S101
        assert not answer["disorder"]  # noqa: S101
        costs = [
            (each - rest * MESSAGES / RATE) / MESSAGES * 1e6
            for each, rest in zip(used, idle, strict=True)
        ]
        costs += [math.nan] * (3 - len(costs))
        latency = answer["latency_us"]
        return (*costs, latency["p50"] / 1e3, latency["p99"] / 1e3)


def ratio(value: float, first: float) -> str:
    """Return how much a value is of the first one of its kind, if there is one."""
    return "" if math.isnan(first) else f" ({value / first:.2f} x)"


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    counts = tuple(map(int, sys.argv[2].split(","))) if len(sys.argv) > 2 else WORKERS
    measured: dict[int, list[tuple[float, ...]]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            measured[count].append(measure(count))
    print(f"{description()}; medians of {rounds}\n")
    print("".join([f"{'workers':10}", *(f"{name:>28}" for name in FIGURES)]))
    base: list[float] = []
    for count, figures in measured.items():
        medians = [median(values) for values in zip(*figures, strict=True)]
        base = base or medians
        cells = [
            "none" if math.isnan(value) else f"{value:.2f}{ratio(value, first)}"
            for value, first in zip(medians, base, strict=True)
        ]
        print("".join([f"{count:<10}", *(f"{cell:>28}" for cell in cells)]))


if __name__ == "__main__":
    main()
