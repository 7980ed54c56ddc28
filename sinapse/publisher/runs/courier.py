"""What the runs of one process have to tell one Redis: when, and what its answers mean for them.

It does no I/O, and is told the time: a thread, or a task, does what it says.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from sinapse.errors import BrokerUnavailable, SinapseError
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.runs import HoldRuns
from sinapse.publisher.runs.buffer import Buffer

#: Seconds between two signs of life of a run that tells nothing. The answer says whether it was
#: stopped, which is to be known here within a second.
SIGN_INTERVAL = 0.5


class Courier:
    """Carries the messages of runs, all that are due at once; `wake` is called if that is earlier.

    The times are seconds of a clock that is never set.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._buffers: dict[str, Buffer] = {}
        self._due: list[tuple[float, int, Buffer]] = []
        self._order = count()
        self._next_sign = 0.0
        self._sent: list[Buffer] = []
        self._held: list[Buffer] = []

    def __len__(self) -> int:
        return len(self._buffers)

    def add(self, buffer: Buffer, now: float) -> None:
        """Carry the messages of a run that begins; it may have some already."""
        if not self._buffers:
            self._due.clear()
            self._next_sign = now + SIGN_INTERVAL
        buffer.heard = now
        self._buffers[buffer.run] = buffer
        self.look_at(buffer)

    def look_at(self, buffer: Buffer) -> None:
        """Note that an buffer has more to tell, or has it sooner."""
        due = buffer.due()
        if due is not None:
            heappush(self._due, (due, next(self._order), buffer))
            if self._due[0][2] is buffer:
                self._wake()

    def wait(self, now: float) -> float:
        """Return for how many seconds there is nothing to do."""
        due = self._next_sign
        if self._due:
            due = min(due, self._due[0][0])
        return max(0.0, due - now)

    def operations(self, now: float) -> list[Operation[Any]]:
        """Return what is to be sent now, together; then :meth:`settle` is due."""
        chosen: dict[str, Buffer] = {}
        while self._due and self._due[0][0] <= now:
            buffer = heappop(self._due)[2]
            due = buffer.due()
            if due is None or buffer.run in chosen or buffer.run not in self._buffers:
                continue
            if due <= now:
                chosen[buffer.run] = buffer
            else:
                heappush(self._due, (due, next(self._order), buffer))
        self._sent = list(chosen.values())
        self._held = []
        operations: list[Operation[Any]] = [buffer.take(now) for buffer in self._sent]
        if now >= self._next_sign:
            self._next_sign = now + SIGN_INTERVAL
            self._held = [
                each
                for each in self._buffers.values()
                if each.run not in chosen and now - each.heard >= SIGN_INTERVAL / 2
            ]
            if self._held:
                operations.append(HoldRuns([each.run for each in self._held]))
        return operations

    def settle(self, results: Sequence[Any], now: float) -> None:
        """Note what has come of those operations: an error for those that failed."""
        sent, held, self._sent, self._held = self._sent, self._held, [], []
        for buffer, result in zip(sent, results, strict=False):
            if isinstance(result, BrokerUnavailable):
                buffer.failed(result, now)
            else:
                buffer.told(result, now)
            self._after(buffer)
        if held and not isinstance(results[-1], BrokerUnavailable):
            for buffer, state in zip(held, results[-1], strict=True):
                buffer.heard = now
                buffer.is_now(state)
                self._after(buffer)

    def break_off(self, error: SinapseError) -> None:
        """Carry nothing more, for that reason."""
        for buffer in list(self._buffers.values()):
            buffer.break_off(error)
        self._buffers.clear()
        self._due.clear()

    def _after(self, buffer: Buffer) -> None:
        if buffer.is_over:
            self._buffers.pop(buffer.run, None)
        else:
            due = buffer.due()
            if due is not None:
                heappush(self._due, (due, next(self._order), buffer))
