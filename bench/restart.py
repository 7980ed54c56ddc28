"""Two nodes behind a load balancer are restarted in turn under load: what clients notice of it.

Usage: python bench/restart.py [haproxy|nginx [CLIENTS MESSAGES]]

Everything is on this machine, with the files of contrib/ and the defaults of the daemon; MESSAGES
are those published a second, each for some of the clients. A client comes back when it was told to,
with its last event ID, and knows which message is next. Ends with 1 if a client was refused, or if
a message was lost, doubled or out of order.
"""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sinapse.publisher import Publisher
from tests.support import running_redis
from tests.support.crowd import Crowd
from tests.support.nodes import restart, running_nodes

DEFAULTS = "haproxy", "2000", "20"
DRAIN = ("--drain", "20")

#: Seconds of load before the first restart and after the last.
CALM = 5


def main() -> int:
    """Run it, and return the status to exit with."""
    given = sys.argv[1:]
    name, count, rate = (*given, *DEFAULTS[len(given) :])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_redis(folder))
        publisher = stack.enter_context(Publisher(server.url))
        proxy = stack.enter_context(running_nodes(name, folder, server.url, *DRAIN))
        crowd = Crowd(publisher, proxy.port, int(count), float(rate))
        stack.callback(crowd.close)
        started = time.monotonic()

        def say(what: str) -> None:
            streams = [node.metrics().get("sinapse_streams", 0) for node in proxy.nodes]
            print(
                f"{time.monotonic() - started:5.1f} s  {what}: {streams[0]:.0f} + {streams[1]:.0f}"
                f" streams, {crowd.totals['resumed']} have come back",
                flush=True,
            )

        def wait(condition: Callable[[], object]) -> None:
            crowd.until(condition, 120)

        def pause() -> None:
            end = time.monotonic() + CALM
            wait(lambda: time.monotonic() > end)

        crowd.open()
        say(f"{count} clients have connected")
        crowd.begin()
        pause()
        for number in range(len(proxy.nodes)):
            restart(proxy, number, wait)
            say(f"node {number + 1} was restarted, and is used")
        pause()
        crowd.settle()
        say("everybody has everything")
    for fault in crowd.faults[:20]:
        print(f"FAULT: {fault}")
    print(f"{crowd.published} messages published, {len(crowd.faults)} faults")
    print(", ".join(f"{value} {name}" for name, value in crowd.totals.items()))
    return 1 if crowd.faults else 0


if __name__ == "__main__":
    sys.exit(main())
