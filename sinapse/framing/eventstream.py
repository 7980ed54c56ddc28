"""Framing of an event stream (WHATWG HTML §9.2), as the body of an HTTP response.

An event is a block of ``field: value`` lines that an empty line ends. HTTP/1.1 carries the body
in chunks (RFC 9112 §7.1), HTTP/1.0 as it is, ended by the close of the connection, and HTTP/2 has
frames of its own about it; each of that plain or compressed, and with events as they are or as JSON
objects. A message is encoded once for each of these framings that is in use.
"""

from collections.abc import Iterable, Sequence

from sinapse.errors import CloseReason
from sinapse.framing import deflate, jsonmessage
from sinapse.framing.jsonmessage import reset_data
from sinapse.protocol.message import Message, without_breaks

#: A comment that is a whole block. A lone ``:`` line would stay in the parser's buffer of some
#: clients, and in the buffer of proxies that forward whole blocks.
KEEP_ALIVE = b":\n\n"

#: Seconds after which to come back while something is wrong: at random, so that not all clients
#: come at once.
TROUBLE_RETRY = (1.0, 5.0)

#: A comment of 2 KiB.
PADDING = b":" + 2048 * b" " + b"\n"

#: The line that the server's own events have and no message can have, whatever its event type is:
#: an application's line breaks never begin a field. By the standard, fields that are not known are
#: passed over. The first event of a stream goes without: it is known by its place, and its bytes
#: are those of Ruby's Sinapse.
OWN = "by: server\n"

#: Header fields of every event stream. The charset for clients that would take Latin-1, as was the
#: default for text; ``no-store`` for caches; ``no-transform`` and ``X-Accel-Buffering`` because
#: servers that compress, and nginx, otherwise hold back everything.
HEADERS = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-store, no-transform"),
    (b"X-Accel-Buffering", b"no"),
)

#: An event that says nothing, where events are JSON objects.
_NOTHING = b"data: {}\n"

#: The header field of a stream whose body is gzip (RFC 9110 §8.4.1.3).
GZIP = (b"Content-Encoding", b"gzip")


def encode(message: Message, default_event: str | None = None) -> bytes:
    r"""Return the block of one message.

    A line break in the data, be it CR LF, LF or CR, starts another ``data`` line: the browser
    joins the lines with LF. `default_event` is the type of a message that has none.

    The id comes last: some clients store it before they have received the rest.
    """
    data = message.data
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in data:
        data = data.replace("\n", "\ndata: ")
    text = f"data: {data}\n\n" if message.id is None else f"data: {data}\nid: {message.id}\n\n"
    event = message.event or default_event
    if event is not None:
        text = f"event: {event}\n{text}"
    return text.encode()


def encode_own(message: Message) -> bytes:
    """Return the block of an event of the server's own."""
    return OWN.encode() + encode(message)


def reconnection_time(seconds: float) -> bytes:
    """Return the line that tells the browser how long to wait before it connects again."""
    return b"retry: %d\n" % round(seconds * 1000)


def encode_as_json(message: Message, channel: str | None = None) -> bytes:
    """Return the block of an event whose data are a JSON object, without a channel for our own.

    The id is a field of the block as ever, so that the browser keeps it.
    """
    identifier = "" if message.id is None else f"id: {message.id}\n"
    data = jsonmessage.encode(message._replace(id=None), channel)
    return b"data: %b\n%b\n" % (data, identifier.encode())


def _chunk(data: bytes) -> bytes:
    """Return a chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class EventStream:
    """One of these framings; the same functions as every other framing has.

    `channel_event`: messages without an event type get the channel's name as theirs. `compress`:
    the body is gzip, in which bodies of so many bytes are compressed, each by itself; None for
    none. Its end is that of the connection or of the chunks: a trailer would have a checksum of all
    that this one stream has got.
    """

    __slots__ = (
        *("_begin", "_compress", "_end", "channel_event", "chunked", "headers"),
        *("keep_alive", "plain"),
    )

    #: What streams of this framing are counted as.
    transport = "event stream"

    plain: "EventStream"
    """The framing of the bodies alone."""

    def __init__(
        self, *, chunked: bool, channel_event: bool = False, compress: int | None = None
    ) -> None:
        self.chunked = chunked
        self.channel_event = channel_event
        self._compress = compress
        is_plain = not chunked and compress is None
        self.plain = self if is_plain else type(self)(chunked=False, channel_event=channel_event)
        #: Those of :data:`HEADERS`, and what the body is.
        self.headers = HEADERS if compress is None else (*HEADERS, GZIP)
        self._begin = b"" if compress is None else deflate.GZIP_HEAD
        if chunked and self._begin:
            self._begin = _chunk(self._begin)
        self.keep_alive = self.frame(KEEP_ALIVE)
        self._end = b"0\r\n\r\n" if chunked else b""

    def frame(self, *parts: bytes) -> bytes:
        """Return a body as it goes on the wire; its long `parts` may be those of others, too."""
        least = self._compress
        data = b"".join(parts) if least is None else deflate.joined(parts, least)
        return _chunk(data) if self.chunked else data

    def opening(self, retry: float, position: str | None = None, *, padded: bool = False) -> bytes:
        """Return the first frame of a stream, behind its head: Ruby's, and the id to resume from.

        One that is `padded` begins with a comment of 2 KiB: some old browsers, and polyfills in
        them, see nothing of a response before as much has come. `retry` is seconds.
        """
        padding = PADDING if padded else b""
        resume = b"" if position is None else b"id: %b\n" % position.encode()
        opened = self._opened(Message("ok", "authentication"))
        return self._begin + self.frame(padding + reconnection_time(retry) + resume + opened)

    def _opened(self, message: Message) -> bytes:
        """Return the block that says that the token is good."""
        return encode(message)

    def _own(self, message: Message) -> bytes:
        """Return the block of an event of the server's own."""
        return encode_own(message)

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return the frame of `messages`, which were published to `channel` in this order."""
        default_event = None
        if self.channel_event:
            default_event = without_breaks(channel.decode(errors="replace"))
        if len(messages) == 1:
            return self.frame(encode(messages[0], default_event))
        return self.frame(b"".join([encode(message, default_event) for message in messages]))

    def reset(self, reason: str, channels: Iterable[bytes], position: str | None) -> bytes:
        """Return the frame of the event that says that messages are missing.

        `reason` is one of those in ``docs/delivery.md``; `channels` are those concerned.
        `position` is the id to resume from when nothing else is to come.
        """
        return self.frame(self._own(Message(reset_data(reason, channels), "reset", position)))

    def notice(self, event: str, data: str) -> bytes:
        """Return the frame of an event of the server's own."""
        return self.frame(self._own(Message(data, event)))

    def position(self, identifier: str) -> bytes:
        """Return the frame of an event without listeners, so that the browser keeps its id.

        It has data: polyfills forget the id of a block without any.
        """
        return self.frame(self._own(Message("ok", "position", identifier)))

    def come_back(self, seconds: float) -> bytes:
        """Return the frame that says when to come back: the end follows.

        It is an event without listeners: some clients apply the time only with an event.
        """
        return self.frame(reconnection_time(seconds) + self._own(Message("ok", "position")))

    def ending(self, reason: CloseReason) -> bytes:  # noqa: ARG002
        """Return what ends the body in good order; it has no place for a reason."""
        return self._end

    def head(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the head of a stream over HTTP/1, with `headers` added."""
        if self.chunked:
            lines = [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"]
        else:
            lines = [b"HTTP/1.0 200 OK", b"Connection: close"]
        lines += [b"%b: %b" % field for field in (*self.headers, *headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class JSONEventStream(EventStream):
    """An event stream whose events are JSON objects, as those of a WebSocket, but for the id.

    So a client that knows only the fields of the standard learns the channel of each message, and
    gets messages of any type without asking for that type. The browser's own EventSource does.
    """

    __slots__ = ()

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return the frame of `messages`, which were published to `channel` in this order."""
        name = channel.decode(errors="replace")
        if self.channel_event:
            messages = [jsonmessage.named(message, name) for message in messages]
        return self.frame(b"".join([encode_as_json(message, name) for message in messages]))

    def _opened(self, message: Message) -> bytes:
        return encode_as_json(message)

    def _own(self, message: Message) -> bytes:
        return encode_as_json(message)

    def position(self, identifier: str) -> bytes:
        """Return the frame of an event that gives the client an id, and says nothing."""
        return self.frame(b"%bid: %b\n\n" % (_NOTHING, identifier.encode()))

    def come_back(self, seconds: float) -> bytes:
        """Return the frame that says when to come back, and nothing else: the end follows."""
        return self.frame(b"%b%b\n" % (reconnection_time(seconds), _NOTHING))
