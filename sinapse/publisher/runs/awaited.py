"""Runs for coroutines, on asyncio or Twisted: as :mod:`sinapse.publisher.runs.blocking`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Hashable
from types import TracebackType
from typing import Any, Self

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.runner import AwaitedRunner
from sinapse.publisher.operations.runs import GetRun, RunStatus, StopRun
from sinapse.publisher.process import OfThisProcess
from sinapse.publisher.runs.block import Block
from sinapse.publisher.runs.buffer import Buffer
from sinapse.publisher.runs.courier import Courier

#: Seconds for which runs are carried after the end of their event loop has begun.
LOOP_END_GRACE = 2.0


class Pause(ABC):
    """Something to wait for, once."""

    @abstractmethod
    async def wait(self) -> None:
        """Return when it has ended."""

    @abstractmethod
    def end(self) -> None:
        """End it, if it has not ended."""


class Turns(ABC):
    """What the event loop, or the reactor, does for runs."""

    #: What is raised in what is cancelled.
    cancellation: type[BaseException]

    @abstractmethod
    def loop(self) -> Hashable:
        """Return that which runs now."""

    @abstractmethod
    def seconds(self) -> float:
        """Return the time, of a clock that is never set."""

    @abstractmethod
    def pause(self, seconds: float | None) -> Pause:
        """Return a pause that ends by itself after so many seconds, or does not."""

    @abstractmethod
    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        """Begin `work`, which goes on by itself; return what keeps it."""


class Carrier:
    """A task for all runs of this event loop in one Redis, which ends with the last of them."""

    def __init__(self, connections: AwaitedRunner, turns: Turns) -> None:
        self.courier: Courier = Courier(self._wake)
        self._connections = connections
        self._turns = turns
        self._pause: Pause | None = None
        self._work: object = None

    def begin(self, buffer: Buffer) -> None:
        """Carry the messages of a run."""
        self.courier.add(buffer, self._turns.seconds())
        if self._work is None:
            self._work = self._turns.spawn(self._carry())

    def _wake(self) -> None:
        if self._pause is not None:
            self._pause.end()

    async def _carry(self) -> None:
        courier, until = self.courier, math.inf
        try:
            while courier and self._turns.seconds() < until:
                try:
                    await self._go_on()
                except self._turns.cancellation:
                    # The end of an event loop cancels all tasks: the runs are to end before this.
                    if until < math.inf:
                        raise
                    until = self._turns.seconds() + LOOP_END_GRACE
        except BaseException as error:
            courier.break_off(BrokerUnavailable(f"runs are not carried: {error!r}"))
            raise
        finally:
            courier.break_off(BrokerUnavailable("the event loop has ended"))
            self._pause = self._work = None

    async def _go_on(self) -> None:
        seconds = self._turns.seconds
        if wait := self.courier.wait(seconds()):
            self._pause = self._turns.pause(wait)
            await self._pause.wait()
            self._pause = None
        operations = self.courier.operations(seconds())
        if operations:
            lost = BrokerUnavailable("cancelled")
            results: list[Any] = [lost] * len(operations)
            try:
                results = await self._connections.run_each(operations)
            finally:
                self.courier.settle(results, seconds())


class Run(Block):
    """A run, for an ``async with`` block: see :class:`sinapse.publisher.runs.blocking.Run`.

    ::

        async with publisher.run(user_id, name="answer") as run:
            async for piece in model.stream(prompt):
                await run.send(piece)

    A task that is cancelled ends its run as an exception does. Tasks of one event loop may share a
    run.
    """

    def __init__(
        self, runs: "Runs", subject: SubjectId, name: str, retain: float, error_text: str
    ) -> None:
        super().__init__(subject, name, retain, error_text, runs.max_message)
        self._runs = runs
        self._failure: BaseException | None = None
        self._work: object = None

    async def send(self, piece: object) -> None:
        """Send `piece`: see :meth:`sinapse.publisher.runs.blocking.Run.send`.

        If it is cancelled while it waits for room, the piece is not sent.
        """
        await self._until(self._putting(piece))

    async def flush(self) -> None:
        """Wait until Redis has all that was sent; raises as :meth:`send`."""
        await self._until(self._flushing())

    async def fail(self, text: str) -> None:
        """End the run: pages are told ``error`` with this `text`. Raises as :meth:`send`."""
        await self._until(self._failing(text))
        self._left(None)

    async def __aenter__(self) -> Self:
        begun = self._runs.turns.pause(None)
        carrier = self._runs.carrier(self.channel)
        self._courier = carrier.courier
        # Redis may begin it though this task is cancelled, and has to hear of the end after that.
        self._work = self._runs.turns.spawn(self._begin(self._beginning(), carrier, begun))
        try:
            await begun.wait()
        except BaseException:
            self._buffer.end(self._error)
            self._courier.look_at(self._buffer)
            raise
        if self._failure is not None:
            raise self._failure
        return self

    async def _begin(self, beginning: list[Operation[Any]], carrier: Carrier, begun: Pause) -> None:
        try:
            complete(await self._runs.connections.run_each(beginning))
        except BaseException as error:  # noqa: BLE001 - it is raised in the block.
            self._failure = error
            if not self._may_have_begun(error):
                return
            self._buffer.end(self._error)
        finally:
            begun.end()
        carrier.begin(self._buffer)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # The task of the carrier tells Redis, even if this one is cancelled again.
        await self._until(self._leaving(error))
        return self._left(error)

    async def _until(self, attempt: Callable[[], bool]) -> None:
        while not attempt():
            changed = self._runs.turns.pause(None)
            self._buffer.waiting.append(changed.end)
            await changed.wait()


class Runs:
    """``publisher.runs``: as :class:`sinapse.publisher.runs.blocking.Runs`, to be awaited."""

    def __init__(
        self, connections: AwaitedRunner, shards: Shards, max_message: int, turns: Turns
    ) -> None:
        self.connections = connections
        self.max_message = max_message
        self.turns = turns
        self._shards = shards
        self._carriers: OfThisProcess[dict[tuple[Hashable, int], Carrier]] = OfThisProcess(dict)

    async def get(self, run: str) -> RunStatus | None:
        """Return what Redis knows of a run; None for one that it does not know, or no longer."""
        return await self.connections.run(GetRun(run))

    async def stop(self, run: str) -> bool:
        """Stop a run: see :meth:`sinapse.publisher.runs.blocking.Runs.stop`."""
        return await self.connections.run(StopRun(run))

    def carrier(self, channel: str) -> Carrier:
        """Return what carries the messages of a run with that channel."""
        carriers = self._carriers()
        for place, each in list(carriers.items()):
            if not each.courier:
                carriers.pop(place, None)
        place = self.turns.loop(), self._shards.of(channel.encode())
        return carriers.setdefault(place, Carrier(self.connections, self.turns))
