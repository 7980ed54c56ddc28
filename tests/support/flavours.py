"""The same tests for every kind of publisher: each is used here like the plain one.

A publisher of asyncio runs on an event loop in a thread of its own, one of Twisted in a thread with
the reactor, and whoever calls it waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import cache, partial
from typing import Any, Self, TypeAlias, cast

from sinapse.publisher import Publisher, aio
from tests.support import EVENT_TIMEOUT

#: To a test every kind looks like this one.
Flavour: TypeAlias = type[Publisher]

#: Seconds for an operation that may take as long as a test is patient.
RESULT_TIMEOUT = 4 * EVENT_TIMEOUT


_starting = threading.Lock()


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    # It runs for as long as the tests do.
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="event loop", daemon=True).start()
    return loop


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the one event loop, whichever thread asks."""
    with _starting:
        return _event_loop()


def wait_for_coroutine(call: Callable[[], Any]) -> Any:
    """Run what `call` returns on the event loop, and return what comes of it."""

    async def run() -> Any:
        return await call()

    future: Future[Any] = asyncio.run_coroutine_threadsafe(run(), event_loop())
    return future.result(RESULT_TIMEOUT)


@cache
def _reactor() -> Any:
    from twisted.internet import reactor as _installed

    reactor: Any = _installed
    runs = threading.Event()
    reactor.callWhenRunning(runs.set)
    options = {"installSignalHandlers": False}
    threading.Thread(target=reactor.run, kwargs=options, name="reactor", daemon=True).start()
    assert runs.wait(EVENT_TIMEOUT)
    return reactor


def running_reactor() -> Any:
    """Return the reactor, which runs in a thread for as long as the tests do."""
    with _starting:
        return _reactor()


def stop_reactor() -> None:
    """End the reactor if it runs, so that its threads do not keep the process."""
    if _reactor.cache_info().currsize:
        reactor = running_reactor()
        stopped = threading.Event()
        reactor.addSystemEventTrigger("after", "shutdown", stopped.set)
        reactor.callFromThread(reactor.stop)
        assert stopped.wait(EVENT_TIMEOUT)


def wait_for_deferred(call: Callable[[], Any]) -> Any:
    """Run `call` in the thread of the reactor, and return what comes of its Deferred."""
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.threads import blockingCallFromThread

    def begin() -> Any:
        result = call()
        return ensureDeferred(result) if isinstance(result, Coroutine) else result

    return blockingCallFromThread(running_reactor(), begin)


class Waiting:
    """Stands for `target`, whose methods return something that `wait` knows how to wait for."""

    def __init__(self, target: Any, wait: Callable[[Callable[[], Any]], Any]) -> None:
        self._target = target
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name == "run":
            return lambda *values, **options: WaitingRun(value(*values, **options), self._wait)
        if name == "channels" and callable(value):  # Those of a group.
            return lambda *values, **options: Waiting(value(*values, **options), self._wait)
        if callable(value):
            return lambda *values, **options: self._wait(partial(value, *values, **options))
        if name in ("tokens", "sessions", "channels", "groups", "runs", "_connections"):
            return Waiting(value, self._wait)
        return value

    def __repr__(self) -> str:
        return repr(self._target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class WaitingRun(Waiting):
    """Stands for a run, whose block is used like one of the plain publisher."""

    def __enter__(self) -> Self:
        self._wait(self._target.__aenter__)
        return self

    def __exit__(self, *exception: object) -> Any:
        return self._wait(partial(self._target.__aexit__, *exception))


def awaited(*values: Any, **options: Any) -> Waiting:
    """Return a publisher of asyncio."""
    return Waiting(aio.Publisher(*values, **options), wait_for_coroutine)


def deferred(
    *values: Any,
    max_connections: int = 1,  # There is one: commands follow each other on it.
    **options: Any,
) -> Waiting:
    """Return a publisher of Twisted."""
    from sinapse.publisher import tx

    publisher = tx.Publisher(*values, reactor=running_reactor(), **options)
    return Waiting(publisher, wait_for_deferred)


FLAVOURS: dict[str, Flavour] = {
    "sync": Publisher,
    "aio": cast(Flavour, awaited),
    "twisted": cast(Flavour, deferred),
}
