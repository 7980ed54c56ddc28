"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from sinapse import child
from sinapse.child import (
    LAST_LINES,
    RELEASE,
    Child,
    ChildFailed,
    bound_to_us,
    end_with,
    is_alive,
    is_taken,
    wait_for_end,
)
from tests.support import EVENT_TIMEOUT, PYTHON, eventually, free_port
from tests.support.daemon import ROOT


def test_a_process_ends_with_its_lifeline_though_it_hangs() -> None:
    program = f"""
from {end_with.__module__} import end_with
end_with(0, lambda: print("cleaned up", flush=True))
while True: pass
"""
    command = [PYTHON, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b"cleaned up\n"
        assert process.wait(EVENT_TIMEOUT) == 1


def test_a_command_ends_when_the_pipe_from_who_started_it_is_closed() -> None:
    command = bound_to_us([PYTHON, "-c", "import time; print('runs', flush=True); time.sleep(600)"])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.stdin.close()
        assert process.wait(EVENT_TIMEOUT) == -signal.SIGTERM


def test_a_command_reads_nothing_of_what_is_for_its_watcher() -> None:
    command = bound_to_us([PYTHON, "-c", "import sys; print(repr(sys.stdin.read()))"])
    ended = subprocess.run(
        command, input=RELEASE + b"more", capture_output=True, timeout=EVENT_TIMEOUT, check=True
    )
    assert ended.stdout == b"''\n"


def test_a_child_is_gone_when_its_block_ends_even_if_it_does_not_want_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "END_TIMEOUT", 0.1)
    program = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
    log = tmp_path / "log"
    with Child("The sleeper", [PYTHON, "-c", program], os.environ, log) as sleeper:
        eventually(lambda: log.read_text().endswith("\n"))
        sleeper.check()
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_why_a_child_has_ended_is_in_the_error(tmp_path: Path) -> None:
    program = "for number in range(40): print('line', number)\nraise SystemExit(3)"
    log = tmp_path / "log"
    with (
        Child("The daemon", [PYTHON, "-c", program], os.environ, log) as ended,
        pytest.raises(ChildFailed) as caught,
    ):
        ended.wait_until_answers(free_port(), "/ready")
    first, *lines = str(caught.value).splitlines()
    assert first == f"The daemon has ended unexpectedly (exit code 3); {log}:"
    assert lines == [f"  line {number}" for number in range(40 - LAST_LINES, 40)]


def test_a_child_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START_TIMEOUT", 0.1)
    log = tmp_path / "log"
    sleep = [PYTHON, "-c", "import time; time.sleep(600)"]
    with (
        Child("The daemon", sleep, os.environ, log) as silent,
        pytest.raises(ChildFailed, match=r"^The daemon did not answer GET /ready with 200"),
    ):
        silent.wait_until_answers(free_port(), "/ready")


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_the_end_of_a_stranger_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, has_descriptors: bool
) -> None:
    if not has_descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    command = [PYTHON, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as stranger:
        assert is_alive(stranger.pid)
        waiting = threading.Thread(target=wait_for_end, args=(stranger.pid,))
        waiting.start()
        assert waiting.is_alive()
        stranger.kill()
        stranger.wait()
        waiting.join(EVENT_TIMEOUT)
        assert not waiting.is_alive()
        assert not is_alive(stranger.pid)
    wait_for_end(stranger.pid)


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_is_taken_at_any_address_of_localhost(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"no {address} here")
    with server:
        port = server.getsockname()[1]
        assert is_taken(port)
    assert not is_taken(port)
