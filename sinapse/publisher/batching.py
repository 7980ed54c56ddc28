"""Batching of threads: what they publish while a round trip is under way is sent by the next."""

from _thread import LockType
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Lock, RLock, get_ident
from time import monotonic
from typing import Any
from weakref import WeakMethod

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.operations.batches import (
    PATIENCE,
    UNANSWERED,
    Batches,
    Call,
    Send,
    alive,
    fail,
    messages_of,
    settle,
)
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import unavailable

#: Seconds between two looks of a thread that waits for others; it is woken before.
_LOOK = 1.0


def _release(lock: LockType) -> None:
    with suppress(RuntimeError):  # It was released before, and nobody has noticed yet.
        lock.release()


class Batching:
    """The messages that the threads of one process want to send, and `send`, which does so.

    One of those that wait sends for all; a thread that is alone does not wait. `url` is that of
    their Redis, for errors; `patience` is for how many seconds a call waits for others.
    """

    def __init__(self, url: RedisURL, send: "WeakMethod[Send]", patience: float) -> None:
        self._url = url
        self._patience = patience
        self._send = send
        self._batches = Batches()
        # A signal handler may publish too, in the midst of its thread.
        self._lock = RLock()
        #: The threads that are here, each with the messages that it sends for itself alone.
        self._inside: dict[int, Sequence[Publish]] = {}

    def publish(self, messages: Sequence[Publish]) -> list[Any]:
        """Return the result of each."""
        thread = get_ident()
        if thread in self._inside:
            # In a signal handler: its thread cannot wait for itself.
            return alive(self._send)(messages)
        call: Call | None = None
        calls: list[Call] = []
        try:
            self._inside[thread] = ()
            # Who is alone pays for nothing that only others need.
            with self._lock:
                is_alone = self._batches.is_idle
                if is_alone:
                    self._inside[thread] = messages
                    self._batches.begin(messages)
            if is_alone:
                return alive(self._send)(messages)
            call = Call(messages, monotonic())
            self._send_or_wait(call, calls)
            return call.results()
        finally:
            # Whatever has interrupted it, and wherever: nobody waits for this thread. A second
            # signal may come here: then this begins again. It is no function of its own, which a
            # signal could interrupt before its first line.
            interruption = None
            while True:
                try:
                    if call is not None and (calls or not call.is_settled):
                        text = "the thread that sent was interrupted"
                        fail(calls, unavailable(self._url, text, delivered=None))
                        self._end(calls, call)
                    elif alone := self._inside.get(thread):
                        self._end_alone(alone)
                    self._inside.pop(thread, None)
                    break
                except BaseException as error:  # noqa: BLE001
                    interruption = error
            if interruption is not None:
                raise interruption

    def _send_or_wait(self, call: Call, calls: list[Call]) -> None:
        """Return when `call` is settled; `calls` are those that this thread is sending."""
        # A condition, or an event of threading, is of no use after an interruption.
        asleep = Lock()
        asleep.acquire()
        call.wake = partial(_release, asleep)
        with self._lock:
            is_free = self._batches.is_idle
            self._batches.put(call)
            if is_free:
                self._batches.take(calls)
        patience = PATIENCE
        while True:
            if calls:
                self._deliver(calls)
            if call.is_settled:
                return
            asleep.acquire(timeout=patience)
            patience = _LOOK
            with self._lock:
                late = self._batches.withdraw_before(monotonic() - self._patience)
                if not call.is_settled and call not in late:
                    self._batches.take(calls)
            fail(late, unavailable(self._url, UNANSWERED))

    def _deliver(self, calls: list[Call]) -> None:
        try:
            settle(calls, alive(self._send)(messages_of(calls)))
        except BrokerUnavailable as error:
            fail(calls, error)
        self._end(calls)

    def _end_alone(self, messages: Sequence[Publish]) -> None:
        with self._lock:
            self._batches.end_of(messages)
            following = self._batches.first()
        if following is not None:
            following.wake()

    def _end(self, calls: list[Call], gone: Call | None = None) -> None:
        """Free the channels of calls, and let one of those that wait send."""
        with self._lock:
            self._batches.end(calls)
            if gone is not None:
                self._batches.withdraw(gone)
            calls.clear()
            following = self._batches.first()
        if following is not None:
            following.wake()
