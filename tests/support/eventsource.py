"""A strict parser of event streams: WHATWG HTML §9.2.6, each paragraph of it and nothing else.

The clients that the tests use besides each have a quirk or two; this one is what "right" means.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple


class Event(NamedTuple):
    """What a browser would dispatch."""

    type: str
    data: str
    last_event_id: str = ""


class EventSourceParser:
    """Takes the bytes of a stream in any pieces, and returns the events that each completes.

    What the end of the stream leaves incomplete is dropped, as the standard wants.
    """

    def __init__(self) -> None:
        self.reconnection_time: int | None = None
        """Milliseconds, once the stream has set it."""
        self.comments: list[str] = []
        """Browsers ignore them; tests of the keep-alive do not."""
        self.last_event_id = ""
        """What a browser would send when it comes back."""
        self._id = ""
        # "UTF-8 decode": one byte order mark is dropped, errors become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line = ""
        self._after_cr = False
        self._type = ""
        self._data = ""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes."""
        events = []
        for character in self._decoder.decode(data):
            # CR LF is one end of a line, and a CR ends it without waiting for what follows.
            after_cr, self._after_cr = self._after_cr, character == "\r"
            if character == "\n" and after_cr:
                continue
            if character in "\r\n":
                line, self._line = self._line, ""
                event = self._process(line)
                if event is not None:
                    events.append(event)
            else:
                self._line += character
        return events

    def _process(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        if colon and not name:
            self.comments.append(value)
        else:
            self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.reconnection_time = int(value)

    def _dispatch(self) -> Event | None:
        type_, data = self._type, self._data
        self._type = self._data = ""
        self.last_event_id = self._id
        if not data:
            return None
        return Event(type_ or "message", data.removesuffix("\n"), self.last_event_id)


def parse(stream: bytes) -> list[Event]:
    """Return the events of a whole stream."""
    return EventSourceParser().feed(stream)
