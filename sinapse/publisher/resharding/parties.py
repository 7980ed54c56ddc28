"""The Redis between which channels move: what they have, what they know, and one who moves."""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sinapse.errors import BrokerUnavailable, SinapseError
from sinapse.protocol.keys import RESERVED
from sinapse.protocol.names import Names
from sinapse.protocol.redislist import shards_of
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import Shards
from sinapse.publisher.base import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from sinapse.publisher.connections import Connections, ShardedConnections
from sinapse.publisher.operations.operation import Plain
from sinapse.publisher.resharding.entries import Found, Placed, Reader

#: Entries that are read, or written, at once.
AT_ONCE = 500

#: Keys that Redis looks at in one step.
SCANNED = 500

#: Milliseconds after which another may go on where one was killed, and seconds after which one says
#: that it is still there.
LEASE = 10_000
SIGN_OF_LIFE = 2.0


class CannotMove(SinapseError):
    """What is asked for cannot be, as the list is or as the Redis are."""


class Noted(NamedTuple):
    """What a Redis has noted of moves."""

    move: str
    """The one whose rights are all copied, empty if there is none."""
    names: set[str]
    """Those of the list at the last move."""
    keepers: set[str] | None
    """Those of them that keep tokens; None if an earlier version has noted the move."""
    used: str
    """The move after which publishers look for what moves where it is going to be."""

    def changed(self, keepers: set[str]) -> str:
        """Return the names of the list that have begun, or ceased, to keep tokens since."""
        if self.keepers is None:
            return ""
        return ", ".join(sorted((self.keepers ^ keepers) & self.names))


class Parties:
    """The Redis at `urls`.

    Every method raises :class:`CannotMove`, or :class:`~sinapse.errors.BrokerUnavailable`.
    """

    def __init__(self, urls: Sequence[RedisURL]) -> None:
        self.urls = urls
        self.shards: Shards = shards_of(urls)
        self.parts: list[Connections] = [
            Connections(url, size=1, connect_timeout=CONNECT_TIMEOUT, timeout=ANSWER_TIMEOUT)
            for url in urls
        ]
        self.all: ShardedConnections = ShardedConnections(self.parts, self.shards)
        #: Is called with how many keys have been looked at since the last time.
        self.tell: Callable[[int], object] = int
        #: Entries that were removed from where they do not belong.
        self.removed: int = 0
        #: Entries that were left out, as they have names that nothing of ours can have.
        self.invalid: int = 0
        self._owner = secrets.token_hex(8)
        #: When to give the next sign of life: never without the lock.
        self._lasts = math.inf

    def close(self) -> None:
        """Close all connections."""
        self.all.close()

    def keys(self) -> int:
        """Return how many keys there are to look at."""
        return sum(part.execute("DBSIZE") for part in self.parts)

    # What they know

    def check(self) -> None:
        """Check that they are different, and that the same daemons hear all of them."""
        known: dict[tuple[str, int, str], str] = {}
        nodes: dict[str, int] = {}
        for name, url, part in zip(self.shards.names, self.urls, self.parts, strict=True):
            lines = part.execute("INFO", "server").decode().splitlines()
            run = next(line for line in lines if line.startswith("run_id:"))
            other = known.setdefault((run, url.db, url.prefix), name)
            if other != name:
                raise CannotMove(f"{other} and {name} are the same Redis")
            _, nodes[name] = part.execute("PUBSUB", "NUMSUB", url.names.nodes)
        if len(set(nodes.values())) > 1:
            heard = ", ".join(f"{name} by {count}" for name, count in nodes.items())
            raise CannotMove(
                f"not all are heard by the same number of daemons: {heard}; restart with this list"
                " the daemons that have a different one"
            )

    def noted(self) -> Iterator[Noted]:
        """Yield of each Redis what it has noted."""
        for names, part in self.with_names():
            noted = part.execute("HMGET", names.move, "done", "names", "keepers", "used")
            move, known, keepers, used = ((each or b"").decode(errors="replace") for each in noted)
            yield Noted(move, set(known.split()), set(keepers.split()) or None, used)

    def ended(self) -> set[str]:
        """Return the moves of which nothing is left but notes."""
        found = {part.execute("HGET", names.move, "ended") for names, part in self.with_names()}
        return {each.decode(errors="replace") for each in found if each}

    def with_names(self) -> Iterator[tuple[Names, Connections]]:
        """Yield each with the names of its keys."""
        return zip([url.names for url in self.urls], self.parts, strict=True)

    def lock(self) -> None:
        """Make sure that this is the only one."""
        key, part = self._lock()
        if not part.execute("SET", key, self._owner, "NX", "PX", str(LEASE)):
            raise CannotMove(
                f"another one runs, or did {LEASE // 1000} seconds ago: wait, and begin again"
            )
        self._lasts = time.monotonic() + SIGN_OF_LIFE

    def unlock(self) -> None:
        """Let another one begin."""
        key, part = self._lock()
        if part.execute("GET", key) == self._owner.encode():
            part.execute("DEL", key)

    def _lock(self) -> tuple[str, Connections]:
        number = self.shards.names.index(min(self.shards.names))
        return f"{self.urls[number].names.move}:lock", self.parts[number]

    def live(self) -> None:
        """Give a sign of life now and then."""
        if time.monotonic() < self._lasts:
            return
        key, part = self._lock()
        if part.execute("GET", key) != self._owner.encode():
            raise CannotMove("this one has hung, and another one has begun")
        part.execute("PEXPIRE", key, str(LEASE))
        self._lasts = time.monotonic() + SIGN_OF_LIFE

    # What is there

    def pages(self, number: int, *, with_groups: bool) -> Iterator[list[Found]]:
        """Yield what a Redis has that can move, some at once."""
        names, part = self.urls[number].names, self.parts[number]
        reader = Reader(names, with_groups=with_groups)
        cursor = b"0"
        while True:
            pattern = f"{names.prefix}{RESERVED}*"
            cursor, found = part.execute("SCAN", cursor, "MATCH", pattern, "COUNT", str(SCANNED))
            listed = list(filter(None, map(reader.listed, found)))
            answers = done(part.run_all([Plain(each.command) for each in listed]))
            entries = [
                entry
                for each, answer in zip(listed, answers, strict=True)
                for entry in each.entries(answer)
            ]
            for start in range(0, len(entries), AT_ONCE):
                self.live()
                yield entries[start : start + AT_ONCE]
            self.tell(SCANNED)
            if cursor == b"0":
                self.invalid += reader.invalid
                return

    def forget(self, number: int, entries: Sequence[Placed]) -> None:
        """Remove entries from one Redis."""
        self.live()
        if entries:
            done(self.parts[number].run_all([each.forget() for each in entries]))
        self.removed += len(entries)


def done(results: Sequence[Any]) -> Sequence[Any]:
    """Return results; raises the first error among them."""
    for each in results:
        if isinstance(each, BrokerUnavailable):
            raise each
    return results


def parted(move: str) -> tuple[set[str], set[str]]:
    """Return the names of those that stay where they are, and of those that move."""
    words = move.split()
    at = next(at for at, word in enumerate(words) if word in "+-")
    return set(words[:at]), set(words[at + 1 :])
