"""Which of several Redis has which channels and tokens.

Channels are spread by rendezvous hashing: each goes where its hash with the name of the Redis is
highest. So the order of the list does not matter, and an additional Redis takes its share from all
others, and moves nothing else. A Redis is identified by its name, not by its address, so that it
can move to a different machine. One without a name has its place in the list as that, from 0.

All of a channel is in one Redis: its messages, its entries in lists, and the control messages about
these. So messages, and the changes that decide who receives them, have one order. A token is in the
Redis of its subject (its home); publishers choose tokens such that both hashes agree.
"""

import re
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from typing import Final

#: A number, or a name with a letter in it. What is hashed with a number begins with a zero byte,
#: and with a name with a letter or digit: so no two are the same. BLAKE2b takes 16 bytes for it.
#: Letters and digits may stand in every header field and URL as they are.
_NAME = re.compile(r"0|[1-9][0-9]{0,5}|(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,16}")


class Shards:
    """The Redis of a list, by their `names`, which are all different."""

    __slots__ = ("_salts", "are_named", "names")

    def __init__(self, names: Iterable[str]) -> None:
        self.names: Final = tuple(names)
        #: Whether they have other names than their places in the list.
        self.are_named: Final = self.names != tuple(map(str, range(len(self.names))))
        # Sorted, so that even of equal hashes the same one counts in any order of the list.
        self._salts = sorted((_salt(name), number) for number, name in enumerate(self.names))

    @property
    def are_spread(self) -> bool:
        """Whether it matters which of them has what: there are several, or ids say the name."""
        return len(self.names) > 1 or self.are_named

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(self.names)}>"

    def of(self, name: bytes) -> int:
        """Return the place in the list, from 0, of the one that has `name`."""
        if len(self._salts) == 1:
            return 0
        found, highest = 0, b""
        for salt, number in self._salts:
            # The loop is that of max(), which would call a function for each.
            digest = blake2b(name, digest_size=8, salt=salt).digest()
            if digest > highest:
                found, highest = number, digest
        return found


@cache
def numbered(count: int) -> Shards:
    """Return `count` Redis without names."""
    return Shards(map(str, range(count)))


def shard_of(name: bytes, count: int) -> int:
    """Return the number, from 0, of the one of `count` Redis without names that has `name`."""
    return numbered(count).of(name)


def name_fault(name: str) -> str | None:
    """Return why a Redis cannot be called `name`; None if it can."""
    if _NAME.fullmatch(name):
        return None
    return "the name of a Redis is 1 to 16 letters and digits, or a number of up to 6 digits"


def _salt(name: str) -> bytes:
    """Return what is hashed with the names of channels."""
    return int(name).to_bytes(4, "big") if name.isdigit() else name.encode()
