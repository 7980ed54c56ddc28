"""The bytes of an event stream, in any pieces, become messages (WHATWG HTML §9.2.6)."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

#: What ends a line, and nothing else does: ``str.splitlines`` knows more.
_LINE_END = re.compile(r"\r\n|\r|\n")


class Message(NamedTuple):
    """A message: its data, its event type and its id, if it has them.

    `by` is None for a message of an application, and ``server`` for an event of the server.
    """

    data: str
    event: str | None = None
    id: str | None = None
    by: str | None = None

    def json(self) -> Any:
        """Return the data, read as JSON; raises ``ValueError`` if that is not what it is."""
        return json.loads(self.data)


class MessageTooLong(Exception):
    """A message has more characters than this reader takes."""


class Parser:
    """Takes the bytes of one connection as they come. What its end leaves incomplete is dropped.

    `last_event_id` is the one that the connection began with: it counts until there is another.
    A message of more than `max_message` characters, line breaks included, is not taken.
    """

    def __init__(self, last_event_id: str, max_message: int) -> None:
        self.last_event_id = last_event_id
        """The id to resume after, as of the last message that was handed out."""
        self.retry: float | None = None
        """Seconds before coming back, once the stream has said how many."""
        self._max_message = max_message
        # "UTF-8 decode": one byte order mark is dropped, errors become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line: list[str] = []
        self._line_size = 0
        self._after_cr = False
        # The buffer of ids outlives a message.
        self._id = last_event_id
        self._begin()

    def _begin(self) -> None:
        self._data: list[str] = []
        self._data_size = 0
        self._event = ""
        self._own_id: str | None = None
        self._by: str | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that the next bytes complete.

        Raises :class:`MessageTooLong`, after the messages before that one.
        """
        text = self._decoder.decode(data)
        if not text:
            return
        # A CR ends a line without waiting for what follows; a LF after it is part of the same end.
        if self._after_cr and text[0] == "\n":
            text = text[1:]
        self._after_cr = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        for each in lines:
            line = each
            if self._line:
                line = "".join([*self._line, each])
                self._line, self._line_size = [], 0
            if not line:
                yield from self._end()
            else:
                self._take(line)
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
            self._check_size()

    def _take(self, line: str) -> None:
        """Take a line of a message."""
        name, _, value = line.partition(":")  # What has no name is a comment.
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_size += len(value) + 1
            self._check_size()
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = self._own_id = value
        elif name == "by":
            self._by = value
        elif name == "retry" and value.isascii() and value.isdigit():
            # Milliseconds. Of thousands of digits, float makes infinity, where int raises.
            self.retry = float(value) / 1000

    def _end(self) -> Iterator[Message]:
        """Hand out the message that an empty line ends, if it has data."""
        self.last_event_id = self._id
        data, event, own_id, by = self._data, self._event, self._own_id, self._by
        self._begin()
        if data:
            yield Message("\n".join(data), event or None, own_id, by)

    def _check_size(self) -> None:
        if self._data_size + self._line_size > self._max_message:
            raise MessageTooLong
