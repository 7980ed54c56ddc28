"""``sinapse bench``: how fast it is on this machine, in a quarter of a minute.

A daemon of its own, with a private Redis, is measured from outside: what it says of its CPU and
memory, and what comes over the sockets. The load runs on the same machine, so that these figures
are for comparing machines and versions; ``bench/`` of the sources compares with other servers.
"""

import os
import resource
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import click
from prometheus_client.parser import text_string_to_metric_families

from sinapse.child import Child, daemon_command, find_redis, free_port
from sinapse.cli.publishing import Refused, in_one_line
from sinapse.protocol.redisurl import EMBEDDED
from sinapse.publisher import Publisher

CHANNEL = "bench"

#: Messages at once, and paced.
BURST = 500
PACED = 30

#: Seconds between two paced messages, and for anything to be complete.
PACE = 0.1
COMPLETION_TIMEOUT = 60.0

#: What ends every message here, and the first event of a stream.
MARK = b"~\n"
OPENED = b"data: ok\n"


class Usage(NamedTuple):
    """What the daemon has used."""

    cpu: float
    """Seconds."""
    memory: float
    """Bytes."""


class Figure(NamedTuple):
    """One line of the result."""

    name: str
    value: str
    unit: str


@click.command("bench")
@click.option(
    "--streams", default=1000, show_default=True, type=click.IntRange(1, 100_000), metavar="N"
)
def command(streams: int) -> None:
    """Measure a daemon of its own on this machine: connects, a burst, a fan-out, memory."""
    if find_redis() is None:
        raise Refused("there is no Redis to run: pip install 'sinapse-push[embedded]'")
    _allow(streams + 100)
    with ExitStack() as stack, in_one_line():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sinapse-")))
        port = free_port()
        admin = folder / "admin.sock"
        url = f"{EMBEDDED}{folder}"
        serve = daemon_command(port, "--redis", url, "--admin", f"unix:{admin}")
        environment = {name: value for name, value in os.environ.items() if "SINAPSE" not in name}
        daemon = Child("The daemon", serve, environment, folder / "daemon.log")
        stack.enter_context(daemon)
        daemon.wait_until_answers(port, "/ready")
        publisher = stack.enter_context(Publisher(url, prefix=""))
        _print(_measure(publisher, port, admin, streams))


def _measure(publisher: Publisher, port: int, admin: Path, count: int) -> Iterator[Figure]:
    tokens = []
    for number in range(count):
        publisher.channels.add(str(number), CHANNEL)
        tokens.append(publisher.tokens.generate(str(number)))
    begin = _usage(admin)
    with _Crowd(port, tokens) as crowd:
        crowd.wait(OPENED, count)
        opened = _usage(admin)
        yield Figure("a connect, CPU", f"{1e6 * (opened.cpu - begin.cpu) / count:.0f}", "µs")
        yield Figure("a stream", f"{(opened.memory - begin.memory) / count / 1024:.1f}", "KiB")

        text = "x" * 100 + "~"
        start = time.perf_counter()
        for _ in range(BURST):
            publisher.publish(CHANNEL, text, retain=0)
        crowd.wait(MARK, count * BURST)
        seconds = time.perf_counter() - start
        burst = _usage(admin)
        deliveries = count * BURST
        cost = 1e6 * (burst.cpu - opened.cpu) / deliveries
        yield Figure("a delivery of a burst, CPU", f"{cost:.2f}", "µs")
        yield Figure("deliveries of a burst", f"{deliveries / seconds:,.0f}", "a second")

        times = []
        for _ in range(PACED):
            start = time.perf_counter()
            publisher.publish(CHANNEL, text, retain=0)
            crowd.wait(MARK, count)
            times.append(time.perf_counter() - start)
            time.sleep(max(0.0, PACE - times[-1]))
        paced = _usage(admin)
        cost = 1e6 * (paced.cpu - burst.cpu) / (count * PACED)
        yield Figure("a delivery of a fan-out, CPU", f"{cost:.1f}", "µs")
        middle = 1000 * sorted(times)[PACED // 2]
        yield Figure(f"a message to all {count} streams, median", f"{middle:.1f}", "ms")


class _Crowd:
    """Many streams; it only counts the messages that it waits for."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        try:
            for token in tokens:
                self._open(port, token)
        except BaseException:
            self.close()
            raise

    def _open(self, port: int, token: str) -> None:
        stream = socket.create_connection(("127.0.0.1", port), COMPLETION_TIMEOUT)
        self._sockets.append(stream)
        stream.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        stream.setblocking(False)
        # What is waited for may come in two parts.
        self._selector.register(stream, selectors.EVENT_READ, bytearray())

    def wait(self, mark: bytes, count: int) -> None:
        """Return when `mark` has come `count` times in all."""
        deadline = time.monotonic() + COMPLETION_TIMEOUT
        while count > 0:
            if time.monotonic() > deadline:
                raise Refused(f"not complete within {COMPLETION_TIMEOUT:g} s")
            for key, _ in self._selector.select(1):
                stream, kept = key.fileobj, key.data
                assert isinstance(stream, socket.socket)  # noqa: S101
                data = stream.recv(1 << 20)
                if not data:
                    raise Refused("the daemon has closed a stream")
                kept += data
                count -= kept.count(mark)
                del kept[: -len(mark) + 1]

    def close(self) -> None:
        """Close all."""
        self._selector.close()
        for stream in self._sockets:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _usage(admin: Path) -> Usage:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(admin))
        client.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    text = answer.partition(b"\r\n\r\n")[2].decode()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Usage(found["process_cpu_seconds_total"], found["process_resident_memory_bytes"])


def _allow(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise Refused(f"--streams: the limit of open files here is {hard} (ulimit -Hn)")
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _print(figures: Iterator[Figure]) -> None:
    for name, value, unit in figures:
        click.echo(f"{name:44} {value:>14} {unit}")
