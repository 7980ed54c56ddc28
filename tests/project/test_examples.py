"""The examples, each with nothing but what its page tells to install."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sinapse.protocol.message import unpack
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, end, eventually, free_port
from tests.support.building import ENVIRONMENT, Built, built, run
from tests.support.daemon import ROOT
from tests.support.listening import listening

__all__ = ["built"]

# Virtual environments, and downloads from the package index.
pytestmark = pytest.mark.timeout(300)

#: Seconds for what has been installed a moment ago to start.
START_TIMEOUT = 120

EXAMPLES = ROOT / "example"

#: A row of the table of guest books: the script, what it needs, and how it is run.
ROWS = re.findall(
    r"^\| \[`(\w+)\.py`\].*\| `pip install (.+?)` \| `python (\w+\.py) (\d+)` \|$",
    (EXAMPLES / "README.md").read_text(),
    re.MULTILINE,
)


class Environment:
    """A virtual environment with what a line of pip brings."""

    def __init__(self, folder: Path, built: Built, requirements: str) -> None:
        self.bin = folder / "venv" / "bin"
        foreign = folder / "foreign.txt"
        foreign.write_text("sinapse < 0\n")
        uv = (PYTHON, "-m", "uv", "--quiet")
        run(*uv, "venv", "--python", PYTHON, self.bin.parent, cwd=folder)
        install = (*uv, "pip", "install", "--python", self.bin / "python")
        options = ("--find-links", built.wheel.parent, "--constraint", foreign)
        run(*install, *options, *shlex.split(requirements), cwd=folder)


def start(
    folder: Path, server: RedisServer, *command: str | Path, **variables: str
) -> subprocess.Popen[bytes]:
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**ENVIRONMENT, "REDIS_URL": server.url, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob("*.log"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with the examples, as somebody has copied them."""
    for source in EXAMPLES.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "templates").mkdir()
    for source in (EXAMPLES / "templates").iterdir():
        (tmp_path / "templates" / source.name).write_bytes(source.read_bytes())
    yield tmp_path
    assert "Traceback" not in logs(tmp_path)


def test_there_are_three_guest_books() -> None:
    assert [name for name, *_ in ROWS] == [
        "guestbook_django",
        "guestbook_flask",
        "guestbook_fastapi",
    ]


@pytest.mark.parametrize(("needs", "script"), [row[1:3] for row in ROWS], ids=[r[0] for r in ROWS])
def test_a_guest_book(
    built: Built, folder: Path, redis_server: RedisServer, needs: str, script: str
) -> None:
    environment = Environment(folder, built, needs)
    port = free_port()
    process = start(folder, redis_server, environment.bin / "python", script, str(port))

    def written() -> bool:
        assert process.poll() is None, logs(folder)
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/entries", json={"text": "x"}, timeout=EVENT_TIMEOUT
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 204

    try:
        eventually(written, script, START_TIMEOUT)
        page = httpx.get(f"http://127.0.0.1:{port}/connection", timeout=EVENT_TIMEOUT).json()
        assert page["token"]
    finally:
        end(process)


def test_the_countdown(built: Built, folder: Path, redis_server: RedisServer) -> None:
    """As its first lines say: a worker, and the script."""
    text = (folder / "countdown_celery.py").read_text()
    [needs] = re.findall(r"^    pip install (.+)$", text, re.MULTILINE)
    [worker] = re.findall(r"^    celery (.+)$", text, re.MULTILINE)
    [script] = re.findall(r"^    python (.+)$", text, re.MULTILINE)
    environment = Environment(folder, built, needs)
    broker = {"BROKER_URL": redis_server.url}
    process = start(
        folder,
        redis_server,
        environment.bin / "celery",
        *shlex.split(worker),
        *("--concurrency", "1", "--loglevel", "info"),
        **broker,
    )
    try:
        eventually(lambda: " ready." in logs(folder), logs(folder), START_TIMEOUT)
        with listening(redis_server) as listener:
            asked = start(
                folder, redis_server, environment.bin / "python", *shlex.split(script), **broker
            )
            assert asked.wait(START_TIMEOUT) == 0
            told: list[object] = []

            def steps() -> bool:
                told.extend(
                    json.loads(unpack(payload).data)
                    for name, payload in listener.heard()
                    if name == "countdown:ada"
                )
                return len(told) >= 5

            eventually(steps, logs(folder), START_TIMEOUT)
    finally:
        end(process)
    assert told == [{"done": step, "of": 5} for step in range(1, 6)]
