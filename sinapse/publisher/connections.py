"""Connections to Redis: a pool, and every failure of it as :class:`BrokerUnavailable`.

redis-py's pool and connections are used without its client. The client connects, sends and
reads in one step that it repeats on errors; here each step fails in its own way, since only what
comes after sending leaves the question whether the command was carried out, and nothing is ever
repeated: a message published twice is worse than an error.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

from redis.backoff import NoBackoff
from redis.connection import (
    BlockingConnectionPool,
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
from sinapse.publisher.sentinel import MasterConnection, SecureMasterConnection, Sentinels
from sinapse.redisurl import RedisURL
from sinapse.scripts import Script

#: How Redis 6.2, 7 and Valkey say that a script went on until a command that its user may not
#: call. It is the one failure of our scripts that can come after a first write.
_DENIED_IN_SCRIPT = ("executing the script can't", "ACL failure in script")


class _Link(Protocol):
    """What is used of a connection of redis-py, whose methods have no types."""

    def send_command(self, *command: str | bytes | int) -> None: ...

    def read_response(self) -> Any: ...

    def disconnect(self) -> None: ...


class _Pool(Protocol):
    """What is used of a pool of redis-py. It drops its connections in a forked child."""

    def get_connection(self) -> _Link: ...

    def release(self, connection: _Link) -> None: ...

    def disconnect(self) -> None: ...


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
        self._pool = cast(
            _Pool,
            BlockingConnectionPool(
                max_connections=size,
                timeout=connect_timeout + timeout,
                db=url.db,
                username=url.username,
                password=url.password,
                socket_connect_timeout=connect_timeout,
                socket_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                **_address(url, self._sentinels),
            ),
        )

    def execute(self, *command: str | bytes | int) -> Any:
        """Return the answer to `command`; strings in it are bytes."""
        with self._connection() as connection:
            return _ask(connection, *command)

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """Return what `script` returns: one round trip, once Redis knows it."""
        with self._connection() as connection:
            operands = (len(keys), *keys, *arguments)
            try:
                return _ask(connection, "EVALSHA", script.sha, *operands)
            except NoScriptError:
                return _ask(connection, "EVAL", script.source, *operands)

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._pool.disconnect()
        for sentinel in self._sentinels:
            sentinel.close()

    @contextmanager
    def _connection(self) -> Iterator[_Link]:
        try:
            # A connection that Redis has closed meanwhile is noticed here, and opened again.
            connection = self._pool.get_connection()
        except ResponseError as error:
            raise self._unavailable(_without_arguments(error), delivered=False) from None
        except (RedisError, UnicodeError) as error:  # UnicodeError: no name that DNS could have.
            raise self._unavailable(str(error), delivered=False) from error
        try:
            yield connection
        except (AuthenticationError, BusyLoadingError, ResponseError) as error:
            text = _without_arguments(error)
            if isinstance(error, ReadOnlyError):
                # What was the master is none any more: look where it is now.
                connection.disconnect()
            denied_in_script = any(part in text for part in _DENIED_IN_SCRIPT)
            raise self._unavailable(text, None if denied_in_script else False) from None
        except RedisError as error:
            raise self._unavailable(str(error), delivered=None) from error
        except BaseException:
            # Interrupted, perhaps between a command and its answer: that must not be taken for
            # the answer to the next command.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def _unavailable(self, text: str, delivered: bool | None) -> BrokerUnavailable:
        return BrokerUnavailable(f"Redis at {self._url}: {text}", delivered)


def _without_arguments(error: RedisError) -> str:
    """Return the text of `error`, which must not be chained.

    Redis quotes an unknown command with its arguments: a token, or the password for AUTH.
    """
    return str(error).partition(", with args")[0]


def _ask(connection: _Link, *command: str | bytes | int) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _address(url: RedisURL, sentinels: Sequence[Connections]) -> dict[str, Any]:
    if url.path is not None:
        return {"connection_class": UnixDomainSocketConnection, "path": url.path}
    address: dict[str, Any] = {"host": url.host, "port": url.port}
    kinds: tuple[type[Connection], type[Connection]] = Connection, SSLConnection
    if sentinels:
        address = {"sentinels": Sentinels(url.master, sentinels)}
        kinds = MasterConnection, SecureMasterConnection
    plain, secure = kinds
    if not url.tls:
        return {"connection_class": plain, **address}
    return {
        "connection_class": secure,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": None if url.ca_certs is None else str(url.ca_certs),
        **address,
    }
