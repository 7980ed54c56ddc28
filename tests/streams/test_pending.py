"""What waits for a stream: in which pieces it is written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.streams.pending import WRITE_SIZE, PendingFrames

SIZES = st.one_of(st.integers(1, 1000), st.integers(1, 3 * WRITE_SIZE))


def waiting(*frames: bytes) -> PendingFrames:
    pending = PendingFrames()
    for frame in frames:
        pending.add(frame)
    return pending


@given(st.lists(SIZES, min_size=1, max_size=12))
def test_writes_are_bounded_and_give_every_byte_in_its_order(sizes: list[int]) -> None:
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    pending = waiting(*frames)
    assert pending.bytes == sum(sizes)
    writes = []
    while pending.frames:
        writes.append(pending.take())
    assert b"".join(writes) == b"".join(frames)
    assert all(0 < len(write) <= WRITE_SIZE for write in writes)


def test_small_frames_are_one_write() -> None:
    pending = waiting(b"a" * 100, b"b" * 100, b"c" * WRITE_SIZE)
    assert pending.take() == b"a" * 100 + b"b" * 100
    assert pending.take() == b"c" * WRITE_SIZE


def test_the_rest_of_a_large_frame_is_not_copied() -> None:
    frame = b"x" * (WRITE_SIZE + 1)
    pending = waiting(frame)
    pending.take()
    rest = pending.frames[0]
    assert isinstance(rest, memoryview)
    assert rest.obj is frame
