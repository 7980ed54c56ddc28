"""Copying what moves.

It can be ended at any point and begun again: each entry is read where it is right, written in the
other place, and read again (:mod:`sinapse.publisher.operations.moving`). What is there already is
left as it is, and what is there and is not right any more is removed.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from sinapse.protocol.sharding import State
from sinapse.publisher.operations.groups import Membership
from sinapse.publisher.operations.moving import mirror
from sinapse.publisher.operations.operation import Entry
from sinapse.publisher.resharding.entries import Placed
from sinapse.publisher.resharding.parties import CannotMove, Noted, Parties, done, parted

#: Where a right is right, and where it has to be the same.
Places: TypeAlias = tuple[int, int]


class Copying:
    """Copies between `parties`; every method raises as theirs do."""

    def __init__(self, parties: Parties) -> None:
        self._them = parties
        self._shards = parties.shards
        #: Rights that were written, or would be.
        self.copied: int = 0

    def check(self) -> None:
        """Check that the list is one to move by, and that nothing else moves."""
        state = self._shards.state
        if state is None:
            raise CannotMove(
                "nothing joins and nothing leaves: write ?state=joining behind the one that joins,"
                " or ?state=leaving behind the one that leaves"
            )
        if state in (State.JOINED, State.LEFT):
            before = State.JOINING if state is State.JOINED else State.LEAVING
            raise CannotMove(f"state={state} comes after this: run it with state={before}")
        all_noted = list(self._them.noted())
        moves: set[str] = set()
        for number, (move, names, *_) in enumerate(all_noted):
            if self._has_come_back(number, move):
                move, names = "", set()  # noqa: PLW2901
            moves.add(move)
            if move and move != self._shards.move:
                raise CannotMove(f"the last one is not finished: sinapse reshard --finish ({move})")
            if lacking := names - set(self._shards.names):
                who, whom = self._shards.names[number], ", ".join(sorted(lacking))
                raise CannotMove(f"the list lacks {whom}, which has not left: {who} knows it")
        if ended := self._them.ended():  # It was killed while it noted that.
            raise CannotMove(
                f"the last one is not finished: sinapse reshard --finish ({ended.pop()})"
            )
        if moves == {self._shards.move}:
            # Some may publish where they are copied to: a copy would undo what these remove.
            after = State.JOINED if state is State.JOINING else State.LEFT
            raise CannotMove(f"all has been copied: go on with state={after}")
        self._check_that_it_is_to_come(all_noted)
        self._them.check()

    def _check_that_it_is_to_come(self, noted: Sequence[Noted]) -> None:
        """Check that what moves has not moved already: a copy would undo what was done since.

        And that the homes of subjects are where they are said to be.
        """
        settled = [each for at, each in enumerate(noted) if at not in self._shards.moving]
        keepers = set(self._shards.keepers.split())
        for each in settled:
            if changed := each.changed(keepers):
                raise CannotMove(f"tokens=no has to stay where it was: it is not for {changed}")
        for number in self._shards.moving:
            name, own = self._shards.names[number], noted[number]
            if self._shards.state is State.JOINING:
                if any(not each.move and name in each.names for each in settled):
                    raise CannotMove(f"{name} has joined already: take its state out of the list")
                names, part = self._them.urls[number].names, self._them.parts[number]
                if not own.names and part.execute("HEXISTS", names.retention, "floor"):
                    raise CannotMove(
                        f"{name} has had messages, and nobody knows that it has ever left: write"
                        " ?state=joining behind the one that is new, or empty that first"
                    )
            # What moves has noted it last.
            elif own.move == self._shards.move and any(each.move != own.move for each in settled):
                raise CannotMove(f"{name} has left already: take it out of the list")

    def _has_come_back(self, number: int, move: str) -> bool:
        """Whether one that joins has noted a move of before: it left, or that was given up.

        The others have noted it as well, if it is not finished.
        """
        is_joining = self._shards.state is State.JOINING and number in self._shards.moving
        if not is_joining or move in ("", self._shards.move):
            return False
        return self._shards.names[number] in parted(move)[1]

    def copy(self, *, dry: bool = False) -> None:
        """Copy the rights to what moves; with `dry`, count them."""
        if not dry:
            for names, part in self._them.with_names():
                part.execute("HDEL", names.move, "done", "used")
                if self._shards.homes_move:  # From now on nodes look for a token everywhere.
                    part.execute("HSET", names.move, "tokens", "1")
        is_out = self._shards.state is State.JOINING
        first = min(at for at in range(len(self._shards)) if at not in self._shards.moving)
        # What is right is read before what may be too much.
        order = sorted(
            range(len(self._shards)), key=lambda at: (at in self._shards.moving) is is_out
        )
        for number in order:
            for rights in self._rights(number, first):
                if dry:
                    self.copied += sum(place == number for place, _ in rights.values())
                else:
                    self._bring(rights)
        if not dry:
            self._copy_pasts()

    def note(self) -> None:
        """Note in every Redis that all is copied."""
        noted = (
            *("done", self._shards.move, "names", " ".join(sorted(self._shards.names))),
            *("keepers", self._shards.keepers),
        )
        # Last in what moves: if that is all that knows it, it was forgotten by the others since.
        each = enumerate(self._them.with_names())
        for _, (own, part) in sorted(each, key=lambda one: one[0] in self._shards.moving):
            part.execute("HSET", own.move, *noted)

    def _rights(self, number: int, first: int) -> Iterator[dict[Entry, Places]]:
        """Yield the rights that one Redis has, some at once, with the places of each."""
        # What leaves has nothing of an earlier attempt, and it is not needed any more.
        with_old = self._shards.state is State.JOINING
        for entries in self._them.pages(number, with_groups=with_old):
            rights: dict[Entry, Places] = {}
            misplaced: list[Placed] = []
            for entry in entries:
                if isinstance(entry, Membership):
                    for other in self._shards.moving:
                        if number in (first, other):
                            rights[entry] = first, other
                    continue
                place, second = entry.places(self._shards)
                if second is not None and number in (place, second):
                    rights[entry] = place, second
                elif with_old and number in self._shards.moving and number != place:
                    misplaced.append(entry)
            yield rights
            self._them.forget(number, misplaced)

    def _bring(self, rights: dict[Entry, Places]) -> None:
        """Make rights the same in both places, but for those that are."""
        self._them.live()
        there = self._read(rights, 0), self._read(rights, 1)
        needed = {
            entry: places
            for entry, places in rights.items()
            if there[0][entry] != there[1][entry] or _ends(there[0][entry])
        }
        failures = self._them.all.drive(mirror(needed))
        for error in failures.values():
            raise error
        self.copied += len(needed)

    def _read(self, rights: dict[Entry, Places], which: int) -> dict[Entry, Any]:
        by_place: dict[int, list[Entry]] = {}
        for entry, places in rights.items():
            by_place.setdefault(places[which], []).append(entry)
        states: dict[Entry, Any] = {}
        for place, entries in by_place.items():
            results = self._them.parts[place].run_all([entry.read() for entry in entries])
            states |= zip(entries, done(results), strict=True)
        return states

    def _copy_pasts(self) -> None:
        """Copy of which channels new streams get a past: their messages stay where they are."""
        noted = [self._pasts(number) for number in range(len(self._shards))]
        for channel in {name for pasts in noted for name in pasts}:
            other = self._shards.other(channel)
            if other is None:
                continue
            # Nobody publishes there yet: what is different is of an attempt that was given up.
            replay = noted[self._shards.of(channel)].get(channel)
            if replay != noted[other].get(channel):
                self._them.live()
                self._note_past(other, channel, replay)

    def _pasts(self, number: int) -> dict[bytes, bytes]:
        key = self._them.urls[number].names.replay
        noted = self._them.parts[number].execute("HGETALL", key)
        return dict(zip(noted[::2], noted[1::2], strict=True))

    def _note_past(self, number: int, channel: bytes, replay: bytes | None) -> None:
        key, part = self._them.urls[number].names.replay, self._them.parts[number]
        if replay is None:
            part.execute("HDEL", key, channel)
        else:
            part.execute("HSET", key, channel, replay)


def _ends(state: Any) -> bool:
    """Whether it ends by itself: the clocks of two Redis tell different times for that."""
    return not isinstance(state, bool) and bool(state.ends)
