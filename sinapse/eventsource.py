"""An event stream, read line by line (WHATWG HTML §9.2.6), that comes back when it breaks off.

For commands. It takes what the daemon sends, not all that a browser has to understand.
"""

import http.client
import threading
from collections.abc import Iterator
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

#: Seconds without a byte after which a stream is dead: four keep-alives of the daemon.
SILENCE = 60

#: Seconds before coming back, until the daemon says something else.
RETRY = 5.0


class Received(NamedTuple):
    """A message: its data, its event type and its id, if it has them.

    `by` is ``server`` for what is the server's own, and None for what an application has published.
    """

    data: str
    event: str | None
    id: str | None
    by: str | None = None


class EventSource:
    """What somebody with `token` hears at `url`, for ever, from `last_event_id` on.

    Iterating raises ``HTTPError`` if the daemon refuses, and ``OSError`` if it was never reached.
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

    def __iter__(self) -> Iterator[Received]:
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
        with urlopen(Request(self._url, headers=fields), timeout=SILENCE) as answer:  # noqa: S310
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
