"""A pool of connections, for threads.

redis-py has a blocking pool too, but it costs as much for each command as the rest of publishing:
locks in Python, and counters for metrics that are not used here.

A signal handler can raise an exception between any two steps: Ctrl-C, or a time limit of Celery.
Then no place in the pool is lost, and a connection that waits for an answer is not used again.
"""

from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar
from weakref import ref


class Link(Protocol):
    """What a pool uses of a connection."""

    def connect(self) -> None:
        """Be connected."""

    def can_read(self, timeout: float) -> bool:
        """Whether there is something to read, or the end."""

    def disconnect(self) -> None:
        """Close the connection, if it is open."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class Busy(Exception):
    """All connections were in use for too long."""


class Pool(Generic[L]):
    """Up to `size` connections that `make` makes, opened when needed; the last used is used first.

    If all are in use, a thread waits up to `timeout` seconds. A pool is for one process.
    """

    def __init__(self, make: Callable[[], L], *, size: int, timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._places.put(None)
        self._idle: deque[L] = deque()
        self._made: list[ref[L]] = []

    def lend(self, work: Callable[[L], T]) -> T:
        """Return what `work` does with a connection that is open; if it fails, that is closed.

        Raises :class:`Busy`, or what `connect` does.
        """
        taken: list[None] = []
        try:
            try:
                # In one step, so that a signal finds a place taken and noted, or neither.
                taken.extend(map(self._places.get, (True,), (self._timeout,)))
            except Empty:
                raise Busy("no connection has become available") from None
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._new()
            try:
                _open(connection)
                result = work(connection)
            except BaseException:
                # Perhaps between a command and its answer: that must not be taken for the answer
                # to the next command.
                connection.disconnect()
                raise
            self._idle.append(connection)
            return result
        finally:
            if taken:
                self._places.put(None)

    def disconnect(self) -> None:
        """Close every connection, those in use too; they are opened again when they are needed."""
        for made in list(self._made):
            connection = made()
            if connection is not None:
                connection.disconnect()

    def _new(self) -> L:
        connection = self._make()
        self._made = [*(each for each in self._made if each() is not None), ref(connection)]
        return connection


def _open(connection: Link) -> None:
    """Be connected: what the other side has closed meanwhile is noticed, and opened again."""
    connection.connect()
    try:
        if not connection.can_read(0):
            return
    except Exception:  # noqa: BLE001, S110  # Whatever it is, the connection is of no use.
        pass
    connection.disconnect()
    connection.connect()
