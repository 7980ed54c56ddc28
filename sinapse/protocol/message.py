"""The payload of a message on a Redis PUB/SUB channel.

MessagePack (https://msgpack.org), in one of four shapes::

    data                            a string: no event type
    [event or nil, data]            an array
    [event or nil, data, id]        a retained message
    [event or nil, data, id or nil, {"but": stream, "traceparent": …, "tracestate": …, "at": time}]
                                    each key if it is needed: not for streams of that name; the
                                    trace that it belongs to; when it was published, which scripts
                                    say of some. Readers ignore other keys of the map, and what
                                    follows it

``data``, ``event``, ``id`` and ``stream`` are UTF-8 text; ids are those of :mod:`.ids`. Strings are
written as the *raw* family of the first MessagePack specification (fixstr, str 16, str 32; never
str 8 or bin), which every decoder old and new reads as a string; all string and binary types are
accepted in return.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

from sinapse.errors import InvalidPayload
from sinapse.protocol.ids import is_event_id
from sinapse.protocol.trace import Trace, trace_in

#: What would end a field of an event stream early, or be refused by a parser
#: (WHATWG HTML §9.2.6: CR, LF; NUL for ids).
FIELD_BREAKS = "\r\n\0"

#: Bytes of data, the default: 1 MiB, as in Mercure and NATS. A message is held in memory once a
#: node, and for each subscriber that is behind.
MAX_MESSAGE = 1024 * 1024

#: Seconds, 30 days, for which a message is retained: what has to be kept for longer belongs in a
#: database.
MAX_RETAIN = 30 * 24 * 3600

#: Digits of microseconds since 1970, from 2001 until 2286.
TIME_DIGITS = 16

#: What a client may call its stream, as a pattern.
STREAM_NAME = "[A-Za-z0-9_-]{1,64}"

_NO_BREAKS = str.maketrans("", "", FIELD_BREAKS)


def without_breaks(text: str) -> str:
    """Return `text` without line breaks, so that it can stand in a field."""
    return text.translate(_NO_BREAKS)


def is_stream_name(text: str) -> bool:
    """Whether `text` is what a client may call its stream."""
    return re.fullmatch(STREAM_NAME, text) is not None


class Message(NamedTuple):
    """What was published: its data, its event type if it has one, its id if it is retained."""

    data: str
    event: str | None = None
    id: str | None = None
    but: str | None = None
    """The name of the streams that it is not for: those of its sender."""
    trace: Trace | None = None
    """Where it belongs, if that is recorded."""
    at: float | None = None
    """When it was published, by the clock of its Redis, in seconds since 1970; None if unknown."""

    def extras(self) -> dict[str, str]:
        """Return what a publisher puts into the map of its payload."""
        found = {} if self.but is None else {"but": self.but}
        return found if self.trace is None else found | self.trace.fields()


def pack(message: Message) -> bytes:
    """Encode `message` for PUBLISH."""
    body: Any = message.data if message.event is None else [message.event, message.data]
    if message.but is not None or message.trace is not None:
        body = [message.event, message.data, None, message.extras()]
    return msgpack.packb(body, use_bin_type=False)  # type: ignore[no-any-return]  # untyped


def pack_retained(message: Message) -> bytes:
    """Encode `message` but for its id, which Redis gives and puts in, as a short string.

    What follows the id is at the end, with its length in bytes behind it, as one byte.
    """
    # The id is the one byte of an empty string.
    body: bytes = msgpack.packb((message.event, message.data, ""), use_bin_type=False)[:-1]
    if message.but is None and message.trace is None:
        return body
    tail: bytes = msgpack.packb(message.extras(), use_bin_type=False)
    return b"".join((b"\x94", body[1:], tail, bytes([len(tail)])))


def unpack(payload: bytes) -> Message:
    """Decode what was published; an event type is made harmless by dropping its line breaks.

    Raises :class:`~sinapse.errors.InvalidPayload`, whose text never quotes the payload: it may
    be anything, and ends up in a log.
    """
    try:
        # raw=False decodes every string as strict UTF-8.
        body = msgpack.unpackb(payload, raw=False, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError) as error:
        raise InvalidPayload(f"not MessagePack ({type(error).__name__})") from error
    if isinstance(body, list):
        if len(body) < 2:
            raise InvalidPayload(f"an array of {len(body)} elements, at least 2 expected")
        event = None if body[0] is None else without_breaks(_text(body[0]))
        # An id that is none of ours would be a promise that nobody can keep.
        identifier = body[2] if len(body) > 2 and is_event_id(body[2]) else None
        text = _text(body[1])
        if len(body) > 3 and isinstance(extras := body[3], dict):
            but, trace = _but(extras), trace_in(extras)
            return Message(text, event or None, identifier, but, trace, _at(extras))
        return Message(text, event or None, identifier)
    return Message(_text(body))


def _but(extras: Mapping[Any, Any]) -> str | None:
    but = extras.get("but")
    return but if isinstance(but, str) and is_stream_name(but) else None


def _at(extras: Mapping[Any, Any]) -> float | None:
    """Return when a message was published; its digits are microseconds."""
    at = extras.get("at")
    if isinstance(at, str) and len(at) == TIME_DIGITS and at.isascii() and at.isdigit():
        return int(at) / 1_000_000
    return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InvalidPayload("not UTF-8") from error
    raise InvalidPayload(f"a {type(value).__name__} where text is expected")
