"""What waits to be written to the streams of a node, and the most that may.

Bytes are counted for each stream, as if it alone held them. Frames are shared by the streams that
wait for them, so memory is less than that; but what one read of a slow client takes is copied.
"""

from typing import Protocol

from sinapse.errors import CloseReason

#: What is left of the limit after room was made: not one stream is closed for each frame.
RELIEF = 0.9


class Stream(Protocol):
    """What is needed of a stream that is behind."""

    def close(self, reason: CloseReason) -> None:
        """End it; it calls :meth:`Pending.forget`."""


class Pending:
    """The streams that are behind, and with how much; `limit` is in bytes, 0 is any number."""

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._bytes: dict[Stream, int] = {}
        #: Bytes that wait, for all streams.
        self.total = 0

    @property
    def streams(self) -> int:
        """How many streams are behind."""
        return len(self._bytes)

    def add(self, stream: Stream, size: int) -> None:
        """Note that `size` bytes more wait for `stream`; too many in all end the slowest ones."""
        self._bytes[stream] = self._bytes.get(stream, 0) + size
        self.total += size
        if 0 < self._limit < self.total:
            self._make_room()

    def take(self, stream: Stream, size: int) -> None:
        """Note that `size` of the bytes that waited for `stream` have been written."""
        if stream in self._bytes:
            self._bytes[stream] -= size
            self.total -= size

    def forget(self, stream: Stream) -> None:
        """Note that nothing waits for `stream` any more."""
        self.total -= self._bytes.pop(stream, 0)

    def _make_room(self) -> None:
        for stream in sorted(self._bytes, key=self._bytes.__getitem__, reverse=True):
            if self.total <= RELIEF * self._limit:
                break
            stream.close(CloseReason.TOO_MUCH_PENDING)
            self.forget(stream)
