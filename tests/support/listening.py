"""Hear what is published, exactly: every message, in order, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgpack
import redis
from redis.client import PubSub

from sinapse.protocol.keys import REPLAYED, RESERVED
from sinapse.protocol.message import TIME_DIGITS, unpack
from sinapse.protocol.names import PLAIN
from tests.support import EVENT_TIMEOUT, RedisServer

MARKER = b"listening:marker"

#: What the time of publication begins with, at the end of a payload, and how many bytes that is.
TIME = b"\xa2at\xb0"
TIME_SIZE = len(TIME) + TIME_DIGITS


def is_for_nodes(channel: bytes) -> bool:
    """Whether only nodes look at it: daemons probe their connections, first pasts are told."""
    return (
        channel.startswith(PLAIN.nodes.encode())
        or channel == PLAIN.control_channel("", REPLAYED).encode()
    )


def without_time(payload: bytes) -> bytes:
    """Return what was published without the time of that, which one message in seven has."""
    body = payload[:-TIME_SIZE]
    if not payload[len(body) :].startswith(TIME):
        return payload
    others = {name: value for name, value in msgpack.unpackb(payload)[3].items() if name != "at"}
    head = len(body) - len(msgpack.packb(others, use_bin_type=False))
    if not others:
        return b"\x93" + body[1:head]
    return body[:head] + bytes([body[head] - 1]) + body[head + 1 :]


class Listener:
    """A subscriber to everything on one Redis."""

    def __init__(self, client: redis.Redis, pubsub: PubSub) -> None:
        self._client = client
        self._pubsub = pubsub

    def heard(self, *, timed: bool = False) -> list[tuple[str, bytes]]:
        """Return all (channel, payload) since the last call; if not `timed`, without their times.

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
            payload = message["data"] if timed else without_time(message["data"])
            messages.append((message["channel"].decode(), payload))


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
