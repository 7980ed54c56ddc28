"""The publisher on asyncio."""

import asyncio
from collections.abc import Sequence
from functools import partial

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher import awaiting
from sinapse.publisher.aio.connections import Connections
from sinapse.publisher.aio.turns import LoopTurns
from sinapse.publisher.base import ANSWER_TIMEOUT, CONNECT_TIMEOUT, POOL_SIZE


class Publisher(awaiting.Publisher):
    """Publishes to Redis, and keeps tokens and lists of channels there.

    One for a process is enough: tasks share it, and each event loop has connections of its own.
    It opens connections when they are needed, and again when Redis comes back. A task that is
    cancelled leaves nothing behind, but Redis may carry out what it has sent.

    The settings are those of :class:`sinapse.publisher.Publisher`; `max_connections` is for each
    event loop.
    """

    def __init__(
        self,
        url: str | RedisURL | Sequence[str | RedisURL] | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        hash_tokens: bool | None = None,
        max_sessions: int | None = None,
        prefix: str | None = None,
        max_connections: int = POOL_SIZE,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = ANSWER_TIMEOUT,
        batch: bool = True,
    ) -> None:
        connect = partial(
            Connections,
            size=max_connections,
            connect_timeout=connect_timeout,
            timeout=timeout,
            batch=batch,
        )
        super().__init__(
            url,
            max_message,
            retain,
            retain_messages,
            hash_tokens,
            max_sessions=max_sessions,
            prefix=prefix,
            connect=connect,
            together=lambda coroutines: asyncio.gather(*coroutines),
            turns=LoopTurns(),
        )
