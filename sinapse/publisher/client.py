"""The plain interface: everything by name and id."""

import os
from collections.abc import Mapping
from typing import Self

from sinapse.keys import channel_name
from sinapse.publisher.channels import Channels
from sinapse.publisher.connections import Connections
from sinapse.publisher.identity import ChannelLike
from sinapse.publisher.payload import encode
from sinapse.publisher.tokens import Tokens
from sinapse.redisurl import RedisURL, from_environment

#: Bytes of data: 1 MiB, as in Mercure and NATS. A message is held in memory once a node, and for
#: each subscriber that is behind.
MAX_MESSAGE = 1024 * 1024

#: Connections, as the origin has it. A command takes well under a millisecond of one.
POOL_SIZE = 5


class Publisher:
    """Publishes to one Redis, and keeps tokens and lists of channels there.

    One for a process is enough: threads share it, and a forked child opens connections of its
    own. Nothing is opened before it is needed, and again when Redis comes back.

    `url` is read by :mod:`sinapse.redisurl`; without one, ``REDIS_URL`` decides. `max_message`
    is bytes of data, without one ``SINAPSE_MAX_MESSAGE`` decides. `connect_timeout` and `timeout`
    are seconds, for each address of Redis to accept and for each of its answers. Raises
    ``ValueError`` for a setting that cannot be used.
    """

    def __init__(
        self,
        url: str | RedisURL | None = None,
        *,
        max_message: int | None = None,
        max_connections: int = POOL_SIZE,
        connect_timeout: float = 2.0,
        timeout: float = 5.0,
    ) -> None:
        if not isinstance(url, RedisURL):
            url = RedisURL.parse(from_environment(os.environ) if url is None else url)
        self.url = url
        self.max_message = _max_message(os.environ) if max_message is None else max_message
        self._connections = Connections(
            url, size=max_connections, connect_timeout=connect_timeout, timeout=timeout
        )
        self.tokens = Tokens(self._connections)
        self.channels = Channels(self._connections)

    def publish(self, channel: ChannelLike, message: object, event: str | None = None) -> int:
        """Send `message` to everybody who may listen to `channel`; return how many nodes heard it.

        `message` is text (``str``, or ``bytes`` of UTF-8), or anything that JSON can carry.
        `event` is the event type, for ``addEventListener`` in the browser. A node is a running
        daemon with at least one open stream for the channel; 0 means that nobody listens now.

        Raises :class:`~sinapse.errors.PublishError` (``InvalidChannel``, ``InvalidEvent``,
        ``InvalidMessage``, ``MessageTooLarge``) before anything is sent, and
        :class:`~sinapse.errors.BrokerUnavailable`, whose ``delivered`` is False when the message
        was surely not sent, and None when that is not known. It is never sent twice.
        """
        name = channel_name(channel)
        payload = encode(message, event, self.max_message)
        nodes: int = self._connections.execute("PUBLISH", name, payload)
        return nodes

    def close(self) -> None:
        """Close the connections, once no thread uses them; a later operation opens new ones."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def _max_message(environment: Mapping[str, str]) -> int:
    text = environment.get("SINAPSE_MAX_MESSAGE")
    if not text:
        return MAX_MESSAGE
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"SINAPSE_MAX_MESSAGE must be a number of bytes, not {text!r}")
    return int(text)
