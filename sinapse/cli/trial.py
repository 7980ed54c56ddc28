"""A subject, a channel and a stream of their own, for a command that tries something out."""

import secrets
from types import TracebackType
from typing import Self

from sinapse.client import Received, ThreadedEventSource
from sinapse.publisher import Publisher

#: Seconds that its token lives: it is gone even if the command is killed.
TOKEN_LIFETIME = 60

#: Seconds that the stream has to end after its channel was removed; then it is left alone.
CLOSE_TIMEOUT = 2


class Trial:
    """A stream at `url`, of a subject and with a channel that are made for this command alone."""

    def __init__(self, publisher: Publisher, url: str) -> None:
        self._publisher = publisher
        self._url = url
        #: That of the subject, and of the channel.
        self.name = f"trial:{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        """Listen; raises as :class:`~sinapse.client.EventSource`, or ``queue.Empty``."""
        self._publisher.channels.add(self.name, self.name)
        token = self._publisher.tokens.generate(self.name, expires_in=TOKEN_LIFETIME)
        self._stream = ThreadedEventSource(self._url, token)
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

    def next(self, timeout: float = 10) -> Received:
        """Return the next message; raises ``queue.Empty`` if none comes in `timeout` seconds."""
        return self._stream.next(timeout)

    def _forget(self) -> None:
        self._stream.close()  # So that it does not come back.
        self._publisher.tokens.clear(self.name)
        self._publisher.channels.clear(self.name)
        self._stream.close(CLOSE_TIMEOUT)
