"""Blocks of deflate (RFC 1951) that stand for themselves: compressed once, sent to all.

A block may refer to the 32 KiB before it, whatever they are, and begin in the midst of a byte.
These do neither: each has a compressor of its own, and ends with a byte. So the same bytes go to
streams that have got different ones before; a stream needs no compressor; a client can read each
block as soon as it is there; and the size of a message tells nothing of another one.
"""

import gzip
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

#: How hard zlib tries, of 9. From 4 on it goes back for a better match: at 6, JSON and HTML are 3
#: to 9 % smaller, in up to twice the time; at 1 they are up to 8 % larger, in four fifths of it.
LEVEL = 3

#: What a gzip stream begins with (RFC 1952 §2.3): deflate, no flags, no time, an unknown system.
GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"

#: What every block ends with, behind a byte that has been filled up: an empty one. Readers give
#: away there what they have; that of Go does so nowhere else. RFC 7692 leaves these four bytes out
#: (§7.2.1).
TAIL = b"\0\0\xff\xff"

#: Bytes of a stored block (RFC 1951 §3.2.4), and its head: not the last, stored, length twice.
_MAX_STORED = 0xFFFF
_HEAD = struct.Struct("<BHH")

#: The window, as a power of two: zlib has no smaller one, and no gzip stream a larger one.
_WINDOWS = (9, 15)

#: Which memory zlib takes for its tables, and how much larger the power of two is that fits in.
_MEMORIES = (1, 8)
_MEMORY_SHIFT = 6

#: What was compressed last is kept: streams of other framings, and those that resume at the same
#: place, need the same. To find it again takes a fiftieth of the time. So many, of at most so many
#: bytes, to bound the memory.
_KEPT = 8
_MAX_KEPT = 128 * 1024


def stored(body: bytes) -> bytes:
    """Return `body` as it is, in blocks of which the last is empty."""
    parts = [body[start : start + _MAX_STORED] for start in range(0, len(body), _MAX_STORED)]
    blocks = [_HEAD.pack(0, len(part), len(part) ^ _MAX_STORED) + part for part in (*parts, b"")]
    return b"".join(blocks)


def compressed(body: bytes) -> bytes:
    """Return `body` compressed."""
    return _compress_or_find(body) if len(body) <= _MAX_KEPT else _compress(body)


def _compress(body: bytes) -> bytes:
    """Return `body` compressed.

    The compressor is as large as `body` needs: that of 256 KiB which is usual takes 70 µs to make,
    when 1 KB takes 12 altogether.
    """
    size = len(body).bit_length()
    window = _between(size, *_WINDOWS)
    memory = _between(size - _MEMORY_SHIFT, *_MEMORIES)
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -window, memory)
    return compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _between(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))


def block(body: bytes, least: int) -> bytes:
    """Return `body` compressed if it has `least` bytes and gets smaller, else stored."""
    if len(body) >= least and len(smaller := compressed(body)) < len(body):
        return smaller
    return stored(body)


def joined(parts: Sequence[bytes], least: int) -> bytes:
    """Return the blocks of parts: those of `least` bytes have their own, which others can share.

    What is between these has one block together.
    """
    blocks: list[bytes] = []
    between: list[bytes] = []
    for part in parts:
        if len(part) < least:
            between.append(part)
            continue
        if between:
            blocks.append(block(b"".join(between), least))
            between = []
        blocks.append(block(part, least))
    if between:
        blocks.append(block(b"".join(between), least))
    return b"".join(blocks)


def whole(body: bytes) -> bytes:
    """Return `body` as a whole gzip file, with its trailer."""
    return _zip_or_find(body) if len(body) <= _MAX_KEPT else _zip(body)


def _zip(body: bytes) -> bytes:
    return gzip.compress(body, LEVEL, mtime=0)


_compress_or_find = lru_cache(maxsize=_KEPT)(_compress)
_zip_or_find = lru_cache(maxsize=_KEPT)(_zip)
