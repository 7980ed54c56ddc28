"""Several Redis as one, with the channels spread over them: see :mod:`sinapse.protocol.sharding`.

Each has a broker of its own, which is as exact as with one Redis. All that are there admit a
stream, and it has a member in the hub of each: a :class:`~sinapse.broker.bundle.Bundle`. For those
that are away it is late: see :mod:`sinapse.broker.late`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle, Member
from sinapse.broker.bundles import Bundles
from sinapse.broker.interface import (
    Admission,
    Admitted,
    ExpiryTold,
    Holder,
    Opened,
    Streaming,
)
from sinapse.broker.late import same
from sinapse.broker.lookup import MayBeElsewhere, TokenEntry
from sinapse.errors import BrokerUnavailable, SinapseError, Unauthorized
from sinapse.hub.subscribers import Subject
from sinapse.protocol.ids import UNKNOWN, Past
from sinapse.protocol.places import join
from sinapse.protocol.redislist import shards_of
from sinapse.protocol.redisurl import RedisURL


class MakeBroker(Protocol):
    """Makes the broker of one Redis of several."""

    def __call__(
        self,
        url: RedisURL,
        *,
        keeps: Callable[[Member], bool],
        emptied: Callable[[Subject], None],
    ) -> RedisBroker[Member]:
        """Return a broker: see :class:`~sinapse.broker.broker.RedisBroker`."""


class ShardedBroker(Bundles[Streaming], MultiService):
    """The Redis at `urls`, each with a broker of `make`.

    It is a :class:`~sinapse.broker.interface.Broker`. A stream opens when the one is there that
    keeps its token, and gets what the others have when they are back. It is ready while `least` of
    them are there, as a part of 1. `admits_empty` is as for the brokers that `make` returns.
    """

    def __init__(
        self,
        urls: Sequence[RedisURL],
        make: MakeBroker,
        *,
        least: float,
        admits_empty: bool = False,
        reactor: Any,
    ) -> None:
        MultiService.__init__(self)
        shards = shards_of(urls)
        self._least = max(1, math.ceil(least * len(urls)))
        with_token = attrgetter("is_with_token")
        parts = tuple(make(url, keeps=with_token, emptied=self._emptied) for url in urls)
        Bundles.__init__(self, parts, shards, admits_empty=admits_empty, reactor=reactor)
        for part in parts:
            part.setServiceParent(self)

    def startService(self) -> None:  # noqa: N802
        """Connect to each of them."""
        self._degraded.start()
        super().startService()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Disconnect from each of them."""
        self._degraded.stop()
        stopped: Deferred[None] = super().stopService()
        return stopped

    @property
    def ready(self) -> bool:
        """Whether enough are connected, subscribed, reconciled and caught up."""
        return sum(part.ready for part in self.parts) >= self._least

    @property
    def parts_ready(self) -> Mapping[str, bool]:
        """By the name of each Redis, whether it is."""
        return {name: part.ready for name, part in zip(self._shards.names, self.parts, strict=True)}

    @property
    def state(self) -> str:
        """The state of all connections, in words."""
        states = [part.state for part in self.parts]
        if len(set(states)) == 1:
            return states[0]
        return "; ".join(
            f"{number}: {state}" for number, state in zip(self._shards.names, states, strict=True)
        )

    async def when_ready(self) -> None:
        """Return when each of them has been ready."""
        for part in self.parts:
            await part.when_ready()

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up the channels of `token`: first where it is kept, then where it can be.

        Raises :class:`~sinapse.errors.BrokerUnavailable` if the Redis that keeps it is away.
        """
        admitted: dict[int, Admitted] = {}
        try:
            keeper, entry = await self._admit_everywhere(admitted, token)
        except BaseException:
            for number, part in admitted.items():
                self._hubs[number].abandon(part.joining)
            raise
        return Admission(token, Holder(entry.subject, entry.only), entry.expires, admitted, keeper)

    async def _admit_everywhere(
        self, admitted: dict[int, Admitted], token: bytes
    ) -> tuple[int, TokenEntry]:
        """Let all that are there admit a stream; returns the keeper of the token, and its entry."""
        keeper, entry = await self._admit_at_keeper(admitted, token)
        holder = Holder(entry.subject, entry.only)
        others = [number for number in range(len(self.parts)) if number not in admitted]
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [
                Deferred.fromCoroutine(self._admit(admitted, number, token, holder))
                for number in others
            ],
            consumeErrors=True,
        )
        for is_admitted, outcome in outcomes:
            if not is_admitted and not outcome.check(BrokerUnavailable):
                outcome.raiseException()
        # During the last look-up, the first connection may have been lost.
        for number in list(admitted):
            if self.parts[number].vouches_for(admitted[number]):
                continue
            if number == keeper:
                raise BrokerUnavailable(self.parts[keeper].state)
            self._hubs[number].abandon(admitted.pop(number).joining)
        return keeper, entry

    async def _admit_at_keeper(
        self, admitted: dict[int, Admitted], token: bytes
    ) -> tuple[int, TokenEntry]:
        """Let that one admit a stream which keeps its token: mostly the first that is asked."""
        number = self._shards.home(token)
        try:
            entry = await self._admit(admitted, number, token, None)
            if self._shards.home(entry.subject) == number:
                return number, entry
        except (Unauthorized, BrokerUnavailable) as error:
            if not self._may_be_elsewhere(error):
                raise
        keeper, entry = await self._locate(token)
        if keeper not in admitted:
            entry = await self._admit(admitted, keeper, token, None)
        return keeper, entry

    async def _locate(self, token: bytes) -> tuple[int, TokenEntry]:
        """Return which one keeps `token`, and what it knows of it; raises as :meth:`admit` does.

        It is the home of its subject, if that has it: after a move others may have what was right
        before. A token that was drawn for other homes may be in any of them.
        """
        number = self._shards.home(token)
        try:
            entry = await self.parts[number].look_up(token)
        except (Unauthorized, BrokerUnavailable) as error:
            if not self._may_be_elsewhere(error):
                raise
            number, entry = await self._find(token, number, error)
        home = self._shards.home(entry.subject)
        if home != number:
            try:
                return home, await self.parts[home].look_up(token)
            except Unauthorized:
                pass
        return number, entry

    def _may_be_elsewhere(self, error: SinapseError) -> bool:
        """Whether another one may keep a token that one does not know, or cannot look up.

        It says so itself, unless it is away or has lost its data: then any other one says it.
        """
        return isinstance(error, MayBeElsewhere) or any(
            part.tokens_have_moved for part in self.parts
        )

    async def _find(self, token: bytes, but: int, error: SinapseError) -> tuple[int, TokenEntry]:
        """Return which one knows `token`, and what; not the one that has answered by `error`."""
        others = [number for number in self._shards.homes if number != but]
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [Deferred.fromCoroutine(self.parts[number].look_up(token)) for number in others],
            consumeErrors=True,
        )
        failures = [error] if isinstance(error, BrokerUnavailable) else []
        for number, (is_known, outcome) in zip(others, outcomes, strict=True):
            if is_known:
                return number, outcome
            if not outcome.check(Unauthorized):
                failures.append(outcome.value)
        if failures:  # One of those that cannot say may have it.
            raise failures[0]
        raise Unauthorized("unknown token")

    async def _admit(
        self, admitted: dict[int, Admitted], number: int, token: bytes, known: Holder | None
    ) -> TokenEntry:
        admitted[number], entry = await self.parts[number].admit_here(token, known)
        return entry

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used, or has been."""
        for number, part in admission.parts.items():
            self._hubs[number].abandon(part.joining)

    def place_before_past(self, admission: Admission) -> str | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any.

        It is one of the stream in those Redis where there is some, or may be: of those that are
        away it gets what they have published since the node lost them.
        """
        parts = {
            number: self._hubs[number].place_before_past(part.joining)
            for number, part in admission.parts.items()
        }
        if len(parts) == len(self.parts) and not any(parts.values()):
            return None
        here = self._here()
        for number in self._absent(admission):
            is_known = here[number] != UNKNOWN
            parts[number] = here[number]._replace(past=Past(0, of_all=True)) if is_known else None
        return join(self._shards, (parts[number] or place for number, place in enumerate(here)))

    def _absent(self, admission: Admission) -> list[int]:
        """Return the numbers of the Redis that have not admitted a stream."""
        return [number for number in range(len(self.parts)) if number not in admission.parts]

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes, a member of each hub that has admitted it."""
        joinings = {number: part.joining for number, part in admission.parts.items()}
        absent = self._absent(admission)
        try:
            # All of them: the token may be revoked, and what waits is to be sent first.
            expected = [self._hubs[number].expected(each) for number, each in joinings.items()]
            is_empty = not absent and all(each.is_empty for each in expected)
            if is_empty and not self._admits_empty:
                raise Unauthorized("no channels")
            stream = make()
            bundle = Bundle(
                stream,
                self._framing(stream.framing),
                self._tagged(self._here()),
                keeper=admission.keeper,
            )
            self._bundles[stream] = bundle
            for number, joining in joinings.items():
                # In this turn of the reactor nothing can have changed.
                self._hubs[number].open(joining, partial(same, bundle.members[number]), live=live)
            for number in absent:
                self._late[number].add(bundle, admission.holder)
            self._degraded.opened(bundle)
        finally:
            self.withdraw(admission)
        return stream

    async def expiry(self, token: bytes) -> float | None:
        """Return when `token` expires; raises as :meth:`admit` does."""
        _, entry = await self._locate(token)
        return entry.expires

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Call `told` whenever the expiry of a token of open streams is read again."""
        for part in self.parts:
            part.tell_expiry_to(told)
