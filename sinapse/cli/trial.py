"""A subject, a channel and a stream of their own, for a command that tries something out."""

import secrets
from types import TracebackType
from typing import Self

from sinapse.listening import Message
from sinapse.listening.background import BackgroundStream
from sinapse.publisher import Publisher

#: Seconds that its token lives: it is gone even if the command is killed.
TOKEN_LIFETIME = 60

#: Seconds that its stream has to open, and a message to come.
ANSWER_TIMEOUT = 10.0


class Trial:
    """A stream at `url`, of a subject and with a channel that are made for this command alone."""

    def __init__(self, publisher: Publisher, url: str) -> None:
        self._publisher = publisher
        self._url = url
        #: The name of the subject, and of the channel.
        self.name = f"trial:{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        """Listen; raises as :class:`~sinapse.listening.background.BackgroundStream` does."""
        self._publisher.channels.add(self.name, self.name)
        token = self._publisher.tokens.generate(self.name, expires_in=TOKEN_LIFETIME)
        self._stream = BackgroundStream(self._url, token)
        try:
            self._stream.opened(ANSWER_TIMEOUT)
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
        """Leave nothing behind."""
        self._forget()

    def next(self, timeout: float = ANSWER_TIMEOUT) -> Message:
        """Return the next message; raises ``queue.Empty`` if none comes in `timeout` seconds."""
        return self._stream.next(timeout)

    def _forget(self) -> None:
        self._stream.close()
        self._publisher.tokens.clear(self.name)
        self._publisher.channels.clear(self.name)
