"""A pool of redis-py's connections, for threads.

redis-py has one that waits as well, but for each command that costs as much as the rest of
publishing does: locks in Python, and counting for metrics that nobody reads.
"""

import os
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Link(Protocol):
    """What is used of a connection of redis-py, whose methods have no types."""

    def connect(self) -> None:
        """Be connected."""

    def can_read(self, timeout: float) -> bool:
        """Whether there is something to read, or the end."""

    def send_packed_command(self, command: list[bytes]) -> None:
        """Send bytes."""

    def read_response(self) -> Any:
        """Return an answer."""

    def disconnect(self) -> None:
        """Close the connection, if it is open."""


class Pool:
    """Up to `size` connections that `make` makes, opened when needed; the last used is used first.

    Who finds all of them in use waits for one for `timeout` seconds. A forked child begins with
    none: those of its parent are left alone.
    """

    def __init__(self, make: Callable[[], Link], *, size: int, timeout: float) -> None:
        self._make = make
        self._size = size
        self._timeout = timeout
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        # What of both is called holds no lock that a fork could copy.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._size):
            self._places.put(None)
        self._idle: deque[Link] = deque()
        self._made: list[Link] = []

    def take(self) -> Link:
        """Return a connection that is open; raises redis-py's ``RedisError``."""
        try:
            self._places.get(timeout=self._timeout)
        except Empty:
            raise RedisConnectionError("no connection has become available") from None
        connection = None
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._new()
            _open(connection)
        except BaseException:
            self.give_back(connection)
            raise
        return connection

    def give_back(self, connection: Link | None) -> None:
        """Let others have the connection, or its place."""
        if connection is not None:
            self._idle.append(connection)
        self._places.put(None)

    def disconnect(self) -> None:
        """Close every connection, those in use too; they are opened again when they are needed."""
        for connection in list(self._made):
            connection.disconnect()

    def _new(self) -> Link:
        connection = self._make()
        self._made.append(connection)
        return connection


def _open(connection: Link) -> None:
    """Be connected: what Redis has closed meanwhile is noticed, and opened again."""
    connection.connect()
    try:
        if not connection.can_read(0):
            return
    except (RedisConnectionError, RedisTimeoutError, OSError):
        pass
    connection.disconnect()
    connection.connect()


_pools: WeakSet[Pool] = WeakSet()


def _begin_all() -> None:
    for pool in list(_pools):
        pool._begin()  # noqa: SLF001  # It is ours.


os.register_at_fork(after_in_child=_begin_all)
