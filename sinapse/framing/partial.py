"""Framing of a stream over several Redis.

A message is still encoded once for all streams; the parts of the id that differ, those of other
Redis, are put in when it is sent. The id of the message stands in the frame as it was given, and is
unmistakable: in an event stream a line of data begins with ``data:``, and in JSON quotes within a
text are escaped.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sinapse.framing import jsonmessage
from sinapse.framing.eventstream import EventStream
from sinapse.framing.jsonmessage import JSONList
from sinapse.framing.websocket import WebSocket
from sinapse.protocol.message import Message
from sinapse.protocol.places import SEPARATOR

_SEPARATOR = SEPARATOR.encode()


class Encoding(Protocol):
    """How messages of one Redis become bytes."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return `messages` of `channel`, each with its own part of the id."""

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return what says that messages of `channels` are missing."""

    def position(self, identifier: str) -> bytes:
        """Return what says where to resume from, and nothing else."""


class PartialFraming(Encoding, Protocol):
    """How they become bytes for one kind of stream."""

    @property
    def plain(self) -> Encoding:
        """Itself: there is nothing around it yet."""

    def frame(self, body: bytes) -> bytes:
        """Return `body`."""

    def complete(self, partial: bytes, ids: list[bytes], shard: int) -> bytes:
        """Return the frame of `partial`, which comes from the Redis with the number `shard`.

        `ids` are the parts of the id that the stream has come to, and are brought up to date.
        """


def _with_whole_ids(
    partial: bytes, before: bytes, after: bytes, ids: list[bytes], shard: int
) -> list[bytes]:
    """Replace each id, which stands between `before` and `after`, by the whole one.

    Returns what is between, too: these parts are the same for all streams.
    """
    first, *others = partial.split(before)
    parts = [first]
    for other in others:
        ids[shard], _, rest = other.partition(after)
        parts += (before, _SEPARATOR.join(ids), after, rest)
    return parts


class PartialEventStream:
    """A part of an event stream: its body, not yet in chunks."""

    __slots__ = ("_whole", "encode", "position", "reset")

    def __init__(self, whole: EventStream) -> None:
        self._whole = whole
        self.encode = whole.plain.encode
        self.reset = whole.plain.reset
        self.position = whole.plain.position

    @property
    def plain(self) -> "PartialEventStream":
        """See :class:`PartialFraming`."""
        return self

    def frame(self, body: bytes) -> bytes:
        """See :class:`PartialFraming`."""
        return body

    def complete(self, partial: bytes, ids: list[bytes], shard: int) -> bytes:
        """See :class:`PartialFraming`."""
        return self._whole.frame(*_with_whole_ids(partial, b"\nid: ", b"\n", ids, shard))


class PartialWebSocket(WebSocket):
    """A part of a WebSocket: its JSON texts, each on a line."""

    __slots__ = ("_whole",)

    def __init__(self, whole: WebSocket) -> None:
        super().__init__(channel_event=whole.channel_event)
        self._whole = whole

    def text(self, *parts: bytes) -> bytes:
        """Return one line."""
        return b"".join((*parts, b"\n"))

    def complete(self, partial: bytes, ids: list[bytes], shard: int) -> bytes:
        """See :class:`PartialFraming`."""
        return b"".join(
            [
                self._whole.text(*_with_whole_json_ids(text, ids, shard))
                for text in partial.splitlines()
            ]
        )


class PartialJSONList(JSONList):
    """A part of a long poll: its items."""

    __slots__ = ()

    def complete(self, partial: bytes, ids: list[bytes], shard: int) -> bytes:
        """See :class:`PartialFraming`."""
        return b"".join(_with_whole_json_ids(partial, ids, shard))


def _with_whole_json_ids(partial: bytes, ids: list[bytes], shard: int) -> list[bytes]:
    return _with_whole_ids(partial, jsonmessage.ID, b'"', ids, shard)


class _Tagged:
    """What one Redis gives, where each part of an id says the name of its Redis.

    That is done when a message is encoded, once for all streams.
    """

    __slots__ = ("_framing", "_tag", "complete", "frame")

    def __init__(self, framing: PartialFraming, tag: str) -> None:
        self._framing = framing
        self._tag = tag
        self.frame = framing.frame
        self.complete = framing.complete

    @property
    def plain(self) -> "_Tagged":
        """See :class:`PartialFraming`."""
        return self

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """See :class:`Encoding`."""
        tagged = [
            each if each.id is None else each._replace(id=self._tag + each.id) for each in messages
        ]
        return self._framing.encode(channel, tagged)

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """See :class:`Encoding`."""
        tagged = None if position is None else self._tag + position
        return self._framing.reset(reason, channels, tagged)

    def position(self, identifier: str) -> bytes:
        """See :class:`Encoding`."""
        return self._framing.position(self._tag + identifier)


def partial_framing(whole: object, tag: str = "") -> PartialFraming:
    """Return the framing of what one Redis gives to streams that are framed as `whole`.

    `tag` is what the part of an id begins with that is of this Redis.
    """
    framing = _partial(whole)
    return _Tagged(framing, tag) if tag else framing


def _partial(whole: object) -> PartialFraming:
    if isinstance(whole, EventStream):
        return PartialEventStream(whole)
    if isinstance(whole, WebSocket):
        return PartialWebSocket(whole)
    return PartialJSONList()
