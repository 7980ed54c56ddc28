"""Under a service manager: what it is told, whose socket is served, and the units."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from twisted.internet.task import Clock

from sinapse.daemon.systemd import SOCKET, WATCHDOG, WATCHDOG_PID, Notifier
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually
from tests.support.daemon import ROOT, Daemon, Stream
from tests.support.proxy import Proxy
from tests.support.subscribing import subscribe

UNITS = ROOT / "contrib" / "systemd"

#: Seconds between two signs of life; they are asked for in twice that.
PULSE = 0.1


class Manager:
    """Hears what a service says."""

    def __init__(self, heard: socket.socket, address: str) -> None:
        self._socket = heard
        self.address = address

    def next(self) -> dict[str, str]:
        """Return the fields of the next datagram."""
        datagram = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in datagram.splitlines())

    def wait_for(self, field: str) -> dict[str, str]:
        """Return the next datagram with a field, signs of life and texts left out."""
        while True:
            fields = self.next()
            if field in fields:
                return fields
            assert set(fields) <= {"WATCHDOG", "STATUS"}, fields


@contextlib.contextmanager
def managing(address: str) -> Iterator[Manager]:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind("\0" + address[1:] if address.startswith("@") else address)
        heard.settimeout(EVENT_TIMEOUT)
        yield Manager(heard, address)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Manager]:
    path = str(short_path / "notify")
    with managing(path if request.param == "path" else f"@{path}") as manager:
        yield manager


# What is said, word for word.


def test_each_state_is_said_in_its_words(manager: Manager) -> None:
    environment = {SOCKET: manager.address, "PATH": "/bin"}
    notifier = Notifier(environment, Clock())
    assert environment == {"PATH": "/bin"}
    notifier.startService()
    notifier.ready("2 of 2 workers serve")
    assert manager.next() == {"READY": "1", "STATUS": "2 of 2 workers serve"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    fields = manager.next()
    assert fields["RELOADING"] == "1"
    assert before <= int(fields["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.status("fine")
    assert manager.next() == {"STATUS": "fine"}
    notifier.stopping()
    assert manager.next() == {"STOPPING": "1", "STATUS": "stopping"}
    notifier.stopService()
    notifier.ready()


@pytest.mark.parametrize(("pid", "lives"), [(None, True), ("own", True), ("1", False)])
def test_signs_of_life_are_twice_as_frequent_as_asked_for(
    short_path: Path, pid: str | None, lives: bool
) -> None:
    clock = Clock()
    with managing(str(short_path / "notify")) as manager:
        environment = {SOCKET: manager.address, WATCHDOG: "10000000"}
        if pid is not None:
            environment[WATCHDOG_PID] = str(os.getpid()) if pid == "own" else pid
        notifier = Notifier(environment, clock)
        assert environment == {}
        notifier.startService()
        clock.pump([1.0] * 15)
        notifier.status("15 s")
        said = []
        while (fields := manager.next()) != {"STATUS": "15 s"}:
            said.append(fields)
        assert said == ([{"WATCHDOG": "1"}] * 4 if lives else [])
        notifier.stopService()


@pytest.mark.parametrize("environment", [{}, {WATCHDOG: "10000000"}, {SOCKET: "/nowhere/notify"}])
def test_it_is_no_matter_if_nobody_listens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment, Clock())
    notifier.startService()
    notifier.ready()
    notifier.stopping()
    notifier.stopService()


# A daemon that is managed.


@pytest.mark.parametrize("workers", [1, 2])
def test_a_daemon_says_how_it_is(
    tmp_path: Path, short_path: Path, redis_server: RedisServer, workers: int
) -> None:
    with managing(str(short_path / "notify")) as manager:
        environment = {SOCKET: manager.address, WATCHDOG: str(int(PULSE * 2_000_000))}
        daemon = Daemon(tmp_path, redis_server.url, f"--workers={workers}", environment=environment)
        try:
            process = daemon.launch()
            fields = manager.wait_for("READY")
            assert fields["STATUS"] == ("2 of 2 workers serve" if workers == 2 else "serving")
            # Whoever waits for that can connect at once, and finds it ready.
            assert daemon.get("/ready").status == 200
            for _ in range(5):
                while manager.next() != {"WATCHDOG": "1"}:
                    pass
            process.send_signal(signal.SIGHUP)
            assert int(manager.wait_for("RELOADING")["MONOTONIC_USEC"]) > 0
            manager.wait_for("READY")
            process.terminate()
            manager.wait_for("STOPPING")
            assert process.wait(EVENT_TIMEOUT) == -signal.SIGTERM
        finally:
            if daemon.process is not None:
                end(daemon.process)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_daemon_that_is_not_open_yet_says_nothing_of_being_ready(
    tmp_path: Path, short_path: Path, proxy: Proxy, workers: int
) -> None:
    proxy.stall()
    with managing(str(short_path / "notify")) as manager:
        environment = {SOCKET: manager.address}
        daemon = Daemon(tmp_path, proxy.url, f"--workers={workers}", environment=environment)
        process = daemon.launch()
        try:
            eventually(lambda: proxy.connections)
            process.send_signal(signal.SIGHUP)
            fields = manager.wait_for("READY")
            assert fields["STATUS"] == ("2 of 2 workers serve" if workers == 2 else "serving")
            assert daemon.get("/ready").status == 503
        finally:
            end(process)


# Sockets that are passed on.

#: What systemd does: the descriptor becomes number 3, and variables say whose it is.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="sinapse")
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def activated(
    folder: Path, redis_url: str, held: socket.socket, port: str, *options: str
) -> Iterator[Daemon]:
    """Run a daemon on a socket that is held for it."""
    daemon = Daemon(folder, redis_url, *options, port=port)
    name = held.getsockname()
    daemon.address = name if isinstance(name, str) else name[1]
    daemon.command[:0] = [PYTHON, "-c", ACTIVATE, str(held.fileno())]
    daemon.pass_fds = (held.fileno(),)
    try:
        daemon.start()
        # All workers have Redis.
        eventually(daemon.is_ready)
        yield daemon
    finally:
        if daemon.process is not None:
            end(daemon.process)


class Visitors:
    """Ask again and again, in threads of their own, and count what becomes of it."""

    def __init__(self, daemon: Daemon) -> None:
        self.outcomes: Counter[object] = Counter()
        self._daemon = daemon
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(3)]

    def _visit(self) -> None:
        while not self._is_over.is_set():
            try:
                outcome: object = self._daemon.get("/status").status
            except OSError as error:
                outcome = repr(error)
            self.outcomes[outcome] += 1
            time.sleep(0.01)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(EVENT_TIMEOUT)


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_is_refused_during_a_restart(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, workers: int
) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=512)) as held:
        options = (f"--workers={workers}", "--drain=0.5")
        port = "systemd:domain=INET:name=sinapse"
        with (
            activated(tmp_path, redis_server.url, held, port, *options) as daemon,
            Visitors(daemon) as visitors,
        ):
            with daemon.stream(token).opened() as stream:
                daemon.stop()
                stream.wait_for_end()
            before = visitors.outcomes.total()
            daemon.start()
            eventually(lambda: visitors.outcomes.total() > before + 20)
        assert set(visitors.outcomes) == {200}, visitors.outcomes


@pytest.mark.parametrize("workers", [1, 2])
def test_who_came_before_the_daemon_is_served(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, workers: int
) -> None:
    token = subscribe(publisher)
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=512)) as held,
        contextlib.ExitStack() as stack,
    ):
        place = held.getsockname()[1]
        early = [stack.enter_context(Stream(place, f"/?access_token={token}")) for _ in range(20)]
        port = "systemd:domain=INET:name=sinapse"
        with activated(tmp_path, redis_server.url, held, port, f"--workers={workers}"):
            for stream in early:
                stream.opened()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_path_of_a_unix_socket_stays_where_it_is(
    short_path: Path, redis_server: RedisServer, workers: int
) -> None:
    path = short_path / "s.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as held:
        held.bind(str(path))
        path.chmod(0o640)
        held.listen()
        port = "systemd:domain=UNIX:index=0"
        with activated(short_path, redis_server.url, held, port, f"--workers={workers}") as daemon:
            assert daemon.get("/status").status == 200
            daemon.stop()
            assert path.stat().st_mode & 0o777 == 0o640
            # It was neither closed nor shut down: whoever comes waits.
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
                client.connect(str(path))


# The units.


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with the units, for the program of this environment."""
    for unit in UNITS.glob("sinapse*"):
        text = unit.read_text().replace("/opt/sinapse/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / unit.name).write_text(text)
    shutil.copy(tmp_path / "sinapse@.service", tmp_path / "sinapse@9001.service")
    return tmp_path


def analyze(*arguments: str | Path) -> str:
    ended = subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


NAMES = ("sinapse.service", "sinapse@9001.service")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    said = analyze("verify", *(units / name for name in (*NAMES, "sinapse.socket")))
    assert str(units) not in said


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_a_unit_exposes_little(units: Path, name: str) -> None:
    # In tenths of 10: what is left is that it speaks to the network and to UNIX sockets.
    said = analyze("security", "--offline=yes", "--threshold=15", "--no-pager", units / name)
    assert re.search(r"Overall exposure level.*: 1\.\d OK", said)


def test_both_services_are_the_same_but_for_where_they_listen() -> None:
    def lines(name: str) -> set[str]:
        text = (UNITS / name).read_text()
        return {line for line in text.splitlines() if line and not line.startswith("#")}

    differing = {line.partition("=")[0] for line in lines(NAMES[0]) ^ lines("sinapse@.service")}
    assert differing == {
        *("Description", "Requires", "After", "Environment", "EnvironmentFile"),
        *("RuntimeDirectory", "StateDirectory", "Also"),
    }


def test_the_options_in_the_units_are_options() -> None:
    known = (ROOT / "docs" / "options.md").read_text()
    for unit in UNITS.iterdir():
        for name in re.findall(r"\b(?:SINAPSE|REDIS)_[A-Z_]+", unit.read_text()):
            assert f"`{name}`" in known
