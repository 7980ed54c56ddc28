"""Connections to Redis on asyncio: a pool for each event loop."""

import asyncio
import select
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, Protocol, cast
from weakref import WeakMethod, ref

from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.aio.batching import Batching
from sinapse.publisher.aio.sentinel import MasterConnection, SecureMasterConnection, Sentinels
from sinapse.publisher.connections import REFUSALS, options, packed
from sinapse.publisher.operations.batches import are_messages
from sinapse.publisher.operations.conversation import converse
from sinapse.publisher.operations.operation import (
    Command,
    Lost,
    Operation,
    Plain,
    Refused,
    unavailable,
    without_arguments,
)
from sinapse.publisher.operations.runner import AwaitedRunner
from sinapse.publisher.process import OfThisProcess


class _Link(Protocol):
    """The part of redis-py's connections that we use; their methods have no types."""

    socket_timeout: float | None

    async def connect(self) -> None: ...

    async def send_packed_command(self, command: list[bytes]) -> None: ...

    async def read_response(self) -> Any: ...

    async def can_read(self) -> bool: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class _Pool(Protocol):
    """The part of redis-py's pools that we use."""

    async def get_connection(self) -> _Link: ...

    async def release(self, connection: _Link) -> None: ...

    async def disconnect(self) -> None: ...


class _Opened(NamedTuple):
    """The pool of an event loop, and the generator that closes it."""

    pool: _Pool
    turns: asyncio.Semaphore
    """One for each connection: who waits first gets one first, which the pool does not promise."""
    closing: AsyncGenerator[None, None]
    batching: Batching


class _Loops(dict[asyncio.AbstractEventLoop, _Opened]):
    """The pools of the event loops. It is a class since a plain dict has no weak references."""


class Connections(AwaitedRunner):
    """Up to `size` connections to one Redis for each event loop, opened when needed.

    `connect_timeout` and `timeout` are seconds, as in :mod:`sinapse.publisher.connections`. The
    connections of a loop are closed when that ends, if they have not been closed before. With
    `batch`, what is published in one turn of the loop, or while a round trip is under way, is sent
    together.
    """

    def __init__(
        self,
        url: RedisURL,
        *,
        size: int,
        connect_timeout: float,
        timeout: float,
        batch: bool = False,
    ) -> None:
        self._url = url
        self._is_batching = batch
        self._size = size
        self._timeout = timeout
        #: Seconds to wait for a connection that others use.
        self._patience = connect_timeout + timeout
        self._sentinels = [
            Connections(
                url.sentinel(*address), size=size, connect_timeout=connect_timeout, timeout=timeout
            )
            for address in url.sentinels
        ]
        # The known address of the master outlives a pool, so that it is found without Sentinels.
        self._options = {
            "max_connections": size,
            "socket_connect_timeout": connect_timeout,
            "socket_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            **_connection_class(url, self._sentinels),
            **options(url),
        }
        self._pools = OfThisProcess(_Loops)

    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip, once Redis knows their scripts."""
        if self._is_batching:
            batching = (await self._here()).batching
            if are_messages(operations):
                return await batching.publish(operations)
            await batching.let_go()  # What was published before goes before it.
        return await self._converse(operations)

    async def _converse(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        conversation = converse(self._url, operations)
        commands = next(conversation)
        async with self._connection() as connection:
            while True:
                try:
                    commands = conversation.send(await _ask(connection, commands, self._timeout))
                except StopIteration as end:
                    return cast(list[Any], end.value)

    async def execute(self, *command: str | bytes) -> Any:
        """Return the answer to `command`; strings in it are bytes."""
        return await self.run(Plain(command))

    async def close(self) -> None:
        """Close every connection of this event loop, once what is being published is sent."""
        opened = self._opened.get(asyncio.get_running_loop())
        if opened is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await opened.batching.finish()
            # Somebody else may have closed it meanwhile, or be about to.
            if self._opened.get(asyncio.get_running_loop()) is opened:
                await opened.closing.aclose()
        for sentinel in self._sentinels:
            await sentinel.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Link]:
        pool, turns, *_ = await self._here()
        await self._turn(turns)
        try:
            with self._unreachable():
                connection = await pool.get_connection()
        except BaseException:
            turns.release()
            raise
        try:
            with self._unreachable():
                await _make_sure_of(connection)
            # We limit the time ourselves: redis-py uses asyncio.wait_for, which before Python 3.12
            # sometimes swallows a cancellation, and costs a task for each command.
            connection.socket_timeout = None
            yield connection
        except BaseException:
            # Cancelled, perhaps between a command and its answer, which must not become the answer
            # to the next command.
            await connection.disconnect(nowait=True)
            raise
        finally:
            connection.socket_timeout = self._timeout
            try:
                await pool.release(connection)
            finally:
                turns.release()

    async def _turn(self, turns: asyncio.Semaphore) -> None:
        try:
            if turns.locked():
                async with asyncio.timeout(self._patience):
                    await turns.acquire()
            else:
                await turns.acquire()
        except TimeoutError:
            text = f"no connection was free within {self._patience:g} s"
            raise unavailable(self._url, text) from None

    @contextmanager
    def _unreachable(self) -> Iterator[None]:
        try:
            yield
        except ResponseError as error:
            raise unavailable(self._url, without_arguments(error)) from None
        except RedisError as error:
            raise unavailable(self._url, str(error)) from error

    async def _here(self) -> _Opened:
        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is None:
            pool = cast(_Pool, ConnectionPool(**self._options))
            for other in list(self._opened):
                if other.is_closed():  # Closed without an end of its generators.
                    self._opened.pop(other, None)
            closing = _closing(pool, loop, ref(self._opened))
            opened = self._opened[loop] = _Opened(
                pool,
                asyncio.Semaphore(self._size),
                closing,
                # A weak reference, so that a publisher that is forgotten is gone at once.
                Batching(self._url, WeakMethod(self._converse), self._patience),
            )
            await anext(closing)
        return opened

    @property
    def _opened(self) -> _Loops:
        return self._pools()


async def _closing(
    pool: _Pool, loop: asyncio.AbstractEventLoop, loops: "ref[_Loops]"
) -> AsyncGenerator[None, None]:
    """Forget and close `pool` when this generator is closed: by us, or by `loop` at its end.

    A loop closes the asynchronous generators that were started on it, and nothing else.
    """
    try:
        yield
    finally:
        opened = loops()
        if opened is not None:
            opened.pop(loop, None)
        await pool.disconnect()


async def _make_sure_of(connection: _Link) -> None:
    """Open `connection` again if Redis has closed it, and the event loop has not seen that yet."""
    writer: asyncio.StreamWriter | None = getattr(connection, "_writer", None)
    if writer is None or not (writer.is_closing() or _readable(writer)):
        return
    # Two turns: in the first the loop polls its sockets, in the second it reads.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # After a reset, the loop itself has closed it, and its reader says nothing of that.
    if writer.is_closing() or await connection.can_read():
        await connection.disconnect(nowait=True)
    await connection.connect()


def _readable(writer: asyncio.StreamWriter) -> bool:
    poll = select.poll()
    poll.register(writer.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


async def _ask(connection: _Link, commands: Sequence[Command], seconds: float) -> list[Any]:
    now = asyncio.get_running_loop().time
    answers: list[Any] = []
    moved = False
    try:
        async with asyncio.timeout(seconds) as limit:
            await connection.send_packed_command(packed(commands))
            while len(answers) < len(commands):
                limit.reschedule(now() + seconds)
                try:
                    answers.append(await connection.read_response())
                except REFUSALS as error:
                    is_unknown_script = isinstance(error, NoScriptError)
                    answers.append(Refused(without_arguments(error), is_unknown_script))
                    moved = moved or isinstance(error, ReadOnlyError)
    except (RedisError, TimeoutError) as error:
        text = str(error) or f"no answer within {seconds:g} s"
        answers += [Lost(text, error)] * (len(commands) - len(answers))
    if moved:
        # This is no longer the master: find the new one.
        await connection.disconnect(nowait=True)
    return answers


def _connection_class(url: RedisURL, sentinels: Sequence[Connections]) -> dict[str, Any]:
    if url.path is not None:
        return {"connection_class": UnixDomainSocketConnection}
    if not sentinels:
        return {"connection_class": SSLConnection if url.tls else Connection}
    return {
        "connection_class": SecureMasterConnection if url.tls else MasterConnection,
        "sentinels": Sentinels(url.master, sentinels),
    }
