"""Retained messages, read for many at once.

Whoever wants to read says which channels, and after which counters. All who wait are served by one
round of reads: each channel is read once, from the lowest counter that any of them wants, and all
get their part in the same turn of the reactor. So a thousand streams that come back together cost
one read a channel.

History joins live messages exactly, because the hub's tape runs from before the read, and the part
is handed out behind a barrier after it: by then everything that was read has been heard as well,
and nothing of it can follow.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

import txredisapi
from twisted.internet.defer import Deferred

from sinapse.broker.lookup import Lookup, Page
from sinapse.catchup import Dispatched
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, InvalidPayload
from sinapse.hub import Hub
from sinapse.message import unpack

#: Messages, and bytes, of one channel in one round: what waits in memory is bounded by that.
PAGE_MESSAGES = 1000
PAGE_BYTES = 256 * 1024

#: Channels in one command: Redis does nothing else meanwhile.
CHANNELS_PER_READ = 100

#: Channels in one round, and so the messages in memory.
CHANNELS_PER_ROUND = 1000


class Part(NamedTuple):
    """What somebody gets of a round."""

    gone: set[bytes]
    """Channels on which a message that was wanted is no longer retained."""
    entries: list[Dispatched]
    """Messages in the order of their counters, across the channels."""
    after: int
    """The counter to read after in the next round: everything up to it is in the entries."""
    more: bool
    """There is more to read; otherwise the entries go up to where the tape began."""
    upto: int
    """The counter at the instant of reading, up to which there is more."""
    tape: list[Dispatched]
    """What was dispatched since the round began, to go on with if there is no more."""


class _Request(NamedTuple):
    wants: Mapping[bytes, int]
    fired: "Deferred[Part]"


class History:
    """Reads for all who ask.

    `barrier` returns when everything that Redis had done before has been handled; it raises
    :class:`~sinapse.errors.BrokerUnavailable`.
    """

    def __init__(
        self, hub: Hub, counters: Counters, barrier: Callable[[], Awaitable[None]]
    ) -> None:
        self._hub = hub
        self._counters = counters
        self._barrier = barrier
        self._waiting: list[_Request] = []
        self._is_reading = False

    async def read(self, lookup: Lookup, wants: Mapping[bytes, int]) -> Part:
        """Return the next part of the messages of channels, each after its counter.

        Every channel must be subscribed to, confirmed, so that what is published from now on
        arrives. Raises :class:`~sinapse.errors.BrokerUnavailable`.
        """
        fired: Deferred[Part] = Deferred()
        self._waiting.append(_Request(wants, fired))
        if not self._is_reading:
            self._is_reading = True
            Deferred.fromCoroutine(self._rounds(lookup))
        return await fired

    async def read_alone(self, lookup: Lookup, wants: Mapping[bytes, int], upto: int) -> Part:
        """Return the next part up to the counter `upto`, while nothing is heard.

        Raises ``txredisapi.RedisError``.
        """
        upto, pages = await self._pages(lookup, list(wants.items()), upto)
        read = {name: self._unpack(name, page) for name, page in pages.items()}
        return _part(wants, upto, pages, read, [])

    async def _rounds(self, lookup: Lookup) -> None:
        try:
            while self._waiting:
                requests = self._next_round()
                try:
                    await self._round(lookup, requests)
                except (txredisapi.RedisError, BrokerUnavailable) as error:
                    for request in requests:
                        if not request.fired.called:
                            request.fired.errback(BrokerUnavailable(str(error)))
        finally:
            self._is_reading = False

    def _next_round(self) -> list[_Request]:
        """Take from those who wait, the first come first, as many as share a round."""
        requests = [self._waiting.pop(0)]
        channels = set(requests[0].wants)
        while self._waiting and len(channels | set(self._waiting[0].wants)) <= CHANNELS_PER_ROUND:
            requests.append(self._waiting.pop(0))
            channels |= set(requests[-1].wants)
        return requests

    async def _round(self, lookup: Lookup, requests: list[_Request]) -> None:
        wants: dict[bytes, int] = {}
        for request in requests:
            for name, after in request.wants.items():
                wants[name] = min(after, wants.get(name, after))
        with self._hub.tape() as tape:
            upto, pages = await self._pages(lookup, list(wants.items()), None)
            await self._barrier()
            self._hub.reached(upto)
            read = {name: self._unpack(name, page) for name, page in pages.items()}
            for request in requests:
                part = _part(request.wants, upto, pages, read, tape)
                if not request.fired.called:  # Cancelled: its stream has ended.
                    request.fired.callback(part)

    async def _pages(
        self, lookup: Lookup, wants: list[tuple[bytes, int]], upto: int | None
    ) -> tuple[int, dict[bytes, Page]]:
        pages: dict[bytes, Page] = {}
        # With many channels, less of each, and at least one message.
        count = max(1, PAGE_MESSAGES * 10 // max(10, len(wants)))
        size = max(1, PAGE_BYTES * 10 // max(10, len(wants)))
        for start in range(0, max(1, len(wants)), CHANNELS_PER_READ):
            some = wants[start : start + CHANNELS_PER_READ]
            upto, answers = await lookup.history(some, upto, count, size)
            self._counters.history_reads += len(some)
            pages.update(zip((name for name, _ in some), answers, strict=True))
        return upto or 0, pages

    def _unpack(self, name: bytes, page: Page) -> list[Dispatched]:
        entries = []
        for counter, payload in page.entries:
            try:
                entries.append(Dispatched(counter, name, unpack(payload)))
            except InvalidPayload:  # Whoever wrote that did not publish it with our script.
                self._counters.invalid_payloads += 1
        return entries


def _part(
    wants: Mapping[bytes, int],
    upto: int,
    pages: Mapping[bytes, Page],
    read: Mapping[bytes, list[Dispatched]],
    tape: list[Dispatched],
) -> Part:
    """Cut out of a round what one reader wants."""
    gone = {name for name, after in wants.items() if pages[name].gone > after}
    # Where a channel has more, later messages of the others must wait for those.
    ends = [pages[name].entries[-1][0] for name in wants if pages[name].more]
    end = min(ends, default=upto)
    wanted: Iterable[list[Dispatched]] = (
        [entry for entry in read[name] if after < (entry.counter or 0) <= end]
        for name, after in wants.items()
    )
    entries = list(heapq.merge(*wanted, key=lambda entry: entry.counter or 0))
    return Part(gone, entries, end, bool(ends), upto, tape)
