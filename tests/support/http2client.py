"""A client of HTTP/2, by ``h2``: it makes room, or does not, as it is told."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from tests.support import EVENT_TIMEOUT

#: Bytes of room that a client makes at first: enough for everything.
WINDOW = 2**30


class Answer:
    """What has come in answer to one request."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.body = b""
        self.is_ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields[":status"])


class Peer:
    """The client's side of a connection, without one; see :meth:`say`."""

    def __init__(self, window: int, shared: int) -> None:
        """Make this much room for each answer, and for all together."""
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.answers: dict[int, Answer] = {}
        #: Why the server has said goodbye.
        self.goodbye: ErrorCodes | int | None = None
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        if shared > 65535:
            self.h2.increment_flow_control_window(shared - 65535)

    def say(self, data: bytes) -> None:
        """Hand `data` to the server."""
        raise NotImplementedError

    def flush(self) -> None:
        """Say what is to be said."""
        if data := self.h2.data_to_send():
            self.say(data)

    def hear(self, data: bytes) -> None:
        """Take what the server says."""
        for event in self.h2.receive_data(data):
            match event:
                case ResponseReceived():
                    fields = {str(name): str(value) for name, value in event.headers}
                    self.answers[event.stream_id].fields = fields
                case DataReceived():
                    self.answers[event.stream_id].body += event.data
                case StreamEnded():
                    self.answers[event.stream_id].is_ended = True
                case StreamReset():
                    self.answers[event.stream_id].reset = event.error_code
                case ConnectionTerminated():
                    self.goodbye = event.error_code

    def request(
        self,
        path: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        body: bytes | None = None,
        is_all: bool = True,
    ) -> Answer:
        """Make a request; unless it `is_all`, more of its body is to follow."""
        number = self.h2.get_next_available_stream_id()
        head = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "127.0.0.1"),
            (":path", path),
            *fields,
        ]
        self.h2.send_headers(number, head, end_stream=is_all and body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=is_all)
        answer = self.answers[number] = Answer()
        self.flush()
        return answer

    def number(self, answer: Answer) -> int:
        return next(number for number, each in self.answers.items() if each is answer)

    def make_room(self, size: int, answer: Answer | None = None) -> None:
        """Make more room for one answer, or for all together."""
        number = None if answer is None else self.number(answer)
        self.h2.increment_flow_control_window(size, number)
        self.flush()

    def cancel(self, answer: Answer) -> None:
        self.h2.reset_stream(self.number(answer), ErrorCodes.CANCEL)
        self.flush()


class Client(Peer):
    """A client with a real connection."""

    def __init__(
        self, port: int, context: ssl.SSLContext, *, window: int = WINDOW, shared: int = WINDOW
    ) -> None:
        super().__init__(window, shared)
        plain = socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.is_closed = False
        self.flush()

    def say(self, data: bytes) -> None:
        # The server may have closed; why is still to be read.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.socket.sendall(data)

    def read(self) -> None:
        """Take what comes next."""
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionError, ssl.SSLEOFError):
            data = b""
        self.is_closed = not data
        self.hear(data)
        self.flush()

    def read_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert not self.is_closed, "the connection has ended"
            self.read()

    def whole(self, answer: Answer) -> Answer:
        """Wait for the end of an answer."""
        self.read_until(lambda: answer.is_ended or answer.reset is not None)
        return answer

    def wait_for(self, text: str, *answers: Answer) -> None:
        self.read_until(lambda: all(text.encode() in answer.body for answer in answers))

    def wait_for_end(self) -> None:
        while not self.is_closed:
            self.read()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
