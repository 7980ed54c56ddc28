"""The limit of open files: raised as far as may be, and told of when that is not far."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end
from tests.support.daemon import ROOT, Daemon

#: Raises the limit, and prints what is logged and what came of it.
PROGRAM = """
import resource, sys
from twisted.logger import globalLogBeginner, textFileLogObserver
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
from sinapse.sockets.descriptors import raise_limit
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def raised(soft: int, hard: int) -> list[str]:
    """Return what a process says that raises its limit."""
    return subprocess.run(
        ["prlimit", f"--nofile={soft}:{hard}", PYTHON, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=True,
    ).stdout.splitlines()


def test_the_soft_limit_becomes_the_hard_one_without_a_word() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 10_000:
        pytest.skip("this machine allows few open files")
    assert raised(256, 10_000) == ["(10000, 10000)"]


def test_few_are_told_of_with_what_they_are_good_for() -> None:
    line, result = raised(256, 1024)
    assert result == "(1024, 1024)"
    assert "1024 open files are allowed, which is 728 streams a process" in line
    assert "LimitNOFILE" in line


def test_a_daemon_and_its_workers_have_as_many_as_may_be(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, "--workers=2")
    daemon.command[:0] = ["prlimit", "--nofile=256:600"]
    try:
        daemon.start()
        metrics = daemon.metrics()
        assert metrics["process_max_fds parent"] == 600
        assert {metrics.get(f"process_max_fds {worker}", 600) for worker in (1, 2)} == {600}
        assert daemon.log.count("open files are allowed") == 1
    finally:
        if daemon.process is not None:
            end(daemon.process)
