"""Runs for threads: ``publisher.run`` and ``publisher.runs``."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Self

from sinapse.errors import BrokerUnavailable, RunOver
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.identity import SubjectId
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.operations.runs import GetRun, RunStatus, StopRun
from sinapse.publisher.process import OfThisProcess
from sinapse.publisher.runs.block import Block
from sinapse.publisher.runs.buffer import Buffer
from sinapse.publisher.runs.courier import Courier


class Carrier:
    """A thread for all runs of this process in one Redis, which ends with the last of them.

    A piece must not wait for the next one, and a run lives while its own thread is busy with
    something else: so neither can be left to the thread that sends.
    """

    def __init__(self, connections: Runner) -> None:
        #: Whoever touches the courier, or what it carries, holds this: not with a Condition, whose
        #: own code a signal can interrupt while it holds the lock.
        self.lock: Lock = Lock()
        self.courier: Courier = Courier(lambda: self._woken.put(None))
        self._connections = connections
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._is_running = False
        self._turn = Lock()

    def begin(self, buffer: Buffer) -> None:
        """Carry the messages of a run."""
        with self.lock:
            self.courier.add(buffer, monotonic())
            is_idle, self._is_running = not self._is_running, True
        if is_idle:
            try:
                Thread(target=self._carry, name="sinapse runs", daemon=True).start()
            except BaseException:
                self._is_running = False
                raise

    def _carry(self) -> None:
        # An exception in the midst of starting may have left one running.
        with self._turn:
            try:
                while self._go_on():
                    pass
            except BaseException as error:
                with self.lock:
                    self._is_running = False
                    self.courier.break_off(BrokerUnavailable(f"runs are not carried: {error!r}"))
                raise

    def _go_on(self) -> bool:
        with self.lock:
            if not self.courier:
                self._is_running = False
                return False
            seconds = self.courier.wait(monotonic())
        with suppress(Empty):
            self._woken.get(timeout=seconds)
            while True:
                self._woken.get_nowait()
        with self.lock:
            operations = self.courier.operations(monotonic())
        if operations:
            results = self._connections.run_each(operations)
            with self.lock:
                self.courier.settle(results, monotonic())
        return True


class Run(Block):
    """A run, for a ``with`` block; its pieces are shown as they are sent, and to who comes later.

    ::

        with publisher.run(user_id, name="report") as run:
            for done in work():
                run.send({"done": done})

    When the block ends, pages are told ``end``; if it raises, ``error`` with the text that was
    given, never that of the exception. An exception goes on its way, but for the
    :class:`~sinapse.errors.RunStopped` of a run that was stopped. Threads may share a run. A forked
    child cannot use that of its parent.
    """

    def __init__(
        self, runs: "Runs", subject: SubjectId, name: str, retain: float, error_text: str
    ) -> None:
        super().__init__(subject, name, retain, error_text, runs.max_message)
        self._runs = runs
        self._process = os.getpid()
        self._carrier: Carrier

    def send(self, piece: object) -> None:
        """Send `piece`, anything that JSON can carry; pieces arrive in their order, each once.

        The first one goes out at once; those that come within 40 ms of a message are one message.
        It returns while the piece is on its way; if 64 KiB of pieces wait for Redis, it waits too.

        Raises :class:`~sinapse.errors.InvalidMessage` or :class:`~sinapse.errors.MessageTooLarge`
        before the piece is sent; :class:`~sinapse.errors.RunStopped` if the run was stopped,
        :class:`~sinapse.errors.RunLost` if the process gave no sign of life for too long, and
        :class:`~sinapse.errors.RunOver` after the end;
        :class:`~sinapse.errors.BrokerUnavailable` if pieces have waited for Redis for 30 seconds:
        then nothing more can be sent in this run.
        """
        self._until(self._putting(piece))

    def flush(self) -> None:
        """Wait until Redis has all that was sent; raises as :meth:`send`."""
        self._until(self._flushing())

    def fail(self, text: str) -> None:
        """End the run: pages are told ``error`` with this `text`. Raises as :meth:`send`."""
        self._until(self._failing(text))
        self._left(None)

    def __enter__(self) -> Self:
        connections, beginning = self._runs.connections, self._beginning()
        self._carrier = self._runs.carrier(self.channel)
        self._courier = self._carrier.courier
        try:
            complete(connections.run_each(beginning))
        except BaseException as error:
            if self._may_have_begun(error):
                self._buffer.end(self._error)
                self._carrier.begin(self._buffer)
            raise
        self._carrier.begin(self._buffer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._process != os.getpid():
            return False  # The block of the parent goes on.
        self._until(self._leaving(error))
        return self._left(error)

    def _check(self) -> None:
        if self._process != os.getpid():
            raise RunOver(f"the run {self.id} is that of a different process")
        super()._check()

    def _until(self, attempt: Callable[[], bool]) -> None:
        while True:
            with self._carrier.lock:
                if attempt():
                    return
                changed: SimpleQueue[None] = SimpleQueue()
                self._buffer.waiting.append(partial(changed.put, None))
            changed.get()


class Runs:
    """``publisher.runs``: runs of all processes, by their ids.

    Every operation raises ``ValueError`` for what is no text, and
    :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses. To know an id is no
    permission: look at the ``subject`` that :meth:`get` returns before a user may stop a run.
    """

    def __init__(self, connections: Runner, shards: Shards, max_message: int) -> None:
        self._connections = connections
        self.max_message = max_message
        self._shards = shards
        self._carriers = OfThisProcess(lambda: [Carrier(connections) for _ in shards.names])

    @property
    def connections(self) -> Runner:
        """What carries operations out; raises ``ValueError`` if that is the HTTP API."""
        if not self._shards.names:
            raise ValueError("runs need Redis: this publisher has the HTTP API in its place")
        return self._connections

    def get(self, run: str) -> RunStatus | None:
        """Return what Redis knows of a run; None for one that it does not know, or no longer."""
        return self.connections.run(GetRun(run))

    def stop(self, run: str) -> bool:
        """Stop a run, whichever process it is in; return whether it was running.

        Pages are told ``stopped``, and nothing that comes after that. The process knows it within a
        second: its ``run.stopped`` is true, and ``send`` raises
        :class:`~sinapse.errors.RunStopped`.
        """
        return self.connections.run(StopRun(run))

    def carrier(self, channel: str) -> Carrier:
        """Return what carries the messages of a run with that channel."""
        return self._carriers()[self._shards.of(channel.encode())]
