"""What runs need of asyncio: the time, pauses, and tasks of their own."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from sinapse.publisher.runs.awaited import Pause, Turns


class LoopTurns(Turns):
    """The running event loop."""

    cancellation: type[BaseException] = asyncio.CancelledError

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        return asyncio.get_running_loop()

    def seconds(self) -> float:
        """Return the time of the event loop."""
        return self.loop().time()

    def pause(self, seconds: float | None) -> "LoopPause":
        """Return a pause."""
        return LoopPause(self.loop(), seconds)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work` in a task, of which the loop itself has a weak reference only."""
        return self.loop().create_task(work)


class LoopPause(Pause):
    """A future, and a timer that ends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self._future: asyncio.Future[None] = loop.create_future()
        self._timer = None if seconds is None else loop.call_later(seconds, self.end)

    async def wait(self) -> None:
        """Return when it has ended."""
        try:
            await self._future
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def end(self) -> None:
        """End it, if it has not ended."""
        if not self._future.done():
            self._future.set_result(None)
