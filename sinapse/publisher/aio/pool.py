"""A pool of connections, for the tasks of one event loop.

redis-py has one too, but it costs a fifth of a message: locks, and counters for metrics that are
not used here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from sinapse.publisher.pool import Busy


class Link(Protocol):
    """What a pool uses of a connection."""

    async def disconnect(self, nowait: bool = False) -> None:
        """Close the connection, if it is open."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class Pool(Generic[L]):
    """Up to `size` connections that `make` makes when needed; the last used is used first.

    If all are in use, tasks wait in their order, for up to `timeout` seconds.
    """

    def __init__(self, make: Callable[[], L], *, size: int, timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._turns = asyncio.Semaphore(size)
        self._idle: list[L] = []
        self._made: WeakSet[L] = WeakSet()
        self._is_closed = False

    async def lend(self, work: Callable[[L], Awaitable[T]]) -> T:
        """Return what `work` does with a connection; if it fails, that is closed.

        Raises :class:`~sinapse.publisher.pool.Busy`.
        """
        await self._turn()
        try:
            connection = self._idle.pop() if self._idle else self._new()
            try:
                result = await work(connection)
            except BaseException:
                # Cancelled, perhaps between a command and its answer, which must not become the
                # answer to the next command.
                await connection.disconnect(nowait=True)
                raise
            if self._is_closed:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)
            return result
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Close every connection, those in use too, for good."""
        self._is_closed = True
        for each in list(self._made):
            # It does not wait, be it for the other end of TLS, or for what cancels it.
            await each.disconnect(nowait=True)
        await asyncio.sleep(0)  # The loop closes the sockets in its next turn.

    async def _turn(self) -> None:
        try:
            if self._turns.locked():
                async with asyncio.timeout(self._timeout):
                    await self._turns.acquire()
            else:
                await self._turns.acquire()
        except TimeoutError:
            raise Busy(f"no connection was free within {self._timeout:g} s") from None

    def _new(self) -> L:
        connection = self._make()
        self._made.add(connection)
        return connection
