"""What all peers have in common: a process on the server's core, and how to load it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from load import DATA, Publishing, Stream
from machine import family

from tests.support import EVENT_TIMEOUT, free_port, running_redis

__all__ = [
    "Failed",
    "Missing",
    "Peer",
    "Running",
    "Workload",
    "free_port",
    "installed",
    "launched",
    "running_redis",
]

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "bench"


class Missing(Exception):
    """A peer is not installed, or cannot do what is asked for."""


class Failed(Exception):
    """A server has not done what it can."""


@dataclass(frozen=True)
class Workload:
    """What a scenario needs of a server."""

    #: For each stream the numbers of its channels.
    streams: Sequence[Sequence[int]]
    channels: int
    #: Seconds.
    keep_alive: float = 15
    #: A certificate with its key, for streams over TLS.
    certificate: Path | None = None
    #: Streams come back and have missed so many messages.
    missed: int = 0
    #: Streams are WebSockets.
    websocket: bool = False
    #: What messages have in them, each channel the next of these.
    data: Sequence[bytes] = (DATA,)
    #: Streams are compressed, for clients that take that, if the server does not do it anyway.
    compress: bool = False

    def data_of(self, channel: int) -> bytes:
        """Return what the messages of a channel have in them."""
        return self.data[channel % len(self.data)]


@dataclass
class Running:
    """A server that runs, and how to load it."""

    pid: int
    port: int
    streams: Sequence[Stream]
    publishing: Publishing
    #: The Redis that it uses, if it does.
    redis_pid: int | None = None
    #: Publishes changes of what users may hear, if the server has that.
    churn: Publishing | None = None
    #: To be called when the missed messages have been published.
    set_last_event_ids: Callable[[], Sequence[Stream]] | None = None


class Peer(NamedTuple):
    """A server: its name, and what starts it; `scenarios` are the keys of those it can do."""

    name: str
    scenarios: str
    run: Callable[[Workload, Path, frozenset[int]], contextlib.AbstractContextManager[Running]]
    #: It takes so long that it is given less where that does not change what is compared.
    slow: bool = False

    def can(self, key: str) -> bool:
        """Tell whether it can do a scenario."""
        return key in self.scenarios.split()


def installed(program: str) -> Path:
    """Return where a program is: of `make bench-peers`, or the system's; raises `Missing`."""
    found = shutil.which(program, path=f"{BUILD / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise Missing("not installed")
    return Path(found)


@contextlib.contextmanager
def launched(
    command: Sequence[str],
    folder: Path,
    cores: frozenset[int],
    port: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server on `cores` for the length of a with block; it listens on `port` by then."""
    log = folder / "server.log"
    pinned = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
    try:
        deadline = time.monotonic() + EVENT_TIMEOUT
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{command[0]} does not start\n{log.read_text()[-2000:]}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield process.pid
        if process.poll() is not None:
            raise Failed(f"{command[0]} ended meanwhile\n{log.read_text()[-2000:]}")
    finally:
        _end(process)
        if "Traceback" in (text := log.read_text(errors="replace")):
            print(text[-2000:], file=sys.stderr)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server by force: told to end, some would first see to each of their streams."""
    if process.poll() is None:
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()
