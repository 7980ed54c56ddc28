"""The bytes that wait to be written to the streams of a node, and their limit.

Bytes are counted for each stream, as if no other held them. Streams share the frames that they wait
for, so the memory is less; but what one read of a slow client takes is copied.
"""

from typing import Protocol

from sinapse.errors import CloseReason

#: The share of the limit that is left after room was made, so that not every frame closes a stream.
RELIEVED_SHARE = 0.9


class Stream(Protocol):
    """A stream that can be behind."""

    def close(self, reason: CloseReason) -> None:
        """End it; it calls :meth:`Backlog.forget`."""


class Backlog:
    """The streams that are behind, and by how much; `limit` is in bytes, 0 for any number."""

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
        """Note that `size` more bytes wait for `stream`; over the limit, the slowest are ended."""
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
