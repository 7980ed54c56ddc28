"""Batching on asyncio: what is published in one turn of the loop is sent together."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from weakref import WeakMethod

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.operations.batches import PATIENCE, Batches, Call, fail, messages_of, settle
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation, unavailable

#: Carries operations out in one round trip, and returns the result of each.
Send = Callable[[Sequence[Operation[Any]]], Coroutine[Any, Any, list[Any]]]


class Batching:
    """The messages that callers of one event loop want to send, and `send`, which does so.

    What is published while others are under way goes with the next batch. `url` is that of their
    Redis, for errors.
    """

    def __init__(self, url: RedisURL, send: "WeakMethod[Send]") -> None:
        self._url = url
        self._find = send
        self._batches = Batches()
        # The loop itself has weak references only.
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None

    async def publish(self, messages: Sequence[Publish]) -> list[Any]:
        """Return the result of each; who is cancelled takes back what was not sent yet."""
        batches = self._batches
        is_first = batches.is_idle
        call = Call(messages)
        batches.put(call)
        if not is_first:
            return await self._outcome(call)
        try:
            await asyncio.sleep(0)  # The others of this turn come.
        except BaseException:
            batches.withdraw(call)
            self._go_on()
            raise
        if len(batches) != 1 or batches.first() is not call:
            self._go_on()
            return await self._outcome(call)
        # A task would only be there to outlive its caller.
        taken: list[Call] = []
        batches.take(taken)
        try:
            return await self._send(messages)
        finally:
            batches.end(taken)
            self._go_on()

    async def finish(self) -> None:
        """Return when nothing waits any more, and nothing is under way."""
        self._go_on()
        while not self._batches.is_idle:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    async def _outcome(self, call: Call) -> list[Any]:
        if not call.is_settled:
            loop = asyncio.get_running_loop()
            settled: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not settled.done():
                    settled.set_result(None)

            call.wake = wake
            self._look_again()
            try:
                await settled
            except BaseException:
                self._batches.withdraw(call)
                raise
        return call.results()

    def _go_on(self) -> None:
        """Send what may go now, in a task that no caller can cancel."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batches:
            calls: list[Call] = []
            task = asyncio.get_running_loop().create_task(self._deliver(calls))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(calls, task))
        self._note_end()

    def _look_again(self) -> None:
        """Let those that wait go without answers to others, after a while."""
        if self._timer is None and self._batches:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._go_on)

    def _note_end(self) -> None:
        if self._idle is not None and self._batches.is_idle:
            self._idle.set_result(None)
            self._idle = None

    async def _deliver(self, calls: list[Call]) -> None:
        # Who was cancelled in the last turn is gone by now.
        self._batches.take(calls)
        if not calls:
            return
        self._look_again()  # It may have been full.
        try:
            settle(calls, await self._send(messages_of(calls)))
        except BrokerUnavailable as error:
            fail(calls, error)

    def _ended(self, calls: Sequence[Call], task: asyncio.Task[None]) -> None:
        # By now those whose messages these were have published again: that is one batch.
        self._tasks.discard(task)
        self._batches.end(calls)
        if task.cancelled() or task.exception() is not None:  # Perhaps before it began.
            text = "the task that sent was cancelled"
            error = unavailable(self._url, text, delivered=None)
            error.__cause__ = None if task.cancelled() else task.exception()
            fail(calls, error)
        if calls or task.cancelled():
            self._go_on()
        else:
            self._note_end()

    @property
    def _send(self) -> Send:
        found = self._find()
        assert found is not None  # noqa: S101  # Whoever publishes keeps it.
        return found
