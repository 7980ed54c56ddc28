"""The frames that wait for one stream, and how much of them is written at once."""

from collections import deque

#: Bytes handed to the transport at once while a stream is behind: Twisted's own SEND_LIMIT.
#: Joining a whole queue would copy it.
WRITE_SIZE = 128 * 1024


class PendingFrames:
    """A queue of frames, which many streams share; a stream that is live has none."""

    __slots__ = ("bytes", "frames")

    def __init__(self) -> None:
        self.frames: deque[bytes | memoryview] = deque()
        #: Bytes that are not written yet; those that the transport has taken last may be of them.
        self.bytes = 0

    def add(self, frame: bytes | memoryview) -> None:
        """Queue `frame` behind the others."""
        self.frames.append(frame)
        self.bytes += len(frame)

    def take(self) -> bytes:
        """Take as many frames as make one write, or a part of a large one.

        The transport copies this data; the rest of a frame stays shared by all streams.
        """
        frames = self.frames
        frame = frames.popleft()
        if len(frame) > WRITE_SIZE:
            view = memoryview(frame)
            frames.appendleft(view[WRITE_SIZE:])
            return bytes(view[:WRITE_SIZE])
        taken = [frame]
        size = len(frame)
        while frames and size + len(frames[0]) <= WRITE_SIZE:
            taken.append(frames.popleft())
            size += len(taken[-1])
        return b"".join(taken)
