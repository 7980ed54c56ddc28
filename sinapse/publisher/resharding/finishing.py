"""What comes after a move: what has moved is removed from where it was."""

import time
from collections.abc import Callable

from sinapse.publisher.operations.groups import Membership
from sinapse.publisher.operations.operation import Plain
from sinapse.publisher.resharding.parties import CannotMove, Parties, done

#: Seconds in which all daemons have learned that a Redis has its share: they ask every four.
LEARNED = 15.0


class Finishing:
    """Finishes a move between `parties`; every method raises as theirs do."""

    def __init__(self, parties: Parties) -> None:
        self._them = parties
        self._shards = parties.shards
        #: Rights that stay for now, as messages are retained beside them.
        self.waiting = 0

    def check(self) -> str:
        """Check that the list is that of after a move, or of before one that is given up.

        Returns which move it is.
        """
        if self._shards.state is not None:
            raise CannotMove(
                f"first all publishers need the list without state={self._shards.state}"
            )
        self._them.check()
        moves = {each for each, _ in self._them.noted()}
        if len(moves) != 1 or not (move := moves.pop()):
            raise CannotMove("no Redis has joined or left, or not all have been told")
        settled, moving = _parted(move)
        if set(self._shards.names) not in (settled, settled | moving):
            raise CannotMove(f"the list is that of a different move: {move}")
        return move

    def begin_share(self, move: str) -> float:
        """Note since when what has moved has its share; return for how many seconds to wait then.

        It is a counter that no message has: whoever has an id from there on was here after all
        publishers were, so has had all that was published elsewhere before.
        """
        new = _parted(move)[1] & set(self._shards.names)
        for name in new:
            number = self._shards.names.index(name)
            names, part = self._them.urls[number].names, self._them.parts[number]
            if not part.execute("HEXISTS", names.retention, "epoch"):
                raise CannotMove(f"no daemon has been connected to {name}")
            since = part.execute("HGET", names.move, "since")
            if since is None:
                since = str(part.execute("HINCRBY", names.retention, "counter", "1")).encode()
                part.execute("HSET", names.move, "since", since)
            part.execute("HSET", names.retention, "since", since)
        return LEARNED if new else 0.0

    def wait(self, seconds: float, sleep: Callable[[float], object]) -> None:
        """Wait, with signs of life."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            sleep(min(1.0, left))
            self._them.live()

    def sweep(self, *, dry: bool = False) -> None:
        """Remove what has moved from where it was, unless messages are retained there."""
        for number, part in enumerate(self._them.parts):
            names = self._them.urls[number].names
            for entries in self._them.pages(number, with_groups=False):
                moved = [
                    entry
                    for entry in entries
                    if not isinstance(entry, Membership)
                    and self._shards.of(entry.channel.encode()) != number
                ]
                keys = [names.retained_key(entry.channel) for entry in moved]
                there = done(part.run_all([Plain(("EXISTS", key)) for key in keys]))
                free = [entry for entry, is_there in zip(moved, there, strict=True) if not is_there]
                self.waiting += len(moved) - len(free)
                if dry:
                    self._them.removed += len(free)
                else:
                    self._them.remove(number, free)

    def note(self) -> None:
        """Note that nothing moves any more."""
        names = " ".join(sorted(self._shards.names))
        for own, part in self._them.with_names():
            part.execute("HSET", own.move, "names", names)
            part.execute("HDEL", own.move, "done", "since")


def _parted(move: str) -> tuple[set[str], set[str]]:
    """Return the names of those that stay where they are, and of those that move."""
    words = move.split()
    at = next(at for at, word in enumerate(words) if word in "+-")
    return set(words[:at]), set(words[at + 1 :])
