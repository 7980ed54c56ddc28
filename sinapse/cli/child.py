"""A process that never outlives the one that started it, however that one ends."""

import http.client
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from sinapse.lifeline import RELEASE, bound_to_us

#: Seconds for a process to answer: a bound for slow machines, it takes one or two.
START = 30

#: Seconds for a process to end in good order, after which it is killed.
END = 10

#: Seconds between two looks.
PAUSE = 0.1

#: Lines of its log that say why a process has ended.
LAST_LINES = 12


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
        """Raise ``ClickException`` with the reason if the process has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.strsignal(-code)
            raise self._failure(f"has ended unexpectedly ({how})")

    def wait_until_answers(self, port: int, path: str) -> None:
        """Return when a GET of `path` is answered with 200; raises ``ClickException``."""
        deadline = time.monotonic() + START
        while not _answers(port, path):
            self.check()
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer GET {path} with 200 in {START} seconds")
            time.sleep(PAUSE)

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
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.communicate(RELEASE)

    def _failure(self, what: str) -> click.ClickException:
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return click.ClickException("\n  ".join([f"{self._name} {what}; {self._log}:", *lines]))


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
