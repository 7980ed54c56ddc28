"""How a worker reaches the ear of its node: as it would reach Redis."""

from dataclasses import dataclass
from typing import Any, TypeVar

import txredisapi

from sinapse.protocol.redisurl import RedisURL
from sinapse.txredis.dial import dial

#: The first command on a connection: the number of a Redis in the list, and host and port of the
#: node of it that Sentinels have named.
HEAR = b"HEAR"

Protocol = TypeVar("Protocol", bound=txredisapi.RedisProtocol)


@dataclass(frozen=True)
class DialEar:
    """Connects to the ear at `path`, for the Redis of that `number`."""

    path: str
    number: int

    async def __call__(self, kind: type[Protocol], url: RedisURL, reactor: Any) -> Protocol:
        """Return a connection that can subscribe, as :func:`~sinapse.txredis.dial.dial` does.

        `url` is that of the node.
        """
        try:
            protocol = await dial(kind, RedisURL(path=self.path, prefix=url.prefix), reactor)
            try:
                await protocol.execute_command(HEAR, self.number, url.host, url.port)
            except BaseException:
                protocol.transport.abortConnection()
                raise
        except txredisapi.RedisError as error:
            raise txredisapi.ConnectionError(f"by way of the ear: {error}") from None
        return protocol
