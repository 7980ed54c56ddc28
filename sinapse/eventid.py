"""Ids of retained messages: one total order over all channels of a Redis.

An id is ``<epoch>-<counter>``: lower-case hexadecimal digits, a hyphen, decimal digits. The counter
goes up by one from message to message, across epochs too; the epoch tells ids that were given by a
Redis whose data were lost afterwards from those that are still known. At most 31 bytes, and only
characters that may stand in any header field (the browser sends it as ``Last-Event-ID``).
"""

import re
from typing import NamedTuple

_FORM = re.compile(r"([0-9a-f]{1,16})-(0|[1-9][0-9]{0,13})", re.ASCII)


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


def is_event_id(value: object) -> bool:
    """Whether `value` is the text of an id."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None
