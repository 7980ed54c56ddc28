"""How long a daemon takes to start, and to drain, and what that costs.

Usage: python bench/drain.py [STREAMS ROUNDS]

Everything is on this machine, with the defaults of the daemon; the streams are idle, and each of
another subject. Needs a C compiler, and Linux for the figures.
"""

import contextlib
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from load import Load, Stream  # noqa: E402
from machine import cpu, description  # noqa: E402

from sinapse.protocol.names import PLAIN  # noqa: E402
from tests.support import RedisServer, running_redis  # noqa: E402
from tests.support.daemon import Daemon  # noqa: E402

DEFAULTS = 15_000, 3
DRAINS = (20, 0)

#: Connects on their way at any time.
WINDOW = 200

#: Seconds for the clients to notice the ends.
NOTICE_TIME = 10


def write_users(server: RedisServer, count: int) -> list[Stream]:
    """Give as many subjects a token and a channel, and return what they ask for."""
    with server.client() as client:
        pipeline = client.pipeline(transaction=False)
        for user in range(count):
            pipeline.set(PLAIN.token_key(f"token-{user}"), str(user))
            pipeline.sadd(PLAIN.channels_key(str(user)), f"room:{user % 100}")
        pipeline.execute()
    return [Stream(f"/?access_token=token-{user}", (0,)) for user in range(count)]


def measure(folder: Path, url: str, streams: list[Stream], drain: int) -> dict[str, float]:
    """Start a daemon, let the streams open, and drain it."""
    daemon = Daemon(folder, url, "--drain", str(drain))
    begun = time.monotonic()
    daemon.start()
    ready = time.monotonic() - begun
    process = daemon.process
    assert process is not None  # noqa: S101
    with Load(daemon.port, streams, None, window=WINDOW) as load:
        answer = load.ask("open")
        if answer["opened"] != len(streams):
            sys.exit(f"not all streams have opened: {answer}")
        used = cpu(daemon.pid).total
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.monotonic()
        # What it notices while it does this counts, and nothing else.
        load.send(f"idle {drain + NOTICE_TIME}")
        process.terminate()
        process.wait()
        elapsed = time.monotonic() - begun
        total = resource.getrusage(resource.RUSAGE_CHILDREN)
        gone = load.answer()["gone"]
    if gone != len(streams):
        sys.exit(f"{gone} of {len(streams)} streams have ended")
    cost = total.ru_utime + total.ru_stime - ended.ru_utime - ended.ru_stime - used
    return {"ready": ready, "drain": elapsed, "cpu": cost}


def main() -> None:
    """Print the table."""
    count, rounds = map(int, sys.argv[1:3]) if len(sys.argv) == 3 else DEFAULTS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{description()}; medians of {rounds}\n")
    print(f"{'':16} {'start to ready':>15} {'SIGTERM to end':>15} {'CPU of that':>12} a stream")
    for streams in (0, count):
        for drain in DRAINS:
            figures = []
            for _ in range(rounds):
                with contextlib.ExitStack() as stack:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    server = stack.enter_context(running_redis(folder))
                    figures.append(measure(folder, server.url, write_users(server, streams), drain))
            ready, elapsed, used = (
                median(each[name] for each in figures) for name in ("ready", "drain", "cpu")
            )
            each_us = f"{used / streams * 1e6:5.0f} µs" if streams else ""
            print(
                f"{streams:6} in {drain:2} s   {ready:12.2f} s {elapsed:13.2f} s {used:10.2f} s"
                f" {each_us}",
                flush=True,
            )


if __name__ == "__main__":
    main()
