"""Processes that never outlive the one that started them, whatever ends that."""

import os
import threading
from collections.abc import Callable, Sequence

# The shell becomes the command, and leaves a watcher behind that waits for a line on standard
# input. If that ends without a line, whoever held the other end is gone, and the command is told
# to end. A line sends the watcher home: once the command has ended, its number may be another's.
# This needs nothing of the kernel that only one system has.
_WATCHED = 'exec 3<&0; (read _ <&3 || kill -TERM $$) & exec 3<&-; exec "$@" </dev/null'

#: What to write to the command's standard input when it has ended.
RELEASE = b"\n"


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
