"""What comes after a move: what has moved is removed from where it was."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sinapse.protocol.redislist import shards_of
from sinapse.protocol.sharding import State
from sinapse.publisher.operations.channels import Grant, GrantState
from sinapse.publisher.operations.groups import GroupChannel, Membership
from sinapse.publisher.operations.operation import Plain
from sinapse.publisher.resharding.entries import Placed
from sinapse.publisher.resharding.knowing import Nodes
from sinapse.publisher.resharding.parties import CannotMove, Parties, done, parted

#: Seconds in which all nodes have said that they know that a Redis has its share: they ask every
#: four, and then say it.
SAID = 30.0

#: Seconds in which those of an earlier version have learned it: they ask as often.
LEARNED = 15.0

#: Seconds between two looks at who has said it.
LOOK = 0.5


class Finishing:
    """Finishes a move between `parties`; every method raises as theirs do."""

    def __init__(self, parties: Parties) -> None:
        self._them = parties
        self._shards = parties.shards
        #: Rights that stay for now, as messages are retained beside them.
        self.waiting: int = 0

    def check(self, *, dry: bool = False) -> str:
        """Check that the list is that of after a move, or of before one that is given up.

        With `dry` it may be that of before the end. Returns which move it is.
        """
        may_be = {None, State.JOINED, State.LEFT} if dry else {None}
        if self._shards.state not in may_be:
            raise CannotMove(
                f"first all publishers need the list without state={self._shards.state}"
            )
        self._them.check()
        noted = list(self._them.noted())
        moves = {each.move for each in noted}
        known = moves - {""}
        if not known:
            raise CannotMove("nothing is to be finished: no Redis has joined or left since")
        move = known.pop()
        settled, moving = parted(move)
        names = set(self._shards.names)
        if known or names not in (settled, settled | moving):
            raise CannotMove(f"the list is that of a different move: {move}")
        is_before = self._is_before(move)
        if is_before and any(each.used == move for each in noted):
            raise CannotMove(
                f"too late to give up {move}, as publishers went on after the copy: go on too, with"
                " the list of step 5"
            )
        # It was killed while it noted that all is copied, which is given up; or that this is ended.
        if "" in moves and not (is_before or self._them.ended()):
            raise CannotMove(
                f"not all has been copied: run 'sinapse reshard' first, as in step 2 ({move})"
            )
        keepers = set(self._shards.keepers.split())
        for each in noted:
            if changed := each._replace(names=each.names & names).changed(keepers):
                raise CannotMove(f"tokens=no has to stay where it was: it is not for {changed}")
        if self._shards.state is None:
            self._check_nodes(sorted(moving & names))
        return move

    def _check_nodes(self, moved: Sequence[str]) -> None:
        """Check that no node has a list of before the end: it would look for tokens elsewhere."""
        for name in moved:
            nodes = self._nodes(name)
            if nodes.moving:
                raise CannotMove(
                    f"{nodes.moving} of {nodes.count} nodes that hear {name} have a list in which"
                    " it has a state: restart all daemons with this list first"
                )

    def _is_before(self, move: str) -> bool:
        """Whether the list is that of before a move, which is given up then."""
        settled, moving = parted(move)
        before = settled if "+" in move.split() else settled | moving
        return self._shards.state is None and set(self._shards.names) == before

    def begin_share(self, move: str) -> dict[str, str]:
        """Note since when what has moved has its share; return that by their names.

        It is a counter that no message has: whoever has an id from there on was here after all
        publishers were, so has had all that was published elsewhere before.
        """
        shares = {}
        for name in sorted(parted(move)[1] & set(self._shards.names)):
            number = self._shards.names.index(name)
            names, part = self._them.urls[number].names, self._them.parts[number]
            if not part.execute("HEXISTS", names.retention, "epoch"):
                raise CannotMove(f"no daemon has been connected to {name}")
            since = part.execute("HGET", names.move, "since")
            if since is None:
                since = str(part.execute("HINCRBY", names.retention, "counter", "1")).encode()
                part.execute("HSET", names.move, "since", since)
            part.execute("HSET", names.retention, "since", since)
            shares[name] = since.decode()
        return shares

    def wait(
        self,
        shares: Mapping[str, str],
        tell: Callable[[str], object],
        sleep: Callable[[float], object],
    ) -> None:
        """Wait until all nodes act by `shares`, which :meth:`begin_share` has noted.

        `tell` is called with what it waits for. Until then nothing may be removed: a node that
        stands still would take up a client whose messages were elsewhere, as if nothing was
        missing.
        """
        nodes = {name: self._nodes(name) for name in shares}
        if mute := max((each.mute for each in nodes.values()), default=0):
            tell(f"nodes of an earlier version: {mute}; waiting {LEARNED:.0f} seconds for them")
            self._sleep(LEARNED, sleep)
        ends = time.monotonic() + SAID
        for name, since in shares.items():
            while behind := nodes[name].behind(since):
                if time.monotonic() > ends:
                    raise CannotMove(
                        f"{behind} of {nodes[name].count} nodes that hear {name} did not say"
                        f" within {SAID:.0f} seconds that they know that it has its share: nothing"
                        " was removed; begin again when they answer, or are gone"
                    )
                self._sleep(LOOK, sleep)
        if shares:
            self._them.check()  # Who has lost one of them cannot say what is missing there.

    def _nodes(self, name: str) -> Nodes:
        number = self._shards.names.index(name)
        return Nodes(self._them.urls[number], self._them.parts[number])

    def _sleep(self, seconds: float, sleep: Callable[[float], object]) -> None:
        """Sleep, with signs of life."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            sleep(min(1.0, left))
            self._them.live()

    def sweep(self, move: str, *, dry: bool = False) -> None:
        """Remove what has moved from where it was, unless messages are retained there."""
        settled, _ = parted(move)
        former = [url for url in self._them.urls if url.name in settled]
        #: Where subjects had their homes, and the places of these Redis now.
        before, numbers = shards_of(former), [self._them.urls.index(url) for url in former]
        for number in range(len(self._them.parts)):
            for entries in self._them.pages(number, with_groups=False):
                free: list[Placed] = []
                moved: list[Grant | GroupChannel] = []
                for entry in entries:
                    if isinstance(entry, Membership) or entry.places(self._shards)[0] == number:
                        continue
                    if isinstance(entry, Grant | GroupChannel):
                        moved.append(entry)
                    elif numbers[entry.places(before)[0]] == number:
                        free.append(entry)
                over = self._over(number, moved)
                self.waiting += len(moved) - len(over)
                free += over
                if dry:
                    self._them.removed += len(free)
                else:
                    self._them.forget(number, free)

    def _over(
        self, number: int, moved: Sequence[Grant | GroupChannel]
    ) -> list[Grant | GroupChannel]:
        """Return those of rights in one Redis beside which nothing is retained."""
        names, part = self._them.urls[number].names, self._them.parts[number]
        keys = [names.retained_key(entry.channel) for entry in moved]
        there = done(part.run_all([Plain(("EXISTS", key)) for key in keys]))
        beside = [entry for entry, is_there in zip(moved, there, strict=True) if is_there]
        # What was removed since where the channel is now is no right here either.
        are_right = dict(zip(beside, self._are_right(beside), strict=True))
        return [entry for entry in moved if not are_right.get(entry)]

    def note(self, move: str) -> None:
        """Note that nothing moves any more: in all, before any forgets the move."""
        names = " ".join(sorted(self._shards.names))
        # It may be given up as this was wrong.
        keepers = "" if self._is_before(move) else self._shards.keepers
        for own, part in self._them.with_names():
            part.execute("HSET", own.move, "names", names, "keepers", keepers, "ended", move)
        for own, part in self._them.with_names():
            part.execute("HDEL", own.move, "done", "since", "ended", "used")

    def _are_right(self, entries: Sequence[Grant | GroupChannel]) -> list[bool]:
        """Return of rights to channels whether they are there where these are now."""
        homes: dict[int, list[Grant | GroupChannel]] = {}
        for entry in entries:
            homes.setdefault(self._shards.of(entry.channel.encode()), []).append(entry)
        states: dict[Grant | GroupChannel, Any] = {}
        for home, its in homes.items():
            results = self._them.parts[home].run_all([entry.read() for entry in its])
            states |= zip(its, done(results), strict=True)
        found = [states[entry] for entry in entries]
        return [each.listed if isinstance(each, GrantState) else bool(each) for each in found]
