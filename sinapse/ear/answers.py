"""What Redis sends to a subscriber, in bytes of its protocol (RESP2)."""

#: The answer to what a connection asks before it subscribes.
OK = b"+OK\r\n"

#: The answers to a PING: of a connection that is subscribed to something, and of another one.
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
PLAIN_PONG = b"+PONG\r\n"

_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_OF_PATTERN = b"*4\r\n$8\r\npmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_CONFIRMATION = b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:%d\r\n"


def message(channel: bytes, payload: bytes) -> bytes:
    """Return a message of a channel."""
    return _MESSAGE % (len(channel), channel, len(payload), payload)


def message_of_pattern(pattern: bytes, channel: bytes, payload: bytes) -> bytes:
    """Return a message of a channel that matches a pattern."""
    return _OF_PATTERN % (len(pattern), pattern, len(channel), channel, len(payload), payload)


def confirmation(verb: bytes, name: bytes, count: int) -> bytes:
    """Return the answer to a command for one name, after which there are `count` subscriptions."""
    return _CONFIRMATION % (len(verb), verb, len(name), name, count)


def error(text: str) -> bytes:
    """Return an error; its text becomes one line."""
    return b"-" + " ".join(text.split()).encode() + b"\r\n"
