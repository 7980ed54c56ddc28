"""Connections to Redis, and every failure of them as :class:`BrokerUnavailable`.

We use redis-py's connections without its client. The client connects, sends and reads in one step
that it repeats on errors. Here each step fails in its own way, since only after sending it is
unknown whether the command was carried out, and nothing is ever repeated: a message published twice
is worse than an error.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakMethod

from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import Shards
from sinapse.publisher.batching import Batching
from sinapse.publisher.operations.batches import Send, are_messages
from sinapse.publisher.operations.conversation import converse
from sinapse.publisher.operations.moving import carry_while_moving
from sinapse.publisher.operations.operation import (
    Command,
    Lost,
    Operation,
    Plain,
    Refused,
    unavailable,
    without_arguments,
)
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.operations.spread import Asked, Outcomes, carry
from sinapse.publisher.operations.step import checked
from sinapse.publisher.pool import Busy, Link, Pool
from sinapse.publisher.process import OfThisProcess
from sinapse.publisher.sentinel import MasterConnection, SecureMasterConnection, Sentinels

R = TypeVar("R")

#: Errors that Redis answers, not failures of a connection. After some, redis-py closes it.
REFUSALS = (AuthenticationError, BusyLoadingError, ResponseError)


class RedisLink(Link, Protocol):
    """The part of redis-py's connections that we use; their methods have no types."""

    def send_packed_command(self, command: list[bytes]) -> None:
        """Send bytes."""

    def read_response(self) -> Any:
        """Return the next answer."""


class Connections(Runner):
    """Up to `size` connections to one Redis, opened when needed, shared by all threads.

    A forked child opens its own. `connect_timeout` and `timeout` are seconds: until an address of
    Redis accepts, and until an answer begins. If every connection is in use, a thread waits for one
    as long as a healthy Redis could keep it, which is the sum of both. With `batch`, what threads
    publish while a round trip is under way is sent together by the next.
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
        self._sentinels = [
            Connections(
                url.sentinel(*address), size=size, connect_timeout=connect_timeout, timeout=timeout
            )
            for address in url.sentinels
        ]
        kind = _connection_class(url, self._sentinels)
        settings = {
            "socket_connect_timeout": connect_timeout,
            "socket_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            **options(url),
        }
        wait = connect_timeout + timeout
        dial: Callable[[], RedisLink] = partial(kind, **settings)
        #: Makes a connection for the caller alone, who opens and closes it.
        self.dial = dial
        self._pools = OfThisProcess(lambda: Pool(dial, size=size, timeout=wait))
        # A weak reference, so that a publisher that is forgotten is gone at once.
        send: WeakMethod[Send] = WeakMethod(self._converse)
        self._batchings = OfThisProcess(lambda: Batching(url, send, wait)) if batch else None

    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip, once Redis knows their scripts."""
        if self._batchings is not None and are_messages(operations):
            return self._batchings().publish(operations)
        return self._converse(operations)

    def _converse(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        try:
            return self._pool.lend(partial(_carry_out, converse(self._url, operations)))
        except Busy as error:
            raise unavailable(self._url, str(error)) from None
        except ResponseError as error:
            raise unavailable(self._url, without_arguments(error)) from None
        except (RedisError, UnicodeError) as error:  # UnicodeError: not a name for DNS.
            raise unavailable(self._url, str(error)) from error

    def execute(self, *command: str | bytes) -> Any:
        """Return the answer to `command`; strings in it are bytes."""
        return self.run(Plain(command))

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._pool.disconnect()
        for sentinel in self._sentinels:
            sentinel.close()

    @property
    def _pool(self) -> Pool[RedisLink]:
        return self._pools()


class ShardedConnections(Runner):
    """Connections to several Redis, with the channels spread over them.

    It sends to one after the other.
    """

    def __init__(self, parts: Sequence[Connections], shards: Shards) -> None:
        self._parts = parts
        self._shards = shards
        self._is_checked = False

    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip to each Redis that takes part."""
        if not self._shards.moving:
            return self.drive(carry(operations, self._shards))
        if not self._is_checked:
            self.drive(checked(self._shards))
            self._is_checked = True
        return self.drive(carry_while_moving(operations, self._shards))

    def drive(self, asking: Generator[Asked, Outcomes, R]) -> R:
        """Ask each Redis what `asking` yields, and return its result."""
        try:
            asked = next(asking)
            while True:
                asked = asking.send(self._ask(asked))
        except StopIteration as end:
            return cast(R, end.value)

    def _ask(self, parts: Asked) -> Outcomes:
        outcomes: dict[int, list[Any] | BrokerUnavailable] = {}
        for shard, part in parts.items():
            try:
                outcomes[shard] = self._parts[shard].run_all(part)
            except BrokerUnavailable as error:
                outcomes[shard] = error
        return outcomes

    def close(self) -> None:
        """Close every connection, those in use too."""
        for part in self._parts:
            part.close()


def _carry_out(
    conversation: Generator[list[Command], list[Any], list[Any]], connection: RedisLink
) -> list[Any]:
    try:
        commands = next(conversation)
        while True:
            commands = conversation.send(_ask(connection, commands))
    except StopIteration as end:
        return cast(list[Any], end.value)


def _ask(connection: RedisLink, commands: Sequence[Command]) -> list[Any]:
    answers: list[Any] = []
    moved = False
    try:
        connection.send_packed_command(packed(commands))
        while len(answers) < len(commands):
            try:
                answers.append(connection.read_response())
            except REFUSALS as error:
                answers.append(Refused(without_arguments(error), isinstance(error, NoScriptError)))
                moved = moved or isinstance(error, ReadOnlyError)
    except RedisError as error:
        answers += [Lost(str(error), error)] * (len(commands) - len(answers))
    if moved:
        # This is no longer the master: find the new one.
        connection.disconnect()
    return answers


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes to send; redis-py would check each operand, in Python.

    No operand is a number: hiredis writes those by calling Python, and ends the process if a signal
    interrupts that.
    """
    return [b"".join([pack_command(each) for each in commands])]  # type: ignore[arg-type]  # Its hint is wrong.


def options(url: RedisURL) -> dict[str, Any]:
    """Return the arguments of redis-py's connections, blocking or asyncio, for `url`."""
    found: dict[str, Any] = {
        # As text, for the reason given at :func:`packed`.
        "db": str(url.db) if url.db else 0,
        "username": url.username,
        "password": url.password,
        "protocol": 2,
    }
    if url.path is not None:
        return {**found, "path": url.path}
    if not url.sentinels:
        found |= {"host": url.host, "port": url.port}
    if url.tls:
        found |= {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": None if url.ca_certs is None else str(url.ca_certs),
        }
    return found


def _connection_class(url: RedisURL, sentinels: Sequence[Connections]) -> Callable[..., RedisLink]:
    if url.path is not None:
        return UnixDomainSocketConnection
    if not sentinels:
        return SSLConnection if url.tls else Connection
    kind = SecureMasterConnection if url.tls else MasterConnection
    return partial(kind, Sentinels(url.master, sentinels))
