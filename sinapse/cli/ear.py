"""Somebody who listens, for as long as a command has something to try out."""

import queue
import secrets
import threading
from types import TracebackType
from typing import Self
from urllib.error import HTTPError

from sinapse.client import EventSource, Received
from sinapse.publisher import Publisher

#: Seconds that its token lives: it is gone even if the command is killed.
LIFETIME = 60

#: Seconds for the stream to end when nothing may be heard any more; after that it is left alone.
GOING = 2


class Ear:
    """A stream at `url` of a subject that nobody else is, with a channel that nobody else has."""

    def __init__(self, publisher: Publisher, url: str) -> None:
        self._publisher = publisher
        self._url = url
        self.name = f"trial:{secrets.token_hex(8)}"
        self._heard: queue.SimpleQueue[Received | Exception] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        """Listen; raises as :class:`~sinapse.client.EventSource`, or ``queue.Empty``."""
        self._publisher.channels.add(self.name, self.name)
        token = self._publisher.tokens.generate(self.name, expires_in=LIFETIME)
        self._source = EventSource(self._url, token)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        try:
            self.next()
        except BaseException:
            self._forget()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind: without channels the stream ends."""
        self._forget()

    def next(self, patience: float = 10) -> Received:
        """Return the next message; raises ``queue.Empty`` if none comes in `patience` seconds."""
        heard = self._heard.get(timeout=patience)
        if isinstance(heard, Exception):
            raise heard
        return heard

    def _listen(self) -> None:
        try:
            for message in self._source:
                self._heard.put(message)
        except (OSError, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()
            self._heard.put(error)

    def _forget(self) -> None:
        self._source.close()
        self._publisher.tokens.clear(self.name)
        self._publisher.channels.clear(self.name)
        self._thread.join(GOING)
