"""What runs need of Twisted: the time, pauses, and work that goes on by itself."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from sinapse.publisher.runs.awaited import Pause, Turns


class ReactorTurns(Turns):
    """The reactor."""

    cancellation: type[BaseException] = CancelledError

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def loop(self) -> str:
        """Return the name of the only one there is."""
        return "reactor"

    def seconds(self) -> float:
        """Return the time of the reactor."""
        return float(self._reactor.seconds())

    def pause(self, seconds: float | None) -> "ReactorPause":
        """Return a pause."""
        return ReactorPause(self._reactor, seconds)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "Deferred[None]":
        """Begin `work`; what goes wrong with it, its runs are told."""
        return Deferred.fromCoroutine(work).addErrback(lambda _: None)


class ReactorPause(Pause):
    """A Deferred, and a timer that fires it."""

    def __init__(self, reactor: Any, seconds: float | None) -> None:
        self._ended: Deferred[None] = Deferred()
        self._timer = None if seconds is None else reactor.callLater(seconds, self.end)

    async def wait(self) -> None:
        """Return when it has ended."""
        try:
            await self._ended
        finally:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def end(self) -> None:
        """End it, if it has not ended."""
        if not self._ended.called:
            self._ended.callback(None)
