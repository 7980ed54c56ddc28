"""Framing of a WebSocket (RFC 6455 §5): one text frame with JSON for each message.

A server's frames are not masked, so a frame is encoded once for all streams. A message may be
compressed, by itself (RFC 7692, without context takeover).
"""

from collections.abc import Iterable, Sequence

from sinapse.errors import CloseReason
from sinapse.framing import deflate, jsonmessage
from sinapse.protocol.message import Message

_FINAL = 0x80
_COMPRESSED = 0x40
_TEXT = 0x1
_CLOSE = 0x8
_PING = 0x9


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((_FINAL | opcode, size))
    elif size < 1 << 16:
        head = bytes((_FINAL | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


class WebSocket:
    """The framing; the same functions as every other framing has.

    `channel_event`: messages without an event type get the channel's name as theirs. `compress`:
    permessage-deflate was negotiated, and messages of so many bytes are compressed; None if it
    was not.
    """

    __slots__ = ("channel_event", "compress", "keep_alive")

    #: What streams of this framing are counted as.
    transport = "websocket"

    def __init__(self, *, channel_event: bool = False, compress: int | None = None) -> None:
        self.channel_event = channel_event
        self.compress = compress
        self.keep_alive = frame(_PING, b"")

    @property
    def plain(self) -> "WebSocket":
        """This one: a message has a frame of its own, and frames are only joined."""
        return self

    def frame(self, frames: bytes) -> bytes:
        """Return `frames`: they are whole."""
        return frames

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return the frames of `messages`, which were published to `channel` in this order."""
        name = channel.decode(errors="replace")
        if self.channel_event:
            messages = [jsonmessage.named(message, name) for message in messages]
        return b"".join([self.text(jsonmessage.encode(message, name)) for message in messages])

    def text(self, *parts: bytes) -> bytes:
        """Return one message of the WebSocket; its long `parts` may be those of others, too."""
        size = sum(map(len, parts))
        if self.compress is not None and size >= self.compress:
            blocks = deflate.joined(parts, self.compress).removesuffix(deflate.TAIL)
            if len(blocks) < size:
                return frame(_COMPRESSED | _TEXT, blocks)
        return frame(_TEXT, b"".join(parts))

    def opening(self, position: str | None = None) -> bytes:
        """Return the first frame; `position` is the id to resume from, if any."""
        return self.text(jsonmessage.opening(position))

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return the frame that says that messages are missing, as in an event stream."""
        return self.text(jsonmessage.reset(reason, channels, position))

    def notice(self, event: str, data: str) -> bytes:
        """Return the frame of an event of the server's own."""
        return self.text(jsonmessage.encode(Message(data, event)))

    def position(self, identifier: str) -> bytes:
        """Return the frame that says where to resume from, and nothing else."""
        return self.text(jsonmessage.position(identifier))

    def come_back(self, seconds: float) -> bytes:  # noqa: ARG002
        """Return nothing: the close code says that the client may come back, and no more."""
        return b""

    def ending(self, reason: CloseReason) -> bytes:
        """Return the close frame (RFC 6455 §5.5.1)."""
        return frame(_CLOSE, reason.code.to_bytes(2, "big") + reason.text.encode())
