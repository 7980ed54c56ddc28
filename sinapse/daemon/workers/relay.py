"""The log lines of workers in the log of their parent, whatever that is.

A worker writes each log event as a line of JSON to its standard output, which its parent reads, and
logs again as it came, with the number of the worker. What is no event is a line of text: that of
Python itself, when something goes very wrong.
"""

import sys
from collections.abc import Callable
from typing import IO

from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    eventFromJSON,
    globalLogPublisher,
    jsonFileLogObserver,
)

from sinapse.daemon.workers.inheritance import title

#: Bytes of a line. Somebody who writes no line break must not fill the parent's memory.
MAX_LINE = 1024 * 1024


def observer() -> ILogObserver:
    """Return what writes the log of a worker: for ``twistd --logger``."""
    output: IO[str] = sys.__stdout__  # type: ignore[assignment]
    return jsonFileLogObserver(output, recordSeparator="")


class Relay:
    """Logs what comes from the worker `label`, or the ear, whose process number is `pid`."""

    _log = Logger()

    def __init__(
        self,
        label: int | str,
        pid: Callable[[], int | None],
        publisher: LogPublisher = globalLogPublisher,
    ) -> None:
        self._label = label
        self._title = title(label)
        self._pid = pid
        self._publisher = publisher
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Log the lines in `data`, and keep the last one until it is whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Log the rest that has no line break: none will come."""
        rest, self._rest = self._rest, b""
        self._line(rest)

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if not text:
            return
        try:
            event = eventFromJSON(text)
            level = event["log_level"]
            namespace = event["log_namespace"]
        except (ValueError, KeyError, TypeError):
            self._log.emit(LogLevel.warn, f"{self._title}: {{text}}", worker=self._label, text=text)
            return
        event["worker"] = self._label
        event["log_pid"] = self._pid()
        # What the classic format begins its lines with.
        system = event.get("log_system") or f"{namespace}#{getattr(level, 'name', level)}"
        event["log_system"] = f"{self._title}, {system}"
        self._publisher(event)
