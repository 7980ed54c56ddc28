"""Retained messages, read for many streams at once.

A reader names channels, and a counter to read after for each. One round of reads serves all waiting
readers: it reads each channel once, from the lowest counter that any of them wants, and all get
their part in the same turn of the reactor. So a thousand streams that come back together cost one
read a channel. Readers that are further on than a round has read get the next round for themselves:
none gets a message twice, or waits for one that is far behind.

History joins live messages exactly, because the hub's tape runs from before the read, and the part
is returned behind a barrier after it: by then every message that was read has been received as
well, and none of them can follow.
"""

import heapq
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import txredisapi
from twisted.internet.defer import Deferred

from sinapse.broker.lookup import Budget, LastIDs, Lookup, Page
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, InvalidPayload
from sinapse.hub.catchup import Dispatched
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Encoding
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message

#: Messages, and bytes, of one channel in one round: they bound what waits in memory.
PAGE_MESSAGES = 1000
PAGE_BYTES = 256 * 1024

#: Channels whose pages may be as large as that at once; with more, less is read of each.
FULL_PAGES = 10

#: Channels in one command: Redis does nothing else meanwhile.
CHANNELS_PER_READ = 100

#: Channels in one round, and so the messages in memory.
CHANNELS_PER_ROUND = 1000

#: Bodies of messages by their counters, and the places where streams go on after them.
Bodies: TypeAlias = dict[tuple[Encoding, int, EventID | None], bytes]


class Part(NamedTuple):
    """The part of a round for one reader."""

    gone: Mapping[bytes, int]
    """Channels on which a wanted message is no longer retained, and up to which counter."""
    entries: Sequence[Dispatched]
    """Messages in the order of their counters, across the channels."""
    after: int
    """The counter to read after in the next round: the entries have everything up to it."""
    more: bool
    """There is more to read; otherwise the entries go up to where the tape began."""
    tape: list[Dispatched]
    """Messages that were dispatched since the round began: they follow if there is no more."""
    bodies: Bodies
    """Bodies of messages, kept for all readers of the round."""


class Portion(NamedTuple):
    """Some of the messages that all have missed, in the order of counters."""

    gone: Mapping[bytes, int]
    """Channels on which a message before the end is no longer retained, and up to which one."""
    entries: list[Dispatched]
    """Messages that come before all that follow."""
    upto: int
    """The counter up to which there are no more."""


class _Request(NamedTuple):
    wants: Mapping[bytes, int]
    fired: "Deferred[Part]"


class _Round(NamedTuple):
    """What was read for all readers of a round."""

    upto: int
    pages: Mapping[bytes, Page]
    read: Mapping[bytes, list[Dispatched]]
    tape: list[Dispatched]
    bodies: Bodies

    def part(self, wants: Mapping[bytes, int]) -> Part:
        """Return the part that one reader wants."""
        pages = self.pages
        gone = {name: pages[name].gone for name, after in wants.items() if pages[name].gone > after}
        # If a channel has more, later messages of the others must wait for those, but not for those
        # that the reader does not want because it is further on.
        ends = [
            max(after, pages[name].entries[-1][0])
            for name, after in wants.items()
            if pages[name].more
        ]
        end = min(ends, default=self.upto)
        wanted = [
            between
            for name, after in wants.items()
            if (between := _between(self.read[name], after, end))
        ]
        entries = wanted[0] if len(wanted) == 1 else list(heapq.merge(*wanted, key=_counter))
        return Part(gone, entries, end, bool(ends), self.tape, self.bodies)


class History:
    """Reads for all readers.

    `barrier` returns when everything that Redis had done before has been handled; it raises
    :class:`~sinapse.errors.BrokerUnavailable`. `unpack` makes a message of a payload, or None of
    one that is too long; it raises :class:`~sinapse.errors.InvalidPayload`. `warn` logs what cannot
    be read.
    """

    def __init__(
        self,
        hub: Hub,
        counters: Counters,
        barrier: Callable[[], Awaitable[None]],
        unpack: Callable[[bytes], Message | None],
        warn: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._counters = counters
        self._barrier = barrier
        self._unpack = unpack
        self._warn = warn
        self._waiting: list[_Request] = []
        self._is_reading = False

    async def read(self, lookup: Lookup, wants: Mapping[bytes, int]) -> Part:
        """Return the next part of the messages of channels, each after its counter.

        Redis must have confirmed the subscription to every channel, so that what is published from
        now on arrives. Raises :class:`~sinapse.errors.BrokerUnavailable`.
        """
        fired: Deferred[Part] = Deferred()
        self._waiting.append(_Request(wants, fired))
        if not self._is_reading:
            self._is_reading = True
            Deferred.fromCoroutine(self._rounds(lookup))
        return await fired

    async def read_alone(
        self, lookup: Lookup, after: int, last_ids: LastIDs
    ) -> AsyncIterator[Portion]:
        """Yield the messages after a counter and up to `last_ids`, while no live ones come.

        The channels are those of the hub. It skips those without new messages, and reads none
        twice. Raises ``txredisapi.RedisError``.
        """
        unread = {name: after for name in self._hub.channels if last_ids.may_follow(name, after)}
        ahead: list[Dispatched] = []
        lost: dict[bytes, int] = {}
        end = after
        while unread:
            # With much in memory, read only what everything else waits for.
            is_full = len(ahead) > PAGE_MESSAGES * FULL_PAGES
            wants = {name: at for name, at in unread.items() if not is_full or at <= end}
            _, pages = await self._pages(lookup, wants, last_ids)
            for name, page in pages.items():
                if page.gone > unread[name]:
                    lost[name] = page.gone
                ahead += self._entries(name, page)
                if page.more:
                    unread[name] = page.entries[-1][0]
                else:
                    del unread[name]
            end = min(unread.values(), default=last_ids.position.counter)
            ahead.sort(key=_counter)
            count = sum(_counter(entry) <= end for entry in ahead)
            due = {name: at for name, at in lost.items() if at <= end or not unread}
            yield Portion(due, ahead[:count], end)
            lost = {name: at for name, at in lost.items() if name not in due}
            del ahead[:count]

    async def _rounds(self, lookup: Lookup) -> None:
        further: list[_Request] = []
        try:
            while further or self._waiting:
                requests = further or self._next_round()
                try:
                    further = await self._round(lookup, requests)
                except (txredisapi.RedisError, BrokerUnavailable) as error:
                    further = []
                    if not isinstance(error, txredisapi.ConnectionError | BrokerUnavailable):
                        self._warn(f"retained messages cannot be read: {error}")
                    for request in requests:
                        if not request.fired.called:
                            request.fired.errback(BrokerUnavailable(str(error)))
        finally:
            self._is_reading = False

    def _next_round(self) -> list[_Request]:
        """Take as many waiting requests as share a round, the oldest first."""
        requests = [self._waiting.pop(0)]
        channels = set(requests[0].wants)
        while self._waiting and len(channels | set(self._waiting[0].wants)) <= CHANNELS_PER_ROUND:
            requests.append(self._waiting.pop(0))
            channels |= set(requests[-1].wants)
        return requests

    async def _round(self, lookup: Lookup, requests: list[_Request]) -> list[_Request]:
        """Serve `requests`, and return those that start after everything that was read.

        The one that is the furthest behind is always served.
        """
        wants: dict[bytes, int] = {}
        for request in requests:
            for name, after in request.wants.items():
                wants[name] = min(after, wants.get(name, after))
        further = []
        with self._hub.tape() as tape:
            upto, pages = await self._pages(lookup, wants, None)
            await self._barrier()
            self._hub.reached(upto)
            read = {name: self._entries(name, page) for name, page in pages.items()}
            this = _Round(upto, pages, read, tape, {})
            for request in requests:
                if request.fired.called:  # Cancelled: its stream has ended.
                    continue
                part = this.part(request.wants)
                if part.more and part.after <= min(request.wants.values()):
                    further.append(request)
                else:
                    request.fired.callback(part)
        return further

    async def _pages(
        self, lookup: Lookup, wants: Mapping[bytes, int], last_ids: LastIDs | None
    ) -> tuple[int, dict[bytes, Page]]:
        """Read a page of each channel; returns the counter up to which, at the most.

        That is the end of what `last_ids` knows. Losses are only reported up to there: what Redis
        removes while other channels are read came after it.
        """
        pages: dict[bytes, Page] = {}
        if last_ids is None and len(wants) > CHANNELS_PER_READ:
            last_ids = await lookup.last_ids(wants)
            pages = {
                name: Page() for name, at in wants.items() if not last_ids.may_follow(name, at)
            }
        unread = [want for want in wants.items() if want[0] not in pages]
        upto = None if last_ids is None else last_ids.position.counter
        for start in range(0, max(1, len(unread)), CHANNELS_PER_READ):
            some = unread[start : start + CHANNELS_PER_READ]
            if not some and upto is not None:
                break
            share = FULL_PAGES * len(some), max(FULL_PAGES, len(unread))
            budget = Budget(
                PAGE_MESSAGES,
                PAGE_BYTES,
                PAGE_MESSAGES * share[0] // share[1],
                PAGE_BYTES * share[0] // share[1],
            )
            upto, answers = await lookup.history(some, upto, budget)
            self._counters.history_reads += len(some)
            for (name, _), page in zip(some, answers, strict=True):
                if page.error is not None:
                    self._counters.invalid_payloads += 1
                    channel = repr(name.decode(errors="replace"))
                    self._warn(f"channel {channel}: what is retained cannot be read: {page.error}")
                gone = page.gone if last_ids is None else min(page.gone, last_ids.last(name))
                pages[name] = page._replace(gone=gone)
        return upto or 0, pages

    def _entries(self, name: bytes, page: Page) -> list[Dispatched]:
        """Return what was read as messages, with ids of the current epoch.

        Counters go on from epoch to epoch; a former epoch may end at a later loss of data.
        """
        entries = []
        prefix = f"{self._hub.epoch}-"
        for counter, payload in page.entries:
            try:
                message = self._unpack(payload)
                if message is not None and not (message.id or "").startswith(prefix):
                    message = message._replace(id=f"{prefix}{counter}")
                entries.append(Dispatched(counter, name, message))
            except InvalidPayload:  # It was not published with our script.
                self._counters.invalid_payloads += 1
        return entries


def _between(entries: list[Dispatched], after: int, end: int) -> list[Dispatched]:
    """Return the entries after a counter, up to `end`; most readers want all of them."""
    if entries and after < _counter(entries[0]) and _counter(entries[-1]) <= end:
        return entries
    start = bisect_right(entries, after, key=_counter)
    return entries[start : bisect_right(entries, end, start, key=_counter)]


def _counter(entry: Dispatched) -> int:
    return entry.counter or 0
