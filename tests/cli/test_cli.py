"""The console command, as a process: what it says, what it starts, and that nothing is left."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sinapse import __version__
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port
from tests.support.daemon import ROOT

PROC = Path("/proc")

needs_proc = pytest.mark.skipif(
    not (PROC / "self" / "stat").exists(), reason="processes are looked up in /proc"
)


def environment(**changes: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if "SINAPSE" not in name and name != "REDIS_URL"
    }
    return {**inherited, "PYTHONPATH": str(ROOT), **changes}


def run(
    *arguments: str, program: tuple[str, ...] = ("-m", "sinapse"), **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, *program, *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the only line on standard error of a command that has failed."""
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    return line


def get(port: int, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    """Make a request, and return status and body; status 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVENT_TIMEOUT)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def parents() -> dict[int, int]:
    """Return the parent of each process that lives."""
    found = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The name of the program, in parentheses, may have anything in it.
        state, parent = text.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            found[int(stat.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    family, tree = {pid}, parents()
    while more := {child for child, parent in tree.items() if parent in family} - family:
        family |= more
    return family - {pid}


def child(pid: int, argument: str) -> int:
    """Return the child of a process with an argument that ends so."""
    (found,) = [
        child
        for child, parent in parents().items()
        if parent == pid
        if any(
            each.endswith(argument)
            for each in (PROC / str(child) / "cmdline").read_text().split("\0")
        )
    ]
    return found


class Demo:
    """A running demo."""

    def __init__(self, folder: Path, *options: str, **changes: str) -> None:
        self.port, self.daemon_port = free_port(), free_port()
        self._output = folder / "output.txt"
        ports = ("--port", str(self.port), "--daemon-port", str(self.daemon_port))
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "sinapse", "demo", *ports, *options],
                cwd=folder,
                env=environment(**changes),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def announced(self) -> bool:
        assert self.process.poll() is None, self.output
        return "Ctrl-C" in self.output

    def wait(self) -> int:
        return self.process.wait(EVENT_TIMEOUT)


@contextmanager
def running_demo(folder: Path, *options: str, **changes: str) -> Iterator[Demo]:
    demo = Demo(folder, *options, **changes)
    try:
        eventually(demo.announced, "the demo says where it is")
        yield demo
    finally:
        end(demo.process)


class TestMain:
    def test_version_is_that_of_the_package(self) -> None:
        assert run("--version").stdout == f"Sinapse {__version__}\n"

    def test_help_names_the_commands(self) -> None:
        result = run("--help")
        assert result.returncode == 0
        for name in ("serve", "demo"):
            assert f"\n  {name} " in result.stdout

    def test_loads_neither_twisted_nor_flask_nor_redis(self) -> None:
        script = (
            "import sys, sinapse.cli; print(sorted({'twisted', 'flask', 'redis'} & {*sys.modules}))"
        )
        assert run(program=("-c", script)).stdout == "[]\n"

    @pytest.mark.parametrize("arguments", [(), ("token",), ("channels",)])
    def test_help_says_of_each_command_a_whole_sentence(self, arguments: tuple[str, ...]) -> None:
        _, _, commands = run(*arguments, "--help").stdout.partition("\nCommands:\n")
        assert commands
        assert all(line.endswith(".") for line in commands.splitlines())
        assert "..." not in commands

    def test_refuses_an_unknown_command(self) -> None:
        result = run("sing")
        assert result.returncode == 2
        assert result.stderr.endswith("No such command 'sing'.\n")


class TestServe:
    def test_help_lists_the_options_of_the_daemon(self) -> None:
        result = run("serve", "--help")
        assert result.returncode == 0
        assert result.stdout.startswith("Usage: sinapse serve [options]\n")
        for option in ("--port=", "--redis=", "--origin=", "--retry="):
            assert option in result.stdout

    def test_version_is_that_of_the_package(self) -> None:
        assert run("serve", "--version").stdout == f"Sinapse {__version__}\n"

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            (["--sing"], "--sing"),
            (["song"], "song"),
            (["--port", "tcp:x"], "tcp:x"),
            (["--redis", "http://localhost/"], "--redis"),
        ],
    )
    def test_says_what_is_wrong_on_one_line(self, options: list[str], named: str) -> None:
        assert named in one_line(run("serve", *options))

    def test_says_that_a_port_is_taken_on_one_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            assert port in run("serve", "--port", port).stderr.splitlines()[-1]

    @needs_proc
    @pytest.mark.parametrize(
        "place", ["redis://127.0.0.1:1", "redis://:a@127.0.0.1:1", "embedded:"]
    )
    @pytest.mark.parametrize("prefix", ["none", "staging:"])
    def test_people_are_told_what_runs_and_what_to_try(
        self, short_path: Path, place: str, prefix: str
    ) -> None:
        """And those who collect a log are not."""
        port = free_port()
        url = f"{place}{short_path}" if place == "embedded:" else place
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [PYTHON, "-m", "sinapse", "serve", "--port", f"localhost:{port}"],
            cwd=short_path,
            env=environment(REDIS_URL=url, SINAPSE_PREFIX=prefix, TERM="dumb"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        try:
            eventually(lambda: get(port, "/status")[0] == 200, "the daemon is there")
        finally:
            process.terminate()
            log, _ = process.communicate(timeout=EVENT_TIMEOUT)
            os.close(theirs)
            said = os.read(ours, 10_000).decode()
            os.close(ours)
        assert b"other terminal" not in log
        where, second, third = said.splitlines()
        shown = url if place == "embedded:" else "redis://127.0.0.1:1/0"
        if prefix != "none" and place != "embedded:":
            shown += "?prefix=staging:"
        assert f"streams at http://localhost:{port}/, Redis at {shown}" in where
        known = f"export REDIS_URL='{shown}'; "
        if "@" in place:
            known = "with the same REDIS_URL and SINAPSE_PREFIX, "
        elif prefix != "none" and place == "embedded:":
            known = f"export REDIS_URL='{shown}' SINAPSE_PREFIX='staging:'; "
        assert f"{known}sinapse channels add ada news; sinapse listen --subject ada" in second
        assert f"{known}sinapse publish news hello" in third
        assert "sinapse doctor" in third

    def test_to_be_ended_while_redis_is_connected_to_is_no_trouble(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
            port = free_port()
            process = subprocess.Popen(
                [PYTHON, "-m", "sinapse", "serve", "--port", f"localhost:{port}"],
                cwd=tmp_path,
                env=environment(REDIS_URL=url, SINAPSE_LOG_LEVEL="warn", SINAPSE_DRAIN="0"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            try:
                first, _ = deaf.accept()
                with first:  # It is in the midst of connecting, and gets no answer.
                    eventually(lambda: get(port, "/status")[0] == 200, "the daemon is there")
                    process.terminate()
                    log, _ = process.communicate(timeout=EVENT_TIMEOUT)
            finally:
                end(process)
        assert log == b""

    def test_runs_in_the_foreground_until_it_is_told_to_end(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        port = free_port()
        process = subprocess.Popen(
            [PYTHON, "-m", "sinapse", "serve", "-p", f"tcp:{port}:interface=127.0.0.1"],
            cwd=tmp_path,
            env=environment(REDIS_URL=redis_server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            eventually(lambda: get(port, "/ready")[0] == 200, "the daemon is ready")
            process.send_signal(signal.SIGINT)
            log, _ = process.communicate(timeout=EVENT_TIMEOUT)
        finally:
            end(process)
        assert b"connected" in log
        assert process.returncode == -signal.SIGINT
        assert list(tmp_path.iterdir()) == []


class TestDemo:
    @needs_proc
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_serves_a_chat_and_ends_every_process(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        with running_demo(tmp_path) as demo:
            assert f" http://localhost:{demo.port}/\n" in demo.output
            assert get(demo.daemon_port, "/ready")[0] == 200
            status, page = get(demo.port, "/")
            assert status == 200
            assert f'data-sinapse-url="http://localhost:{demo.daemon_port}/"' in page
            status, state = get(demo.port, "/session", "POST", '{"name": "Ada"}')
            assert status == 200
            assert json.loads(state)["token"]
            processes = descendants(demo.process.pid)
            # The daemon, Redis and the chat, and a watcher for each.
            assert len(processes) == 6
            demo.process.send_signal(number)
            assert demo.wait() == 0
            eventually(lambda: not processes & parents().keys(), "every process has ended")
            assert get(demo.port, "/") == get(demo.daemon_port, "/") == (0, "")

    @needs_proc
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
    def test_leaves_no_process_when_it_is_killed(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        with running_demo(tmp_path) as demo:
            processes = descendants(demo.process.pid)
            demo.process.send_signal(number)
            assert demo.wait() == -number
            eventually(lambda: not processes & parents().keys(), "every process has ended")

    @needs_proc
    @pytest.mark.parametrize(("argument", "name"), [("serve", "daemon"), ("chat.py", "chat")])
    def test_says_which_process_has_ended_and_ends_the_others(
        self, tmp_path: Path, redis_server: RedisServer, argument: str, name: str
    ) -> None:
        with running_demo(tmp_path, "--folder", "logs", REDIS_URL=redis_server.url) as demo:
            processes = descendants(demo.process.pid)
            os.kill(child(demo.process.pid, argument), signal.SIGKILL)
            assert demo.wait() == 1
            assert f"Error: The {name} has ended unexpectedly (Killed); logs/{name}.log:" in (
                demo.output
            )
            eventually(lambda: not processes & parents().keys(), "every process has ended")

    def test_uses_the_redis_of_the_environment(
        self, tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        with running_demo(tmp_path, REDIS_URL=redis_server.url) as demo:
            assert redis_server.url in demo.output
            get(demo.port, "/session", "POST", '{"name": "Ada"}')
            assert redis_client.smembers("sinapse:channels:chat-Ada") == {b"room:lobby"}

    def test_finds_a_shorter_folder_where_the_path_of_a_socket_would_be_too_long(
        self, tmp_path: Path
    ) -> None:
        deep = tmp_path / ("deep" * 25)
        deep.mkdir()
        with running_demo(deep, TMPDIR=tempfile.gettempdir()) as demo:
            (line,) = [line for line in demo.output.splitlines() if "Logs:" in line]
            folder = Path(line.partition(":")[2].strip())
            assert (folder / "daemon.log").exists()
            demo.process.terminate()
            assert demo.wait() == 0
            assert not folder.exists()

    @pytest.mark.parametrize("option", ["--port", "--daemon-port"])
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_names_a_port_that_is_taken_before_anything_starts(
        self, tmp_path: Path, option: str, address: str
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            taken = socket.create_server((address, 0), family=family)
        except OSError:
            pytest.skip(f"there is no {address} here")
        ports = {"--port": str(free_port()), "--daemon-port": str(free_port())}
        folder = tmp_path / "folder"
        with taken:
            ports[option] = str(taken.getsockname()[1])
            arguments = [text for pair in ports.items() for text in pair]
            line = one_line(run("demo", *arguments, "--folder", str(folder)))
        assert line == f"Error: port {ports[option]} is taken: choose another one with {option}"
        assert not folder.exists()

    def test_needs_two_ports(self) -> None:
        port = str(free_port())
        line = one_line(run("demo", "--port", port, "--daemon-port", port))
        assert line == f"Error: --port and --daemon-port are both {port}"

    def test_refuses_a_folder_that_others_may_write_to(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        ports = ("--port", str(free_port()), "--daemon-port", str(free_port()))
        assert "others may write" in one_line(run("demo", *ports, "--folder", str(tmp_path)))

    @pytest.mark.parametrize("folder", ["/dev/null/folder", "/tmp/" + "x" * 100])
    def test_refuses_a_folder_that_cannot_be(self, folder: str) -> None:
        ports = ("--port", str(free_port()), "--daemon-port", str(free_port()))
        assert f"--folder {folder}: " in one_line(run("demo", *ports, "--folder", folder))

    def test_says_what_to_install_when_flask_is_missing(self, tmp_path: Path) -> None:
        script = "import sys; sys.modules['flask'] = None; from sinapse.cli import main; main()"
        ports = ("--port", str(free_port()), "--daemon-port", str(free_port()))
        line = one_line(run("demo", *ports, "--folder", str(tmp_path), program=("-c", script)))
        assert "pip install 'sinapse-push[demo]'" in line
        assert list(tmp_path.iterdir()) == []

    def test_says_why_the_daemon_does_not_start(self, tmp_path: Path) -> None:
        ports = ("--port", str(free_port()), "--daemon-port", str(free_port()))
        result = run("demo", *ports, "--folder", str(tmp_path), REDIS_URL="http://localhost/")
        assert result.returncode == 1
        assert "The daemon has ended unexpectedly (exit code 1)" in result.stderr
        assert "REDIS_URL" in result.stderr
