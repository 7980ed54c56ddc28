"""A message as a JSON object with the names of a browser's MessageEvent.

::

    {"event": "message", "data": "hello", "id": "1f-7", "channel": "room:1"}

What a message does not have is left out: ``event`` if it has no type, ``id`` if it is not
retained, ``channel`` if it is the server's own. ``data`` is the text as it was published. An
object with nothing but an ``id`` is no message: it says where to resume from.
"""

import json
from collections.abc import Iterable, Sequence

from sinapse.protocol.message import Message

#: What an id stands behind in an object; never within a text, where quotes are escaped.
ID = b'"id":"'

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(message: Message, channel: str | None = None) -> bytes:
    """Return `message` as an object; `channel` is where it was published."""
    fields = {"event": message.event, "data": message.data, "id": message.id, "channel": channel}
    return _encode({name: value for name, value in fields.items() if value is not None}).encode()


def named(message: Message, channel: str) -> Message:
    """Return `message`; one without an event type has the name of its channel as that."""
    return message if message.event is not None else message._replace(event=channel)


def opening(position: str | None) -> bytes:
    """Return the first object: the token is good, and where to resume from if that is known."""
    return encode(Message("ok", "authentication", position))


def reset(reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
    """Return the object that says that messages are missing: see ``docs/delivery.md``."""
    return encode(Message(reset_data(reason, channels), "reset", position))


def reset_data(reason: str, channels: Iterable[bytes]) -> str:
    """Return the data of a reset; `channels` are those concerned."""
    names = sorted(name.decode(errors="replace") for name in channels)
    return json.dumps({"reason": reason, "channels": names}, ensure_ascii=False)


def position(identifier: str) -> bytes:
    """Return the object that says where to resume from, and nothing else."""
    return _encode({"id": identifier}).encode()


class JSONList:
    """The framing of a long poll: messages become items of one list.

    Frames are joined, so each item ends with a comma; the last comma is removed.
    """

    __slots__ = ()

    #: What streams of this framing are counted as.
    transport = "long poll"

    @property
    def plain(self) -> "JSONList":
        """This one: items are only joined."""
        return self

    def frame(self, items: bytes) -> bytes:
        """Return `items`: they are whole."""
        return items

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return `messages`, which were published to `channel`."""
        name = channel.decode(errors="replace")
        return b"".join([encode(message, name) + b"," for message in messages])

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return the item that says that messages are missing."""
        return reset(reason, channels, position) + b","

    def position(self, identifier: str) -> bytes:
        """Return the item that says where to resume from, and nothing else."""
        return position(identifier) + b","

    def opening(self, identifier: str) -> bytes:
        """Return the item that a client gets that comes for the first time."""
        return opening(identifier) + b","

    def whole(self, frames: Iterable[bytes]) -> bytes:
        """Return the list of everything that was sent."""
        return b"[%b]\n" % b"".join(frames).removesuffix(b",")
