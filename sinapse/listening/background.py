"""A stream that is read in a thread, for those who wait with a timeout."""

import queue
import threading
from types import TracebackType
from typing import Self

from sinapse.errors import StreamEnded
from sinapse.listening.parser import Message
from sinapse.listening.stream import listen

#: Seconds for the thread to end: it does so at once, unless it is about to connect.
END_TIMEOUT = 5.0


class BackgroundStream:
    """The messages for `token` at `url`, which are read as they come."""

    def __init__(self, url: str, token: str) -> None:
        self._stream = listen(url, token=token)
        self._arrived: queue.SimpleQueue[Message | Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="sinapse stream", daemon=True)
        self._thread.start()

    def opened(self, timeout: float) -> Self:
        """Wait until the stream is open; raises as :meth:`next` does."""
        self._take(timeout)
        return self

    def next(self, timeout: float) -> Message:
        """Return the next message of a stream that has been :meth:`opened`.

        Raises ``queue.Empty`` if none comes within `timeout` seconds,
        :class:`~sinapse.errors.StreamEnded`, or ``ConnectionError``.
        """
        message = self._take(timeout)
        assert message is not None  # noqa: S101  # It opens once.
        return message

    def _take(self, timeout: float) -> Message | None:
        arrived = self._arrived.get(timeout=timeout)
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    def close(self) -> None:
        """Close the connection, and end the thread."""
        self._stream.close()
        self._thread.join(END_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        try:
            with self._stream as stream:
                self._arrived.put(None)
                for message in stream:
                    self._arrived.put(message)
        except (StreamEnded, ConnectionError) as error:
            self._arrived.put(error)
