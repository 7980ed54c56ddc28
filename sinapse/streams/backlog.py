"""What waits to be written to the streams of a node, and the most that may.

Bytes are counted for each stream, as if it alone held them. Frames are shared by the streams that
wait for them, so memory is less than that; but what one read of a slow client takes is copied.
"""

from typing import Protocol

from sinapse.errors import CloseReason

#: What is left of the limit after room was made: not one stream is closed for each frame.
RELIEVED_SHARE = 0.9


class Stream(Protocol):
    """What is needed of a stream that is behind."""

    def close(self, reason: CloseReason) -> None:
        """End it; it calls :meth:`Backlog.forget`."""


class Backlog:
    """The streams that are behind, and with how much; `limit` is in bytes, 0 is any number."""

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._by_stream: dict[Stream, int] = {}
        #: Bytes that wait, for all streams.
        self.bytes = 0

    @property
    def streams(self) -> int:
        """How many streams are behind."""
        return len(self._by_stream)

    def add(self, stream: Stream, size: int) -> None:
        """Note that `size` bytes more wait for `stream`; too many in all end the slowest ones."""
        self._by_stream[stream] = self._by_stream.get(stream, 0) + size
        self.bytes += size
        if 0 < self._limit < self.bytes:
            self._make_room()

    def take(self, stream: Stream, size: int) -> None:
        """Note that `size` of the bytes that waited for `stream` have been written."""
        if stream in self._by_stream:
            self._by_stream[stream] -= size
            self.bytes -= size

    def forget(self, stream: Stream) -> None:
        """Note that nothing waits for `stream` any more."""
        self.bytes -= self._by_stream.pop(stream, 0)

    def _make_room(self) -> None:
        for stream in sorted(self._by_stream, key=self._by_stream.__getitem__, reverse=True):
            if self.bytes <= RELIEVED_SHARE * self._limit:
                break
            stream.close(CloseReason.TOO_MUCH_PENDING)
            self.forget(stream)
