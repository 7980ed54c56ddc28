"""Which of several Redis has which channels and tokens.

Channels are spread by rendezvous hashing: each name goes where its hash with the number of the
Redis is highest. So an additional Redis takes its share from all others, and moves nothing else. A
Redis is identified by its place in the list, not by its address, so that it can move to a different
machine.

All of a channel is in one Redis: its messages, its entries in lists, and the control messages about
these. So messages, and the changes that decide who receives them, have one order. A token is in the
Redis of its subject (its home); publishers choose tokens such that both hashes agree.
"""

from hashlib import blake2b


def shard_of(name: bytes, count: int) -> int:
    """Return the number, from 0, of the one of `count` Redis that has `name`."""
    if count == 1:
        return 0
    return max(
        range(count),
        key=lambda number: blake2b(name, digest_size=8, salt=number.to_bytes(4, "big")).digest(),
    )
