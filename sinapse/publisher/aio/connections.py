"""Connections to Redis on asyncio: a pool for each event loop."""

import asyncio
import select
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, cast
from weakref import WeakMethod, ref

from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.aio.batching import Batching
from sinapse.publisher.aio.pool import Pool
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
from sinapse.publisher.pool import Busy
from sinapse.publisher.process import OfThisProcess


class _Link(Protocol):
    """The part of redis-py's connections that we use; their methods have no types."""

    socket_timeout: float | None

    async def connect(self) -> None: ...

    async def send_packed_command(self, command: list[bytes]) -> None: ...

    async def read_response(self) -> Any: ...

    async def can_read(self) -> bool: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class _Opened(NamedTuple):
    """The pool of an event loop, and the generator that closes it."""

    pool: Pool[_Link]
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
        self._make: Callable[[], _Link] = partial(
            _connection_class(url, self._sentinels),
            socket_connect_timeout=connect_timeout,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            **options(url),
        )
        self._pools = OfThisProcess(_Loops)

    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip, once Redis knows their scripts."""
        if self._is_batching:
            opened = self._here()
            if are_messages(operations):
                return await opened.batching.publish(operations)
            await opened.batching.let_go()  # What was published before goes before it.
        return await self._converse(operations)

    async def _converse(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        opened = self._here()
        try:
            return await opened.pool.lend(partial(self._carry_out, converse(self._url, operations)))
        except Busy as error:
            raise unavailable(self._url, str(error)) from None
        except ResponseError as error:
            raise unavailable(self._url, without_arguments(error)) from None
        except (RedisError, UnicodeError) as error:  # UnicodeError: not a name for DNS.
            raise unavailable(self._url, str(error)) from error

    async def _carry_out(
        self, conversation: Generator[list[Command], list[Any], list[Any]], connection: _Link
    ) -> list[Any]:
        await _open(connection)
        # We limit the time ourselves: redis-py uses asyncio.wait_for, which before Python 3.12
        # sometimes swallows a cancellation, and costs a task for each command.
        connection.socket_timeout = None
        try:
            commands = next(conversation)
            while True:
                commands = conversation.send(await _ask(connection, commands, self._timeout))
        except StopIteration as end:
            return cast(list[Any], end.value)
        finally:
            connection.socket_timeout = self._timeout

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

    def _here(self) -> _Opened:
        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is None:
            pool = Pool(self._make, size=self._size, timeout=self._patience)
            for other in list(self._opened):
                if other.is_closed():  # Closed without an end of its generators.
                    self._opened.pop(other, None)
            closing = _closing(pool, loop, ref(self._opened))
            opened = self._opened[loop] = _Opened(
                pool,
                closing,
                # A weak reference, so that a publisher that is forgotten is gone at once.
                Batching(self._url, WeakMethod(self._converse), self._patience),
            )
            with suppress(StopIteration):  # It comes to its yield without waiting for anything.
                closing.__anext__().send(None)
        return opened

    @property
    def _opened(self) -> _Loops:
        return self._pools()


async def _closing(
    pool: Pool[_Link], loop: asyncio.AbstractEventLoop, loops: "ref[_Loops]"
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
        await pool.close()


async def _open(connection: _Link) -> None:
    """Be connected: what Redis has closed is opened again, even if the loop has not seen that."""
    writer: asyncio.StreamWriter | None = getattr(connection, "_writer", None)
    if writer is None or isinstance(connection, MasterConnection):
        await connection.connect()
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
            for number in range(len(commands)):
                if number:
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


def _connection_class(url: RedisURL, sentinels: Sequence[Connections]) -> Callable[..., _Link]:
    if url.path is not None:
        return UnixDomainSocketConnection
    if not sentinels:
        return SSLConnection if url.tls else Connection
    kind = SecureMasterConnection if url.tls else MasterConnection
    return partial(kind, Sentinels(url.master, sentinels))
