"""Blocks of deflate: each can be read when it is there, by itself and behind any others."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sinapse.framing import deflate
from sinapse.framing.deflate import GZIP_HEAD, TAIL, block, compressed, joined, stored, whole

#: What zlib makes small, and what it cannot.
BODIES = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(lambda part, times: part * times, st.binary(min_size=1), st.integers(1, 40_000)),
    st.integers(1, 200_000).map(
        lambda size: bytes(number * number >> 3 & 255 for number in range(size))
    ),
).map(lambda body: body[:200_000])
LEAST = st.integers(0, 2000)


def inflated(data: bytes) -> bytes:
    """Read blocks with nothing before them."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)


@given(st.lists(BODIES, max_size=6), LEAST)
@settings(deadline=None)
def test_each_body_can_be_read_as_soon_as_its_block_is_there(
    bodies: list[bytes], least: int
) -> None:
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)  # Of gzip.
    assert reader.decompress(GZIP_HEAD) == b""
    for body in bodies:
        assert reader.decompress(block(body, least)) == body
    assert not reader.eof


@given(BODIES, LEAST)
@example(b"x" * 0xFFFF, 1 << 30)
@example(b"x" * 0x10000, 1 << 30)
@settings(deadline=None)
def test_a_block_can_be_read_by_itself_and_its_end_is_known(body: bytes, least: int) -> None:
    made = block(body, least)
    assert inflated(made) == body
    assert made.endswith(TAIL)
    # RFC 7692: without the four bytes it is the payload of a message (§7.2.1).
    assert inflated(made.removesuffix(TAIL)) == body


@given(BODIES, LEAST)
@settings(deadline=None)
def test_a_block_is_hardly_larger_than_its_body(body: bytes, least: int) -> None:
    made = block(body, least)
    assert len(made) <= len(body) + 5 * (len(body) // 0xFFFF + 2)
    if len(body) < least:
        assert made == stored(body)


def test_what_gets_no_smaller_is_stored() -> None:
    noise = random.Random(1).randbytes(3000)
    assert block(noise, 0) == stored(noise)
    assert block(b"x" * 3000, 3000) == compressed(b"x" * 3000)
    assert len(block(b"x" * 3000, 3000)) < 50
    assert block(b"x" * 2999, 3000) == stored(b"x" * 2999)


@pytest.mark.parametrize("size", [1, 255, 256, 511, 512, 4096, 32_767, 32_768, 300_000])
def test_what_repeats_is_found_however_far_back_the_window_goes(size: int) -> None:
    """The window is as large as the body, and that of any reader at most."""
    half = random.Random(1).randbytes(min(size, 30_000) // 2)
    body = half + b"<" * (size - 2 * len(half)) + half
    assert inflated(compressed(body)) == body


@given(st.lists(BODIES, min_size=1, max_size=6), LEAST)
@settings(deadline=None)
def test_parts_are_joined(parts: list[bytes], least: int) -> None:
    made = joined(parts, least)
    assert inflated(made) == b"".join(parts)
    assert made.endswith(TAIL)


def test_a_large_part_is_compressed_once_whatever_is_around_it() -> None:
    large = b"a message for streams with several ids" * 200
    deflate._compress_or_find.cache_clear()
    made = [joined([b"id: %d\n" % number, large, b"%d" % number], 512) for number in range(20)]
    assert deflate._compress_or_find.cache_info().misses == 1
    assert all(block(large, 512) in each for each in made)


def test_what_is_small_is_compressed_together() -> None:
    assert len(joined([b"event: %d\n" % (number % 7) for number in range(500)], 512)) < 500


def test_a_whole_file_is_the_same_for_all_who_read_it() -> None:
    body = b'[{"data":"hello"}]\n' * 100
    assert gzip.decompress(whole(body)) == body
    assert whole(body) is whole(bytes(bytearray(body)))


def test_what_was_compressed_last_is_not_compressed_again() -> None:
    body = b"a message for streams of several framings" * 20
    assert compressed(body) is compressed(bytes(bytearray(body)))
