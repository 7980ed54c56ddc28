"""A connection that hears what is published: for who looks whether a Redis delivers."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError, ResponseError

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.connections import Connections, packed
from sinapse.publisher.operations.operation import unavailable, without_arguments


class Subscriber:
    """One connection in subscriber mode to the Redis of `url`.

    Answers come within the time that `connections` have. All methods raise
    :class:`~sinapse.errors.BrokerUnavailable`.
    """

    def __init__(self, url: RedisURL, connections: Connections) -> None:
        self._url = url
        self._link = connections.dial()

    def __enter__(self) -> Self:
        """Connect when it is first asked."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._link.disconnect()

    def ask(self, *command: str) -> Any:
        """Return the answer to a command: SUBSCRIBE of one channel, PSUBSCRIBE of one pattern."""

        def converse() -> Any:
            self._link.connect()
            self._link.send_packed_command(packed([command]))
            return self._link.read_response()

        return self._carry_out(converse)

    def next(self) -> Any:
        """Return the next message, as Redis sends it: ``[b"message", channel, payload]``."""
        return self._carry_out(self._link.read_response)

    def _carry_out(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ResponseError as error:
            raise unavailable(self._url, without_arguments(error)) from None
        except (RedisError, UnicodeError) as error:  # UnicodeError: not a name for DNS.
            raise unavailable(self._url, str(error)) from error
