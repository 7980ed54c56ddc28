"""Which of several Redis has what.

Channels are spread by rendezvous hashing: each name goes where its hash with the number of the
Redis is highest. So one Redis more takes its part from all others, and moves nothing else. A Redis
is known by its place in the list, not by its address, so that it can move to another machine.

A channel is all in one place: its messages, the lists' entries that grant it, and the control
messages about these; so what decides who receives a message is in one order with the message. A
token is where its subject is (its home); publishers choose tokens such that both hashes agree.
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
