"""The plain interface: everything by name and id."""

import os
from collections.abc import Mapping
from typing import Self

from sinapse.keys import (
    CHECKPOINTS,
    EPOCHS,
    LAST,
    NODES,
    RETENTION,
    channel_name,
    retained_key,
    sent_key,
)
from sinapse.message import Message, pack, pack_retained
from sinapse.publisher.channels import Channels
from sinapse.publisher.connections import Connections
from sinapse.publisher.identity import ChannelLike
from sinapse.publisher.payload import checked
from sinapse.publisher.retention import (
    HORIZON,
    RETAIN,
    RETAIN_MESSAGES,
    checked_message_id,
    message_count,
    milliseconds,
    remembered,
)
from sinapse.publisher.tokens import Tokens
from sinapse.redisurl import RedisURL, from_environment
from sinapse.scripts import PUBLISH_ONCE, PUBLISH_RETAINED

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
    is bytes of data, without one ``SINAPSE_MAX_MESSAGE`` decides. `retain` is seconds for which
    messages are retained, up to 30 days, and 0 for not at all; `retain_messages` is the most of a
    channel; without them ``SINAPSE_RETAIN`` and ``SINAPSE_RETAIN_MESSAGES`` decide, else it is
    five minutes and 1,000 messages. `connect_timeout` and `timeout` are seconds, for each address
    of Redis to accept and for each of its answers. Raises ``ValueError`` for a setting that cannot
    be used.
    """

    def __init__(
        self,
        url: str | RedisURL | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        max_connections: int = POOL_SIZE,
        connect_timeout: float = 2.0,
        timeout: float = 5.0,
    ) -> None:
        if not isinstance(url, RedisURL):
            url = RedisURL.parse(from_environment(os.environ) if url is None else url)
        self.url = url
        if max_message is None:
            max_message = _number(os.environ, "SINAPSE_MAX_MESSAGE", "bytes", MAX_MESSAGE)
        self.max_message = max_message
        self._retain = _retain(os.environ) if retain is None else milliseconds(retain)
        self._retain_messages = (
            _retain_messages(os.environ)
            if retain_messages is None
            else message_count(retain_messages)
        )
        self._connections = Connections(
            url, size=max_connections, connect_timeout=connect_timeout, timeout=timeout
        )
        self.tokens = Tokens(self._connections)
        self.channels = Channels(self._connections)

    def publish(
        self,
        channel: ChannelLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
    ) -> int:
        """Send `message` to everybody who may listen to `channel`; return how many nodes heard it.

        `message` is text (``str``, or ``bytes`` of UTF-8), or anything that JSON can carry.
        `event` is the event type, for ``addEventListener`` in the browser. A node is a running
        daemon with at least one open stream for the channel; 0 means that nobody listens now.

        `retain` is seconds for which Redis keeps the message for those who come back, 0 for not at
        all; without it, ``sinapse_retain`` of the object that stands for the channel decides, then
        the publisher. It is seconds of Redis' clock, of which milliseconds count.

        `message_id` makes it safe to publish again when it is not known whether a message was
        sent: what was published with that id in the last five minutes, or for as long as it is
        retained, is not sent again, and 0 is returned. It is 1 to 128 printable characters, and
        that of one message to one channel: a copy for another channel needs another one.

        Raises :class:`~sinapse.errors.PublishError` (``InvalidChannel``, ``InvalidEvent``,
        ``InvalidMessage``, ``MessageTooLarge``) or another ``ValueError`` before anything is sent,
        and :class:`~sinapse.errors.BrokerUnavailable`, whose ``delivered`` is False when the
        message was surely not sent, and None when that is not known. It is never sent twice.
        """
        name = channel_name(channel)
        if retain is None:
            retain = getattr(channel, "sinapse_retain", None)
        kept = self._retain if retain is None else milliseconds(retain)
        if message_id is not None:
            message_id = checked_message_id(message_id)
        content = checked(message, event, self.max_message)
        if kept:
            return self._publish_retained(name, content, kept, message_id)
        return self._publish_plain(name, content, message_id)

    def _publish_plain(self, channel: str, message: Message, message_id: str | None) -> int:
        nodes: int
        if message_id is None:
            nodes = self._connections.execute("PUBLISH", channel, pack(message))
        else:
            nodes = self._connections.run(
                PUBLISH_ONCE, [sent_key(message_id)], [channel, pack(message), remembered(0)]
            )
        return max(0, nodes)

    def _publish_retained(
        self, channel: str, message: Message, retain: int, message_id: str | None
    ) -> int:
        keys = [RETENTION, EPOCHS, LAST, CHECKPOINTS, retained_key(channel)]
        if message_id is not None:
            keys.append(sent_key(message_id))
        nodes: int = self._connections.run(
            PUBLISH_RETAINED,
            keys,
            [
                channel,
                pack_retained(message),
                retain,
                self._retain_messages,
                NODES,
                HORIZON,
                remembered(retain),
            ],
        )
        return max(0, nodes)

    def close(self) -> None:
        """Close the connections, once no thread uses them; a later operation opens new ones."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def _number(environment: Mapping[str, str], name: str, unit: str, default: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{name} must be a number of {unit}, not {text!r}")
    return int(text)


def _retain(environment: Mapping[str, str]) -> int:
    text = environment.get("SINAPSE_RETAIN")
    try:
        seconds = float(text) if text else RETAIN
    except ValueError:
        raise ValueError(f"SINAPSE_RETAIN must be a number of seconds, not {text!r}") from None
    return milliseconds(seconds, "SINAPSE_RETAIN")


def _retain_messages(environment: Mapping[str, str]) -> int:
    name = "SINAPSE_RETAIN_MESSAGES"
    return message_count(_number(environment, name, "messages", RETAIN_MESSAGES), name)
