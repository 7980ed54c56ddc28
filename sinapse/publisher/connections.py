"""Connections to Redis, and every failure of them as :class:`BrokerUnavailable`.

redis-py's connections are used without its client. The client connects, sends and reads in one
step that it repeats on errors; here each step fails in its own way, since only what comes after
sending leaves the question whether the command was carried out, and nothing is ever repeated: a
message published twice is worse than an error.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

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
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.exchange import exchange
from sinapse.publisher.operations.operation import (
    Command,
    Lost,
    Operation,
    Plain,
    Refused,
    T,
    unavailable,
    without_arguments,
)
from sinapse.publisher.pool import Link, Pool
from sinapse.publisher.sentinel import MasterConnection, SecureMasterConnection, Sentinels
from sinapse.redisurl import RedisURL

#: What Redis says, and not what happens to a connection. After some of it redis-py closes that.
REFUSALS = (AuthenticationError, BusyLoadingError, ResponseError)


class Connections:
    """Up to `size` connections to one Redis, opened when needed, shared by all threads.

    `connect_timeout` and `timeout` are seconds: for an address of Redis to accept, and for an
    answer to begin. A thread that finds every connection in use waits for one as long as a
    healthy Redis could keep it, which is the sum of both.
    """

    def __init__(self, url: RedisURL, *, size: int, connect_timeout: float, timeout: float) -> None:
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
        self._pool = Pool(lambda: kind(**settings), size=size, timeout=connect_timeout + timeout)

    def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`: one round trip, once Redis knows its script."""
        [result] = self.run_all([operation])
        if isinstance(result, BrokerUnavailable):
            raise result
        return cast(T, result)

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each of `operations`, in one round trip and their order.

        That is :class:`~sinapse.errors.BrokerUnavailable` for what failed; it is raised if nothing
        was sent at all.
        """
        if (captured := standin.results(operations)) is not None:
            return captured
        exchanged = exchange(self._url, operations)
        commands = next(exchanged)
        connection = self._take()
        try:
            while True:
                commands = exchanged.send(_ask(connection, commands))
        except StopIteration as end:
            return cast(list[Any], end.value)
        except BaseException:
            # Interrupted, perhaps between a command and its answer: that must not be taken for
            # the answer to the next command.
            connection.disconnect()
            raise
        finally:
            self._pool.give_back(connection)

    def execute(self, *command: str | bytes | int) -> Any:
        """Return the answer to `command`; strings in it are bytes."""
        return self.run(Plain(command))

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._pool.disconnect()
        for sentinel in self._sentinels:
            sentinel.close()

    def _take(self) -> Link:
        try:
            return self._pool.take()
        except ResponseError as error:
            raise unavailable(self._url, without_arguments(error)) from None
        except (RedisError, UnicodeError) as error:  # UnicodeError: no name that DNS could have.
            raise unavailable(self._url, str(error)) from error


def _ask(connection: Link, commands: Sequence[Command]) -> list[Any]:
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
        # What was the master is none any more: look where it is now.
        connection.disconnect()
    return answers


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes to send: redis-py would look at each operand, in Python."""
    return [b"".join([pack_command(each) for each in commands])]  # type: ignore[arg-type]  # Its hint is wrong.


def options(url: RedisURL) -> dict[str, Any]:
    """Return what connections of redis-py, of either kind, are told of `url`."""
    found: dict[str, Any] = {
        "db": url.db,
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


def _connection_class(url: RedisURL, sentinels: Sequence[Connections]) -> Callable[..., Link]:
    if url.path is not None:
        return UnixDomainSocketConnection
    if not sentinels:
        return SSLConnection if url.tls else Connection
    kind = SecureMasterConnection if url.tls else MasterConnection
    return partial(kind, Sentinels(url.master, sentinels))
