"""The data and the event type of a message, checked before it is published."""

import json
from typing import Any

from sinapse.errors import InvalidEvent, InvalidMessage, InvalidStream, MessageTooLarge
from sinapse.protocol.keys import MAX_NAME_BYTES, plain
from sinapse.protocol.message import FIELD_BREAKS, Message, is_stream_name


def checked(message: object, event: str | None, max_bytes: int) -> Message:
    """Return the message to publish; its data may have `max_bytes` bytes.

    Text is sent as it is, ``str`` or ``bytes`` of UTF-8; all other values as compact JSON.
    Raises :class:`~sinapse.errors.InvalidMessage`, :class:`~sinapse.errors.InvalidEvent` or
    :class:`~sinapse.errors.MessageTooLarge`.
    """
    if event is not None:
        event = _checked_event(event)
    text = _text(message)
    # A character is at least one byte: most texts that are too large need not be encoded.
    if len(text) > max_bytes or size_of(text) > max_bytes:
        raise MessageTooLarge(f"the message is over {max_bytes} bytes")
    return Message(text, event)


def stream_name(name: object) -> str:
    """Return `name` if a stream may be called that.

    Raises :class:`~sinapse.errors.InvalidStream`.
    """
    if not isinstance(name, str):
        raise InvalidStream(f"the name of a stream is a str, not {type(name).__name__}")
    text = plain(name)
    if not is_stream_name(text):
        raise InvalidStream(f"stream {text[:80]!r}: a name is 1 to 64 of A-Z a-z 0-9 _ -")
    return text


def value_of(data: str) -> Any:
    """Return the value of the data of a message as JSON, or the text if it is not JSON."""
    try:
        return json.loads(data)
    except ValueError:
        return data


def _text(message: object) -> str:
    if isinstance(message, str):
        return plain(message)
    if isinstance(message, bytes):
        try:
            return message.decode()
        except UnicodeDecodeError as error:
            raise InvalidMessage("bytes must be UTF-8") from error
    return as_json(message)


def as_json(value: object) -> str:
    """Return `value` as compact JSON; raises :class:`~sinapse.errors.InvalidMessage`."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"JSON cannot carry this {type(value).__name__}: {error}") from error


def size_of(text: str) -> int:
    """Return the bytes of `text`; raises :class:`~sinapse.errors.InvalidMessage`."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessage("text must be Unicode: a surrogate stands alone") from error


def _checked_event(event: object) -> str:
    if not isinstance(event, str):
        raise InvalidEvent(f"an event type is a str, not {type(event).__name__}")
    event = plain(event)
    if not event or any(character in event for character in FIELD_BREAKS):
        raise InvalidEvent(f"event type {event[:80]!r}: is empty or has a line break or NUL")
    try:
        size = len(event.encode())
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"event type {event[:80]!r}: is not Unicode text") from error
    if size > MAX_NAME_BYTES:
        raise InvalidEvent(f"event type {event[:80]!r}: is over {MAX_NAME_BYTES} bytes")
    return event
