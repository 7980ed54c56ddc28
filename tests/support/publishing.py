"""What tests of the library have in common: bad input, what Redis is asked, processes that fork."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from sinapse.publisher import Publisher
from tests.support import eventually

#: What is refused, as a channel, a subject or ``expires_in``, whatever is asked for.
NO_CHANNELS: list[Any] = [
    "",
    "a\nb",
    "a\0",
    "sinapse:tokens:a",
    "a" * 513,
    b"room:1",
    None,
    1,
    object(),
]
NO_SUBJECTS: list[Any] = [None, "", "a\nb", "a" * 513, b"1", 1.0, object(), {"id": 1}, type]
NO_LIFETIMES: list[Any] = [
    *(0, -1, -0.5, float("nan"), float("inf"), 10**10 + 1),
    *("60", [60], True),
]


def calls(client: redis.Redis) -> dict[str, int]:
    """Return how often each command was called, inside of scripts too."""
    statistics = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in statistics.items()}


#: Python 3.12 warns that a fork in a process with threads can deadlock: that it does not is the
#: point of these tests.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

#: What forks: Python, and what runs none of Python's hooks, as uWSGI does.
FORKS: dict[str, Callable[[], int]] = {"os.fork": os.fork, "libc": ctypes.PyDLL(None).fork}


def in_child(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Fork, do `work` in the child, and return its process id."""
    pid = fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  # whatever it is, the child must not run the tests
        traceback.print_exc()
    os._exit(status)


def in_own_process(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process with one thread, which it may fork from C.

    Without Python's hooks, a child cannot go on if another thread waited for the interpreter at the
    moment of the fork: it waits for that thread, which it does not have.
    """

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        assert exit_status(in_child(lambda: test(*args, **kwargs))) == 0

    return run


def exit_status(pid: int) -> int:
    """Wait for a child, and return its exit status."""

    statuses: list[int] = []

    def ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        statuses.append(status)
        return found == pid

    try:
        eventually(ended, "the child ends")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(statuses[-1])


@contextmanager
def traffic(publisher: Publisher) -> Iterator[list[str]]:
    """Publish all through a with block; what is published is added to the list."""
    published: list[str] = []
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.005):
            text = str(len(published))
            publisher.publish(f"room:{1 + len(published) % 2}", text, retain=60)
            published.append(text)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield published
    finally:
        over.set()
        thread.join()
