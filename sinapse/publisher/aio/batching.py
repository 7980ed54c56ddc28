"""Batching on asyncio: what is published in one turn of the loop is sent together."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakMethod

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.operations.batches import (
    PATIENCE,
    UNANSWERED,
    AwaitedSend,
    Batches,
    Call,
    alive,
    fail,
    messages_of,
    settle,
)
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import unavailable


def _wake(settled: "asyncio.Future[None]") -> None:
    if not settled.done():
        settled.set_result(None)


class _Batch:
    """Calls that are sent by one task, which is of no use if nobody waits for it any more."""

    def __init__(self, task: "asyncio.Task[None]", calls: int) -> None:
        self._task = task
        self._waited_for = calls

    def leave(self) -> None:
        """Note that one of the callers is gone: with the last one, what was not sent is not."""
        self._waited_for -= 1
        if not self._waited_for:
            self._task.cancel()


class Batching:
    """The messages that callers of one event loop want to send, and `send`, which does so.

    What is published while others are under way goes with the next batch. `url` is that of their
    Redis, for errors; `patience` is for how many seconds a call waits for others.
    """

    def __init__(self, url: RedisURL, send: "WeakMethod[AwaitedSend]", patience: float) -> None:
        self._url = url
        self._send = send
        self._patience = patience
        self._batches = Batches()
        # The loop itself has weak references only.
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: Those that have no answer yet, and whoever waits for the end of some.
        self._open: set[Call] = set()
        self._closing: list[asyncio.Future[None]] = []

    async def publish(self, messages: Sequence[Publish]) -> list[Any]:
        """Return the result of each; who is cancelled takes back what was not sent yet."""
        # One coroutine, and few objects: what a thousand tasks hold is what the garbage collector
        # looks through, a sixth of the time.
        loop = asyncio.get_running_loop()
        call = Call(messages, loop.time())
        batches = self._batches
        self._open.add(call)
        try:
            is_first = batches.is_idle
            batches.put(call)
            if is_first and await self._is_alone(call):
                return await self._send_alone(call)
            if not call.is_settled:
                settled: asyncio.Future[None] = loop.create_future()
                call.wake = partial(_wake, settled)
                self._look_again()
                try:
                    await settled
                except BaseException:
                    batches.withdraw(call)
                    call.leave()
                    raise
            return call.results()
        finally:
            self._open.discard(call)
            for each in self._closing:
                if not each.done():
                    each.set_result(None)
            self._closing.clear()

    async def _is_alone(self, call: Call) -> bool:
        """Let the others of this turn come, and return whether there are none; else send all."""
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._batches.withdraw(call)
            self._go_on()
            raise
        if len(self._batches) == 1 and self._batches.first() is call:
            return True
        self._go_on()
        return False

    async def _send_alone(self, call: Call) -> list[Any]:
        # A task would only be there to outlive its caller.
        taken: list[Call] = []
        self._batches.take(taken)
        try:
            return await alive(self._send)(call.messages)
        finally:
            self._batches.end(taken)
            if self._batches:
                self._go_on()

    async def let_go(self) -> None:
        """Return when what was published in this turn is on its way, if nothing holds that up."""
        for _ in range(2):
            if not self._batches:
                return
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Return when all that is published now has been answered."""
        asked = set(self._open)
        self._go_on()
        while asked & self._open:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closing.append(ended)
            await ended

    def _go_on(self) -> None:
        """Send what may go now, in a task that no caller can cancel."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        late = self._batches.withdraw_before(loop.time() - self._patience)
        fail(late, unavailable(self._url, UNANSWERED))
        if self._batches:
            calls: list[Call] = []
            task = loop.create_task(self._deliver(calls))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(calls, task))

    def _look_again(self) -> None:
        """Let those that wait go without answers to others, after a while."""
        if self._timer is None and self._batches:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._go_on)

    async def _deliver(self, calls: list[Call]) -> None:
        # Who was cancelled in the last turn is gone by now.
        self._batches.take(calls)
        if not calls:
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        batch = _Batch(task, len(calls))
        leave = batch.leave
        for call in calls:
            call.leave = leave
        self._look_again()  # It may have been full.
        try:
            settle(calls, await alive(self._send)(messages_of(calls)))
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
