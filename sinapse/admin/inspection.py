"""A close look: one subject with its streams, the channels with the most of something.

What it returns are JSON objects that can be put together: those of several processes about one
subject, or one channel, are one with the streams of all, or with the sum of the numbers.
"""

from collections.abc import Callable
from heapq import nlargest
from typing import Any

from sinapse.broker.interface import Broker
from sinapse.hub.subscribers import Channel
from sinapse.streams.stream import Stream
from sinapse.streams.streams import Streams

#: What channels can be ordered by, and what stands for it.
ORDERS: dict[str, Callable[[Channel], int]] = {
    "streams": lambda channel: sum(map(len, channel.all_audiences().values())),
    "messages": lambda channel: channel.messages,
}


class Inspection:
    """Looks at the table and the streams; `seconds` is the clock by which these have opened."""

    def __init__(
        self, broker: Broker[Stream], streams: Streams, seconds: Callable[[], float]
    ) -> None:
        self._broker = broker
        self._streams = streams
        self._seconds = seconds

    def subject(self, identifier: str) -> dict[str, Any]:
        """Return a subject with its open streams, and what it may read if there are any."""
        subject = _bytes(identifier)
        return {
            "subject": identifier,
            "channels": sorted(map(_text, self._broker.channels_of(subject))),
            "streams": [self._stream(stream) for stream in self._broker.streams_of(subject)],
        }

    def end(self, identifier: str) -> dict[str, Any]:
        """End the streams of a subject; returns how many that were."""
        return {"ended": self._streams.end(_bytes(identifier))}

    def channels(self, count: int, order: str) -> dict[str, Any]:
        """Return the `count` channels with the most of `order`, one of :data:`ORDERS`."""
        channels = self._broker.channels
        return {
            "total": len(channels),
            "channels": [
                {
                    "channel": _text(channel.name),
                    "streams": ORDERS["streams"](channel),
                    "messages": channel.messages,
                }
                for channel in nlargest(count, channels.values(), key=ORDERS[order])
            ],
        }

    def _stream(self, stream: Stream) -> dict[str, Any]:
        return {
            "transport": stream.framing.transport,
            "address": stream.address,
            "age": round(self._seconds() - stream.opened, 1),
            "state": self._state(stream),
            "pending_bytes": stream.pending_bytes,
        }

    def _state(self, stream: Stream) -> str:
        if not self._broker.is_live(stream):
            return "catching up"
        return "behind" if stream.pending_bytes else "live"


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _bytes(identifier: str) -> bytes:
    return identifier.encode(errors="surrogateescape")
