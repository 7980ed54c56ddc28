"""The time of day is set back under a running daemon: nothing that is timed notices."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.daemon import ROOT, Daemon, Event, Stream, running_daemon

#: Loaded before anything else: the time of day is off by what stands in a file.
SITE = """
import os, time

def _time(of_day=time.time, file=os.environ["CLOCK"]):
    with open(file) as given:
        return of_day() + float(given.read() or 0)

time.time = _time
"""

HOUR = 3600


class Machine:
    """A daemon, a clock that can be set, and a service manager that wants signs of life."""

    def __init__(self, folder: Path) -> None:
        self._clock = folder / "clock"
        self._clock.write_text("0")
        (folder / "sitecustomize.py").write_text(SITE)
        address = folder / "notify"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.settimeout(EVENT_TIMEOUT)
        self.manager.bind(str(address))
        self.environment = {
            "CLOCK": str(self._clock),
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": "1000000",
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        }

    def set_clock(self, by: float) -> None:
        self._clock.write_text(str(by))

    def wait_for_a_sign_of_life(self) -> None:
        """Pass over those that have been given already."""
        self.manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.manager.recv(1000)
        self.manager.settimeout(EVENT_TIMEOUT)
        while b"WATCHDOG=1" not in self.manager.recv(1000):
            pass


@pytest.fixture
def machine(short_path: Path) -> Iterator[Machine]:
    machine = Machine(short_path)
    with machine.manager:
        yield machine


def keep_alives(stream: Stream, count: int) -> None:
    while count:
        count -= stream.block() == b":\n\n"


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "forward"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_clock_that_is_set_stops_nothing(
    tmp_path: Path,
    machine: Machine,
    redis_server: RedisServer,
    publisher: Publisher,
    *,
    workers: str,
    step: float,
) -> None:
    options = ("--keep-alive", "0.2", "--expiry-notice", "0", "--workers", workers, "--presence")
    for subject in ("1", "2"):
        publisher.channels.add(subject, "room:1")
    with running_daemon(
        tmp_path, redis_server.url, *options, environment=machine.environment
    ) as daemon:
        lasting = daemon.stream(publisher.tokens.generate("1")).opened()
        brief = daemon.stream(publisher.tokens.generate("2", expires_in=3)).opened()
        with lasting, brief:
            keep_alives(lasting, 1)
            uptime = since(daemon)
            machine.set_clock(step)
            keep_alives(lasting, 5)
            machine.wait_for_a_sign_of_life()
            brief.wait_for_end()
            assert not publisher.tokens.get("2")
            assert uptime < since(daemon) < HOUR
            publisher.publish("room:1", "hello")
            assert lasting.message() == Event("hello")
            # A lease is renewed for as long as somebody is there.
            assert publisher.online("1")
            assert eventually(lambda: not publisher.online("2"), "she is gone")


def since(daemon: Daemon) -> float:
    """Return for how many seconds the daemon says that it has been there."""
    return float(json.loads(daemon.admin("/status").text)["uptime"])  # type: ignore[attr-defined]


def test_a_request_that_does_not_come_is_ended_all_the_same(
    tmp_path: Path, machine: Machine, redis_server: RedisServer
) -> None:
    options = ("--request-timeout", "1")
    with (
        running_daemon(
            tmp_path, redis_server.url, *options, environment=machine.environment
        ) as daemon,
        socket.create_connection(("127.0.0.1", daemon.port), EVENT_TIMEOUT) as half,
    ):
        half.sendall(b"GET / HTTP/1.1\r\n")
        machine.set_clock(-HOUR)
        with contextlib.suppress(ConnectionResetError):
            while half.recv(1000):
                pass
