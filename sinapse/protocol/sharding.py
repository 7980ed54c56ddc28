"""Which of several Redis has which channels and tokens.

Channels are spread by rendezvous hashing: each goes where its hash with the name of the Redis is
highest. So the order of the list does not matter, and an additional Redis takes its share from all
others, and moves nothing else. A Redis is identified by its name, not by its address, so that it
can move to a different machine. One without a name has its place in the list as that, from 0.

All of a channel is in one Redis: its messages, its entries in lists, and the control messages about
these. So messages, and the changes that decide who receives them, have one order. Tokens are in
the Redis of their subject (its home); publishers choose tokens such that both hashes agree, so that
it is the first one that a node asks. Some Redis may keep no tokens.

While a Redis joins the others, or leaves them, the channels that move have two places: one where
publishers publish, and another one that has the same rights. So have subjects whose home moves:
both have the same tokens. See ``docs/sharding.md``.
"""

import re
from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Final, TypeAlias

#: A number, or a name with a letter in it. What is hashed with a number begins with a zero byte,
#: and with a name with a letter or digit: so no two are the same. BLAKE2b takes 16 bytes for it.
#: Letters and digits may stand in every header field and URL as they are.
_NAME = re.compile(r"0|[1-9][0-9]{0,5}|(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,16}")


#: What is hashed for a Redis, and its place in the list.
_Salts: TypeAlias = list[tuple[bytes, int]]


class State(StrEnum):
    """How far a Redis has joined the others, or has left them."""

    JOINING = "joining"
    """Nothing is published to it yet; it gets the rights to what it is going to have."""
    JOINED = "joined"
    """It is published to; where its channels were before gets the rights, too."""
    LEAVING = "leaving"
    """As joined: others get the rights to what they are going to have."""
    LEFT = "left"
    """As joining: nothing is published to it any more."""

    @property
    def is_out(self) -> bool:
        """Whether nothing is published to it."""
        return self in (State.JOINING, State.LEFT)


class Shards:
    """The Redis of a list, by their `names`, which are all different.

    Those that are `moving` are in the same `state`. Those `without_tokens` are the home of nobody.
    """

    __slots__ = (
        *("_homes", "_other_homes", "_others", "_salts"),
        *("are_named", "moving", "names", "state"),
    )

    def __init__(
        self,
        names: Iterable[str],
        *,
        state: State | None = None,
        moving: Collection[str] = (),
        without_tokens: Collection[str] = (),
    ) -> None:
        self.names: Final = tuple(names)
        self.state: Final = state
        #: Their places in the list.
        self.moving: Final = frozenset(map(self.names.index, moving))
        #: Whether they have other names than their places in the list.
        self.are_named: Final = self.names != tuple(map(str, range(len(self.names))))
        # Sorted, so that even of equal hashes the same one counts in any order of the list.
        every = sorted((_salt(name), number) for number, name in enumerate(self.names))
        settled = [each for each in every if each[1] not in self.moving]
        is_out = state is not None and state.is_out
        self._salts = settled if is_out else every
        self._others = every if is_out else settled
        self._homes, self._other_homes = (
            [each for each in salts if self.names[each[1]] not in without_tokens]
            for salts in (self._salts, self._others)
        )

    @property
    def homes(self) -> Collection[int]:
        """The places of those that have the tokens of subjects."""
        return [number for _, number in self._homes]

    @property
    def homes_move(self) -> bool:
        """Whether some subjects get another home."""
        return self._homes != self._other_homes

    @property
    def keepers(self) -> str:
        """The names of those that keep tokens, also of those that move: ``a b d``."""
        numbers = {number for _, number in (*self._homes, *self._other_homes)}
        return " ".join(sorted(self.names[number] for number in numbers))

    @property
    def are_spread(self) -> bool:
        """Whether it matters which of them has what: there are several, or ids say the name."""
        return len(self.names) > 1 or self.are_named

    @property
    def move(self) -> str:
        """What moves, in words that are the same before and after: ``a b c + d``, ``a b - c``."""
        settled = [name for at, name in enumerate(self.names) if at not in self.moving]
        moving = [self.names[at] for at in self.moving]
        is_more = self.state in (State.JOINING, State.JOINED)
        return " ".join([*sorted(settled), "+" if is_more else "-", *sorted(moving)])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(self.names)}>"

    def of(self, name: bytes) -> int:
        """Return the place in the list, from 0, of the one that has `name`."""
        return _highest(self._salts, name)

    def other(self, name: bytes) -> int | None:
        """Return the place of the other one that has the rights to a channel, if that moves."""
        return self._second(self._others, name, self.of(name))

    def home(self, name: bytes) -> int:
        """Return the place of the one that has the tokens of a subject, or a token when drawn."""
        return _highest(self._homes, name)

    def other_home(self, name: bytes) -> int | None:
        """Return the place of the other one that has the tokens of a subject, if these move."""
        return self._second(self._other_homes, name, self.home(name))

    def _second(self, salts: _Salts, name: bytes, first: int) -> int | None:
        if not self.moving:
            return None
        second = _highest(salts, name)
        return None if second == first else second


@cache
def numbered(count: int) -> Shards:
    """Return `count` Redis without names."""
    return Shards(map(str, range(count)))


def shard_of(name: bytes, count: int) -> int:
    """Return the number, from 0, of the one of `count` Redis without names that has `name`."""
    return numbered(count).of(name)


def _highest(salts: _Salts, name: bytes) -> int:
    if len(salts) == 1:
        return salts[0][1]
    found, highest = 0, b""
    for salt, number in salts:
        # The loop is that of max(), which would call a function for each.
        digest = blake2b(name, digest_size=8, salt=salt).digest()
        if digest > highest:
            found, highest = number, digest
    return found


def name_fault(name: str) -> str | None:
    """Return why a Redis cannot be called `name`; None if it can."""
    if _NAME.fullmatch(name):
        return None
    return "the name of a Redis is 1 to 16 letters and digits, or a number of up to 6 digits"


def _salt(name: str) -> bytes:
    """Return what is hashed with the names of channels."""
    return int(name).to_bytes(4, "big") if name.isdigit() else name.encode()
