"""Batching on Twisted: what is published in one turn of the reactor is sent together."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakMethod

from twisted.internet.defer import Deferred, DeferredList

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.operations.batches import (
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


class Batching:
    """The messages that callers in the reactor's thread want to send, and `send`, which does so.

    All is sent on one connection, in the order of the calls, so that a batch waits for no answers.
    `url` is that of their Redis, for errors.
    """

    def __init__(self, url: RedisURL, send: "WeakMethod[AwaitedSend]", reactor: Any) -> None:
        self._url = url
        self._send = send
        self._reactor = reactor
        self._batches = Batches()
        self._under_way: set[Deferred[None]] = set()

    async def publish(self, messages: Sequence[Publish]) -> list[Any]:
        """Return the result of each; who is cancelled takes back what was not sent yet."""
        settled: Deferred[None] = Deferred()
        call = Call(messages)
        call.wake = partial(settled.callback, None)
        if not self._batches:
            self._reactor.callLater(0, self.begin)
        self._batches.put(call)
        try:
            await settled
        except BaseException:  # Cancelled; a Deferred ignores the one result that comes later.
            self._batches.withdraw(call)
            raise
        return call.results()

    def begin(self) -> None:
        """Send what waits."""
        while self._batches:
            calls: list[Call] = []
            self._batches.take(calls)
            sent = Deferred.fromCoroutine(self._deliver(calls))
            # The connection keeps the order.
            self._batches.end(calls)
            if not sent.called:
                self._under_way.add(sent)
                sent.addBoth(self._ended, sent)

    async def finish(self) -> None:
        """Send what waits, and return when there are answers to all that was sent."""
        self.begin()
        await DeferredList(list(self._under_way))

    def _ended(self, _: object, sent: Deferred[None]) -> None:
        self._under_way.discard(sent)

    async def _deliver(self, calls: Sequence[Call]) -> None:
        try:
            settle(calls, await alive(self._send)(messages_of(calls)))
        except BrokerUnavailable as error:
            fail(calls, error)
        except BaseException as error:  # noqa: BLE001  # The callers get it.
            text = f"what was sent failed: {type(error).__name__}"
            unknown = unavailable(self._url, text, delivered=None)
            unknown.__cause__ = error
            fail(calls, unknown)
