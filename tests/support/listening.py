"""Hear what is published, exactly: every message, in order, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from redis.client import PubSub

from sinapse.protocol.keys import REPLAYED, RESERVED
from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from tests.support import EVENT_TIMEOUT, RedisServer

MARKER = b"listening:marker"


def is_for_nodes(channel: bytes) -> bool:
    """Whether only nodes look at it: daemons probe their connections, first pasts are told."""
    return (
        channel.startswith(PLAIN.nodes.encode())
        or channel == PLAIN.control_channel("", REPLAYED).encode()
    )


class Listener:
    """A subscriber to everything on one Redis."""

    def __init__(self, client: redis.Redis, pubsub: PubSub) -> None:
        self._client = client
        self._pubsub = pubsub

    def heard(self) -> list[tuple[str, bytes]]:
        """Return all (channel, payload) since the last call.

        Redis orders what is published, so a marker published now follows all that came before.
        """
        self._client.publish(MARKER, b"")
        messages: list[tuple[str, bytes]] = []
        while True:
            message = self._pubsub.get_message(timeout=EVENT_TIMEOUT)
            assert message is not None, "the marker did not arrive"
            if message["type"] != "pmessage" or is_for_nodes(message["channel"]):
                continue
            if message["channel"] == MARKER:
                return messages
            messages.append((message["channel"].decode(), message["data"]))


@contextlib.contextmanager
def listening(server: RedisServer) -> Iterator[Listener]:
    """Listen to all that is published within a with block."""
    with contextlib.closing(server.client()) as client, PubSub(client.connection_pool) as pubsub:
        pubsub.psubscribe("*")
        confirmation = pubsub.get_message(timeout=EVENT_TIMEOUT)
        assert confirmation is not None
        yield Listener(client, pubsub)


def heard(listener: Listener) -> list[tuple[str, str]]:
    """Return the channels and data of the messages since the last call."""
    return [
        (channel, unpack(payload).data)
        for channel, payload in listener.heard()
        if not channel.startswith(RESERVED)
    ]
