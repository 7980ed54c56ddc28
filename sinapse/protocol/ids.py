"""Ids of retained messages: one total order over all channels of a Redis.

An id is ``<epoch>-<counter>``: lower-case hexadecimal digits, a hyphen, decimal digits. The counter
goes up by one from message to message, across epochs too; the epoch distinguishes ids of a Redis
whose data were lost later from those that are still known. At most 31 bytes, and only characters
that may stand in any header field (the browser sends it as ``Last-Event-ID``).

The last event ID of a stream may have more, while it gets the past of channels, which is older than
what it has had: ``<epoch>-<counter>-<past>`` has everything up to the counter, and of the channel
that was granted with the next counter, its past up to ``past``. A new stream, to which all channels
that were granted up to the counter are new, has ``-0`` after that. That is at most 48 bytes.
"""

import re
from typing import NamedTuple

#: Digits of a counter, at the most.
MAX_DIGITS = 14

_COUNTER = rf"(0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}})"
_FORM = re.compile(rf"([0-9a-f]{{1,16}})-{_COUNTER}", re.ASCII)
_PLACE_FORM = re.compile(rf"{_FORM.pattern}(?:-{_COUNTER}(-0)?)?", re.ASCII)


class Past(NamedTuple):
    """How far a stream has got the past of channels that are new to it."""

    upto: int
    """The counter up to which it has it."""
    of_all: bool = False
    """All its channels are new to it; otherwise the one that was granted with the next counter."""

    def __str__(self) -> str:
        return f"{self.upto}-0" if self.of_all else f"{self.upto}"


class EventID(NamedTuple):
    """A parsed id, of a message or of the place of a stream."""

    epoch: str
    counter: int
    past: Past | None = None
    """Only of a stream that still gets the past of channels."""

    def __str__(self) -> str:
        text = f"{self.epoch}-{self.counter}"
        return text if self.past is None else f"{text}-{self.past}"

    @classmethod
    def parse(cls, text: str) -> "EventID | None":
        """Read `text`, the last event ID of a stream; None if it is not an id."""
        match = _PLACE_FORM.fullmatch(text)
        if match is None:
            return None
        past = None if match[3] is None else Past(int(match[3]), match[4] is not None)
        return cls(match[1], int(match[2]), past)


def parse_counter(digits: bytes) -> int | None:
    """Read a counter that has come over Redis; None if it is not valid.

    A thousand digits would take the time of thousands of messages.
    """
    return int(digits) if len(digits) <= MAX_DIGITS and digits.isdigit() else None


def parse_id(payload: bytes) -> EventID | None:
    """Read an id that has come over Redis; None if it is not one."""
    text = payload.decode("ascii", "replace")
    return EventID.parse(text) if is_event_id(text) else None


#: An id that no Redis ever gave.
UNKNOWN = EventID("0", 0)


def position(epoch: bytes, counter: bytes) -> EventID:
    """Return the id of these parts, as Redis has them; one never given if they are none."""
    return parse_id(b"%s-%s" % (epoch, counter)) or UNKNOWN


def is_event_id(value: object) -> bool:
    """Whether `value` is the text of the id of a message."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None
