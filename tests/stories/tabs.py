"""Browsers, as far as delivery is concerned: they come back with the last event ID that they have.

Each reads what has come in pieces of any size, and may be cut off within a message, which it then
has not got.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from sinapse.listening.parser import Parser

#: Characters of the longest message: more than there are in any story.
MAX_MESSAGE = 16 * 1024 * 1024


class Item(NamedTuple):
    """Something that has come."""

    event: str
    data: str
    identifier: str | None


class Response:
    """An HTTP response: its body in pieces, chunked, of a known length, or up to the end."""

    def __init__(self) -> None:
        self._received = b""
        self._length: int | None = None
        self.head: bytes | None = None
        self.has_ended = False

    @property
    def status(self) -> int | None:
        return None if self.head is None else int(self.head.split(maxsplit=2)[1])

    def feed(self, data: bytes) -> bytes:
        self._received += data
        if self.head is None:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return b""
            self.head, self._received = head, rest
            if length := re.search(rb"Content-Length: (\d+)", head):
                self._length = int(length[1])
            elif b" 204 " in head.partition(b"\r\n")[0]:
                self._length = 0
        body = b"".join(self._chunks() if b"chunked" in self.head else self._plain())
        if self._length is not None:
            self._length -= len(body)
            self.has_ended = self._length <= 0
        return body

    def _plain(self) -> Iterator[bytes]:
        body, self._received = self._received, b""
        yield body

    def _chunks(self) -> Iterator[bytes]:
        while match := re.match(rb"([0-9a-f]+)\r\n", self._received):
            size = int(match[1], 16)
            if len(self._received) < match.end() + size + 2:
                return
            yield self._received[match.end() : match.end() + size]
            self._received = self._received[match.end() + size + 2 :]
            self.has_ended = size == 0


class Browser:
    """One connection; `kind` is ``sse``, ``http10``, ``ws`` or ``poll``."""

    def __init__(
        self, kind: str, port: int, token: str, last: str | None, name: str | None
    ) -> None:
        self.kind = kind
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.response = Response()
        self._parser = Parser("", MAX_MESSAGE)
        self._body = b""
        version = "1.0" if kind == "http10" else "1.1"
        stream = f"&stream={name}" if name else ""
        lines = [f"GET /?access_token={token}{stream} HTTP/{version}", "Host: localhost"]
        if kind == "ws":
            if last is not None:
                lines[0] = lines[0].replace(" HTTP", f"&lastEventId={last} HTTP")
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        else:
            accept = "application/json" if kind == "poll" else "text/event-stream"
            lines += [f"Accept: {accept}"]
            lines += [] if last is None else [f"Last-Event-ID: {last}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.socket.setblocking(False)

    @property
    def status(self) -> int | None:
        return self.response.status

    def read(self, most: int) -> tuple[list[Item], bool]:
        """Return what has come, of at most so many bytes, and whether that is the end."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        body = self.response.feed(data) if data else b""
        items: list[Item] = []
        if self.status == 101:
            items = list(self._frames(body))
        elif self.status == 200 and self.kind == "poll":
            self._body += body
            if self.response.has_ended:
                items = [_item(each) for each in json.loads(self._body)]
        elif self.status == 200:
            items = [
                Item(message.event or "message", message.data, self._parser.last_event_id or None)
                for message in self._parser.feed(body)
            ]
        return items, not data or self.response.has_ended or self._is_closed

    _is_closed = False

    def _frames(self, body: bytes) -> Iterator[Item]:
        self._body += body
        while len(self._body) >= 2:
            opcode, size, start = self._body[0] & 15, self._body[1], 2
            if size == 126:
                size, start = int.from_bytes(self._body[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self._body[2:10], "big"), 10
            if len(self._body) < start + size or (start > 2 and len(self._body) < start):
                return
            payload, self._body = self._body[start : start + size], self._body[start + size :]
            if opcode == 1:
                yield _item(json.loads(payload))
            elif opcode == 8:
                self._is_closed = True

    def close(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def _item(fields: dict[str, Any]) -> Item:
    if fields.keys() == {"id"}:
        return Item("position", "", fields["id"])
    return Item(fields.get("event", "message"), fields["data"], fields.get("id"))
