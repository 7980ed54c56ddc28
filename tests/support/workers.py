"""A daemon with workers, and how they are."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import eventually
from tests.support.daemon import Daemon, Stream, running_daemon

#: The lines that tell which process serves: number and pid.
SERVES = re.compile(r"worker (\d+) \(process (\d+)\) serves")
EAR_SERVES = re.compile(r"the ear \(process (\d+)\) serves")


def serving(daemon: Daemon) -> dict[int, int]:
    """Return the pid of the last process of each worker that has begun to serve."""
    return {int(number): int(pid) for number, pid in SERVES.findall(daemon.log)}


def alive(pid: int) -> bool:
    """Whether a process is there, and no mere zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Workers:
    """A daemon with workers, and how they are."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self.daemon = daemon
        self.count = count

    def all_serve(self, *, ready: bool = True) -> dict[int, int]:
        """Wait until all workers serve, and have Redis, and return their pids."""

        def pids() -> dict[int, int]:
            found = serving(self.daemon)
            return found if len(found) == self.count and all(map(alive, found.values())) else {}

        found = eventually(pids, "all workers serve")
        if ready:
            # Streams that come earlier are told to come again.
            eventually(self.daemon.is_ready, "all have Redis")
        return found

    def ear(self, ears: int = 1) -> int:
        """Return the pid of the ear, once so many have served."""
        eventually(lambda: len(EAR_SERVES.findall(self.daemon.log)) >= ears, "an ear serves")
        return int(EAR_SERVES.findall(self.daemon.log)[-1])

    @contextlib.contextmanager
    def one_of_each(self, token: str) -> Iterator[dict[int, Stream]]:
        """Open streams until each worker has one; they are closed when the with block ends."""
        streams: dict[int, Stream] = {}
        with contextlib.ExitStack() as stack:
            while len(streams) < self.count:
                stream = stack.enter_context(self.daemon.stream(token)).opened()
                streams.setdefault(self.owner(stream), stream)
            yield streams

    def owner(self, stream: Stream) -> int:
        """Return the pid of the worker that has accepted a connection."""
        ours = stream.socket.getsockname()[1]
        return owners(self.daemon.port, list(serving(self.daemon).values()))[ours]


def owners(port: int, pids: list[int]) -> dict[int, int]:
    """Return who has which connection to `port`: pid by the client's port."""
    inodes: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            inodes[fields[9]] = int(fields[2].split(":")[1], 16)
    found = {}
    for pid in pids:
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(each.readlink())
                if target.startswith("socket:") and target[8:-1] in inodes:
                    found[inodes[target[8:-1]]] = pid
    return found


@contextlib.contextmanager
def running_workers(
    folder: Path, redis_url: str, *options: str, count: int = 2, **others: Any
) -> Iterator[Workers]:
    """Run a daemon with workers for the length of a with block."""
    arguments = ("--workers", str(count), *options)
    with running_daemon(folder, redis_url, *arguments, **others) as daemon:
        workers = Workers(daemon, count)
        pids = list(workers.all_serve().values())
        yield workers
        pids += [*serving(daemon).values(), *map(int, EAR_SERVES.findall(daemon.log))]
    eventually(lambda: not any(map(alive, pids)), "no worker is left")
