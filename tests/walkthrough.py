"""Do what a page of the documentation says: write its files, run its commands, in an empty folder.

A block of a page is what a sentence before it says: "Write `file`" or "Add to `file`" makes it a
file, and `sh` makes it commands. Ports are replaced by free ones. Packages come by the names that
the page has: ours from a folder, and what others have published under a name like it not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import PATIENCE, PYTHON, eventually, free_port

DOCS = Path(__file__).parent.parent / "docs"

#: What does not end by itself.
SERVERS = ("sinapse serve", "python manage.py runserver", "flask run", "uvicorn")

#: Seconds for one of them to listen: it has been installed a moment ago, and never been loaded.
START = 150

#: Where the daemon listens unless it is told.
DAEMON_PORT = 9000

#: What tells Python, pip or Sinapse of the checkout, or of the machine's settings.
_OURS = ("PYTHON", "SINAPSE", "REDIS", "VIRTUAL_ENV", "FLASK", "DJANGO")

#: What other people have published under the name of our package or command.
FOREIGN = ("sinapse",)

#: A block, and the paragraph before it.
_BLOCK = re.compile(r"((?:[^\n]+\n)+)\n```(\w+)\n(.*?)\n```\n", re.DOTALL)

_FILE = re.compile(r"(Write|Add to) `([^`]+)`")


class Block(NamedTuple):
    """A block of a page: a file to write or to add to, or commands."""

    verb: str
    file: str
    text: str


def read(page: str) -> list[Block]:
    """Return the blocks of the first section of a page."""
    text = (DOCS / page).read_text()
    blocks = []
    for before, language, content in _BLOCK.findall(text.split("\n## ")[1]):
        file = _FILE.match(before)
        verb, name = file.groups() if file else ("", "")
        assert file or language == "sh", before
        blocks.append(Block(verb, name, f"{content}\n"))
    return blocks


def lines_of_code(blocks: list[Block]) -> int:
    """Return how many lines the reader has to write."""
    return sum(
        bool(line.strip()) for block in blocks if block.file for line in block.text.split("\n")
    )


def index(wheel: Path) -> dict[str, str]:
    """Return what makes pip find `wheel`, by its name alone, and none of what is not ours."""
    foreign = wheel.with_name("foreign.txt")
    foreign.write_text("".join(f"{name} < 0\n" for name in FOREIGN))
    return {"PIP_FIND_LINKS": str(wheel.parent), "PIP_CONSTRAINT": str(foreign)}


class Walkthrough:
    """A folder in which a page is followed, with a virtual environment of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self._ports: dict[str, int] = {}
        self._servers: list[subprocess.Popen[bytes]] = []
        self._last = ""
        daemon = self.port(DAEMON_PORT)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_COMPILE": "1",
            **index(wheel),
            "PYTHONWARNINGS": "default",
            "SINAPSE_DRAIN": "0",
            "SINAPSE_PORT": f"tcp:{daemon}:interface=127.0.0.1",
            "SINAPSE_URL": f"http://127.0.0.1:{daemon}/",
        }
        (folder / "work").mkdir()
        self._run(f"{PYTHON} -m venv --without-pip {folder / 'venv'}")

    def port(self, written: int | str) -> int:
        """Return the free port that stands for one that is written in a page."""
        return self._ports.setdefault(str(written), free_port())

    def follow(self, blocks: list[Block]) -> None:
        """Do what the blocks say, but for the last command, which `publish` runs."""
        *first, last = blocks
        for block in first:
            self._do(block)
        self._last = last.text.strip()

    def publish(self) -> None:
        """Run the last command of the page."""
        self._run(self._last)

    def end(self) -> None:
        """End the servers."""
        for server in reversed(self._servers):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    @property
    def logs(self) -> str:
        """What everything has printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def _do(self, block: Block) -> None:
        if block.file:
            file = self.folder / "work" / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            assert file.exists() == (block.verb == "Add to"), file
            with file.open("a") as output:
                output.write(block.text)
            return
        for line in block.text.splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self.environment[name] = value
            elif line.startswith(SERVERS):
                self._serve(line)
            else:
                self._run(line)

    def _command(self, line: str) -> str:
        pip = f"{PYTHON} -m pip --python {self.folder / 'venv' / 'bin' / 'python'} install "
        line = re.sub(r"^pip install ", pip, line)
        return re.sub(r"\b\d{4}\b", lambda found: str(self.port(found[0])), line)

    def _run(self, line: str) -> None:
        done = subprocess.run(
            self._command(line),
            shell=True,
            cwd=self.folder / "work",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{self.logs}"

    def _serve(self, line: str) -> None:
        number = len(self._servers)
        with (self.folder / f"{number}.log").open("wb") as log:
            server = subprocess.Popen(
                shlex.split(self._command(line)),
                cwd=self.folder / "work",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # A reloader has a child.
            )
        self._servers.append(server)
        [written] = re.findall(r"\b\d{4}\b", line) or [DAEMON_PORT]
        port = self.port(written)

        def answers() -> bool:
            assert server.poll() is None, self.logs
            return _is_open(port)

        eventually(answers, f"{line} listens", START)


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def walking(folder: Path, wheel: Path, page: str) -> Iterator[Walkthrough]:
    """Follow a page up to its last command, and end what it started."""
    walkthrough = Walkthrough(folder, wheel)
    try:
        walkthrough.follow(read(page))
        yield walkthrough
    finally:
        walkthrough.end()
