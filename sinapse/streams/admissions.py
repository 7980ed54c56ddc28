"""How many tokens are looked up at the same time; other requests wait, in the order they came."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

#: What Redis answers in one read opens as many streams before messages have a turn.
ADMISSIONS = 64


class Admissions:
    """So many places, each taken for an ``async with`` block.

    Twisted's DeferredSemaphore lets the next one in before it lets go of the former. Where each
    fails at once, they stand one within the other until Python gives up, and places are lost for
    ever. Here they come one after the other, and in a turn of the reactor no more than there are
    places.
    """

    def __init__(self, call_later: Callable[..., Any], places: int = ADMISSIONS) -> None:
        self._call_later = call_later
        self._free = places
        #: The oldest first.
        self._waiting: dict[Deferred[None], None] = {}
        self._is_calling = False

    async def __aenter__(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: Deferred[None] = Deferred(lambda gone: self._waiting.pop(gone, None))
        self._waiting[turn] = None
        await turn

    async def __aexit__(self, *_: object) -> None:
        self._free += 1
        self._call_soon()

    def _call_soon(self) -> None:
        if self._waiting and not self._is_calling:
            self._is_calling = True
            self._call_later(0, self._call)

    def _call(self) -> None:
        self._is_calling = False
        for turn in [turn for turn, _ in zip(self._waiting, range(self._free), strict=False)]:
            if turn in self._waiting:  # It may have gone with one before it.
                del self._waiting[turn]
                self._free -= 1
                turn.callback(None)
        if self._free:
            self._call_soon()
