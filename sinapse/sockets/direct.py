"""Frames written to many sockets, by their descriptors: nothing else of a stream is touched.

A stream that is *held* has bytes that wait, or ends: what is sent to it goes through its object.
"""

import os
from array import array
from collections.abc import Mapping, Sequence
from typing import Protocol

_write = os.write

#: The descriptors of streams that are held. A descriptor belongs to the process, and so does this.
held: set[int] = set()


class Stream(Protocol):
    """An open stream over a plain socket."""

    def send(self, frame: bytes) -> None:
        """Write `frame`, now or as soon as the stream has caught up."""

    def wrote(self, frame: bytes, size: int) -> None:
        """Take the rest of a frame of which so many bytes are written."""


def write_all(frame: bytes, streams: Mapping[int, Stream]) -> None:
    """Write a frame to all of the streams, which stand by their descriptors."""
    size = len(frame)
    # One after the other they are loaded into the caches faster than between two writes, of which
    # each drives them out again: a tenth of a delivery.
    for descriptor in array("i", streams):
        if descriptor in held:
            streams[descriptor].send(frame)
            continue
        try:
            written = _write(descriptor, frame)
        except OSError:  # Nothing is written: the stream tries it again, and knows what to do.
            streams[descriptor].send(frame)
            continue
        if written != size:
            streams[descriptor].wrote(frame, written)


def write_each(
    frames: Mapping[int, Sequence[bytes]], streams: Sequence[Mapping[int, Stream]]
) -> None:
    """Write to each descriptor its frames, as one; its stream is in one of `streams`."""
    known: dict[int, Stream] = {}

    def stream(descriptor: int) -> Stream:
        if not known:  # Mostly nobody asks.
            for each in streams:
                known.update(each)
        return known[descriptor]

    for descriptor, parts in frames.items():
        frame = b"".join(parts)
        if descriptor in held:
            stream(descriptor).send(frame)
            continue
        try:
            written = _write(descriptor, frame)
        except OSError:  # As above.
            stream(descriptor).send(frame)
            continue
        if written != len(frame):
            stream(descriptor).wrote(frame, written)
