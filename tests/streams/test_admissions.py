"""Places for look-ups: each is given back, whoever had it, and however many there are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from sinapse.streams.admissions import Admissions
from tests.support import Turns

PLACES = 4


class Visitor:
    """Who enters, stays for as long as it wants, and leaves; or is gone before its turn."""

    def __init__(self, admissions: Admissions, *, stays: bool) -> None:
        self._leaves: Deferred[None] = Deferred()
        self.is_in = False
        self.is_over = False
        if not stays:
            self._leaves.callback(None)
        self._visit = Deferred.fromCoroutine(self._enter(admissions))
        self._visit.addErrback(lambda failure: failure.trap(CancelledError, LookupError))

    async def _enter(self, admissions: Admissions) -> None:
        try:
            async with admissions:
                self.is_in = True
                try:
                    await self._leaves
                finally:
                    self.is_in = False
                raise LookupError
        finally:
            self.is_over = True

    def leave(self) -> None:
        if not self._leaves.called:
            self._leaves.callback(None)

    def go_away(self) -> None:
        self._visit.cancel()


def test_thousands_who_fail_at_once_lose_no_place() -> None:
    clock = Turns()
    admissions = Admissions(clock.callLater, PLACES)
    first = [Visitor(admissions, stays=True) for _ in range(PLACES)]
    others = [Visitor(admissions, stays=False) for _ in range(5000)]
    for each in first:
        each.leave()
    turns = 0
    while not all(each.is_over for each in others):
        clock.turn()
        turns += 1
    assert turns >= len(others) / PLACES  # Others have a turn in between.
    late = [Visitor(admissions, stays=True) for _ in range(PLACES)]
    assert all(each.is_in for each in late)


@given(st.lists(st.sampled_from(["come", "fail", "leave", "go", "turn"]), max_size=60), st.data())
def test_there_are_never_more_and_each_place_is_used(steps: list[str], data: Any) -> None:
    clock = Turns()
    admissions = Admissions(clock.callLater, PLACES)
    visitors: list[Visitor] = []
    for step in steps:
        there = [each for each in visitors if not each.is_over]
        if step in ("come", "fail"):
            visitors.append(Visitor(admissions, stays=step == "come"))
        elif step == "turn":
            clock.turn()
        elif there:
            each = data.draw(st.sampled_from(there))
            if step == "leave":
                each.leave()
            else:
                each.go_away()
        assert sum(each.is_in for each in visitors) <= PLACES
    for _ in range(len(steps) + 1):
        clock.turn()
    left = [each for each in visitors if not each.is_over]
    inside = [each for each in left if each.is_in]
    assert len(inside) == min(PLACES, len(left))
    assert left[: len(inside)] == inside  # In the order in which they came.
    for each in left:
        each.leave()
        for _ in range(3):
            clock.turn()
    assert all(each.is_over for each in visitors)
