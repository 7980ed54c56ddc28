"""An event stream, read line by line (WHATWG HTML §9.2.6), that comes back when it breaks off.

For commands. It takes what the daemon sends, not all that a browser has to understand.
"""

import http.client
import json
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

#: Seconds without a byte after which a stream is dead: four keep-alives of the daemon.
SILENCE_TIMEOUT = 60

#: Seconds before coming back, until the daemon says something else.
RETRY = 5.0

#: Event types by which the daemon says how a stream stands.
ABOUT_THE_STREAM = ("authentication", "position")


class Received(NamedTuple):
    """A message: its data, its event type and its id, if it has them.

    `by` is ``server`` for an event of the server, and None for a message of an application.
    """

    data: str
    event: str | None
    id: str | None
    by: str | None = None


class EventSource:
    """The messages for `token` at `url`, for ever, from `last_event_id` on.

    Iterating raises ``HTTPError`` if the daemon refuses, and ``OSError`` if it never answered. The
    token is sent to `url` only: a redirect is not followed.
    """

    def __init__(self, url: str, token: str, last_event_id: str = "") -> None:
        self._url = url
        self._token = token
        self._last_id = last_event_id
        self._retry = RETRY
        self._opened = False
        self._closed = threading.Event()

    def close(self) -> None:
        """Come back no more, from any thread: the stream that is open is read to its end."""
        self._closed.set()

    def __iter__(self) -> Generator[Received, None, None]:
        while not self._closed.is_set():
            try:
                yield from self._once()
            except HTTPError:
                raise
            except (OSError, http.client.HTTPException):
                if not self._opened:
                    raise
            self._closed.wait(self._retry)

    def _once(self) -> Iterator[Received]:
        fields = {"Accept": "text/event-stream", "Authorization": f"Bearer {self._token}"}
        if self._last_id:
            fields["Last-Event-ID"] = self._last_id
        asked = Request(self._url, headers=fields)  # noqa: S310
        with build_opener(_NoRedirect).open(asked, timeout=SILENCE_TIMEOUT) as answer:
            self._opened = True
            data: list[str] = []
            event = identity = None
            # The first event is the server's own without saying so, as it was in the beginning.
            by: str | None = "server"
            for line in answer:
                name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
                value = value.removeprefix(" ")
                if name == "data":
                    data.append(value)
                elif name == "event":
                    event = value
                elif name == "id":
                    identity = value
                elif name == "by":
                    by = value
                elif name == "retry" and value.isdigit():
                    self._retry = int(value) / 1000
                elif not name and not value and line.strip() == b"":
                    self._last_id = self._last_id if identity is None else identity
                    if data:
                        yield Received("\n".join(data), event, identity, by)
                        by = None
                    data, event, identity = [], None, None


class ThreadedEventSource:
    """An event stream that is read in a thread, so that a wait can have a timeout."""

    def __init__(self, url: str, token: str) -> None:
        self._source = EventSource(url, token)
        self._arrived: queue.SimpleQueue[Received | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="sinapse stream", daemon=True)
        self._thread.start()

    def next(self, timeout: float) -> Received:
        """Return the next message.

        Raises ``queue.Empty`` if none comes within `timeout` seconds, and as :class:`EventSource`.
        """
        arrived = self._arrived.get(timeout=timeout)
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    def close(self, timeout: float = 0) -> None:
        """Read no more; wait so many seconds for the stream to end, after which it is left alone.

        It ends when its token, or its last channel, is gone.
        """
        self._source.close()
        self._thread.join(timeout)

    def _read(self) -> None:
        try:
            for message in self._source:
                self._arrived.put(message)
        except (OSError, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()
            self._arrived.put(error)


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: urllib would send the token along, also to a different host."""

    def redirect_request(self, *arguments: Any) -> NoReturn:
        """Say where the redirect leads."""
        _, answer, status, *_, location = arguments
        answer.close()
        raise URLError(f"answers {status} and leads to {printable(location)}; ask there")


def printable(text: str) -> str:
    """Return `text` without what a terminal takes for a command, as an escape sequence is."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def printable_json(value: object) -> str:
    """Return `value` as one line of JSON, of which the same is true."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
