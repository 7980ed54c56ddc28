"""Ids of retained messages: one total order over all channels of a Redis.

An id is ``<epoch>-<counter>``: lower-case hexadecimal digits, a hyphen, decimal digits. The counter
goes up by one from message to message, across epochs too; the epoch distinguishes ids of a Redis
whose data were lost later from those that are still known. At most 31 bytes, and only characters
that may stand in any header field (the browser sends it as ``Last-Event-ID``).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

#: Digits of a counter, at the most.
MAX_DIGITS = 14

_FORM = re.compile(rf"([0-9a-f]{{1,16}})-(0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}})", re.ASCII)


class EventID(NamedTuple):
    """A parsed id."""

    epoch: str
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.counter}"

    @classmethod
    def parse(cls, text: str) -> "EventID | None":
        """Read `text`; None if it is not an id."""
        match = _FORM.fullmatch(text)
        return cls(match[1], int(match[2])) if match else None


def parse_counter(digits: bytes) -> int | None:
    """Read a counter that has come over Redis; None if it is not valid.

    A thousand digits would take the time of thousands of messages.
    """
    return int(digits) if len(digits) <= MAX_DIGITS and digits.isdigit() else None


def parse_id(payload: bytes) -> EventID | None:
    """Read an id that has come over Redis; None if it is not one."""
    return EventID.parse(payload.decode("ascii", "replace"))


#: What stands between the parts of an id where there are several Redis.
SEPARATOR = "."

#: An id that no Redis ever gave.
UNKNOWN = EventID("0", 0)


def position(epoch: bytes, counter: bytes) -> EventID:
    """Return the id of these parts, as Redis has them; one never given if they are none."""
    return parse_id(b"%s-%s" % (epoch, counter)) or UNKNOWN


class Place(tuple[EventID, ...]):
    """Where a stream is in each of several Redis: the id of the last message of each."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.join(map(str, self))

    @staticmethod
    def join(parts: Iterable[str]) -> str:
        """Return the text of the id that has these parts, in the order of the Redis."""
        return SEPARATOR.join(parts)

    @classmethod
    def parse(cls, text: str, count: int) -> "Place":
        """Read `text`, an id of a stream over `count` Redis; an invalid id counts as unknown.

        An id with fewer parts is that of the first Redis: more were added since. An id with more
        parts is unknown as a whole, because it is unknown what it missed of the Redis that are
        gone.
        """
        parts = [EventID.parse(part) or UNKNOWN for part in text.split(SEPARATOR, count)]
        if len(parts) > count:
            parts = []
        return cls(parts + [UNKNOWN] * (count - len(parts)))


def is_event_id(value: object) -> bool:
    """Whether `value` is the text of an id."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None
