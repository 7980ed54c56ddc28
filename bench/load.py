"""The load client, compiled on the spot, and how to talk to it."""

import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"

#: What stands in a template for sequence number and time.
BLANK = b"~@0000000000.0000000000000000@~"

#: Bytes of data in every message, the marker included: a short chat line.
DATA_SIZE = 128
DATA = BLANK + b"x" * (DATA_SIZE - len(BLANK))


class Stream(NamedTuple):
    """A stream to open: its URL, the numbers of the channels it is to hear, one more header."""

    target: str
    channels: Sequence[int]
    header: str = ""


class Publishing(NamedTuple):
    """How messages get into a server: a TCP port, and a request for each channel."""

    port: int
    templates: Sequence[bytes]
    #: What every answer has exactly once; nothing if there are none.
    reply: str
    #: Requests that may wait for their answers; 0 for any number.
    window: int = 0


def compile_c(name: str, *options: str) -> Path:
    """Return the program made of NAME.c, made now if it is older than that."""
    source, program = HERE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc") or "gcc"
        command = [compiler, "-O2", "-Wall", "-o", str(program), str(source), *options]
        subprocess.run(command, check=True)
    return program


def load_program() -> Path:
    """Return the load client, with TLS if OpenSSL's headers are installed."""
    try:
        return compile_c("load", "-DWITH_TLS", "-lpthread", "-lssl", "-lcrypto")
    except subprocess.CalledProcessError:
        return compile_c("load", "-lpthread")


class Load:
    """A running load client."""

    def __init__(
        self, port: int, streams: Sequence[Stream], publishing: Publishing | None, **options: object
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        with (folder / "streams").open("w") as file:
            for target, channels, header in streams:
                file.write(f"{target}\t{header}\t{','.join(map(str, channels))}\n")
        command = [str(load_program()), "127.0.0.1", str(port), str(folder / "streams")]
        if publishing is not None:
            with (folder / "templates").open("wb") as binary:
                for template in publishing.templates:
                    binary.write(struct.pack("=I", len(template)) + template)
            command += ["--templates", str(folder / "templates")]
            command += ["--publish", str(publishing.port), "--reply", publishing.reply]
            command += ["--reply-window", str(publishing.window)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Have a command done, and return its answer."""
        self.send(command)
        return self.answer()

    def send(self, command: str) -> None:
        """Have a command done, and do not wait for its answer."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer of a command."""
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load client ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
