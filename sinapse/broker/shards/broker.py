"""Several Redis, as the daemon sees them: a stream is admitted by all."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList

from sinapse.broker.broker import Admission, Broker
from sinapse.broker.interface import ExpiryTold
from sinapse.broker.lookup import TokenEntry
from sinapse.broker.shards.hub import ShardedHub, ShardedJoining
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.sharding import shard_of


class ShardedEntry(NamedTuple):
    """What is known of a token."""

    subject: bytes
    expires: float | None
    """When it does, on the monotonic clock; None if it does not."""


class ShardedAdmission(NamedTuple):
    """Leave to open a stream, to be used in the very turn of the reactor that brought it."""

    joining: ShardedJoining
    entry: ShardedEntry


class ShardedBroker(MultiService):
    """The brokers. A stream opens when all are there; one that is open does without."""

    def __init__(self, brokers: Sequence[Broker], hub: ShardedHub) -> None:
        super().__init__()
        self._brokers = tuple(brokers)
        self._hub = hub
        for number, broker in enumerate(self._brokers):
            broker.setServiceParent(self)
            broker.is_home = partial(self._is_home, number)

    @property
    def ready(self) -> bool:
        """Whether all are connected, subscribed, reconciled and caught up."""
        return all(broker.ready for broker in self._brokers)

    @property
    def state(self) -> str:
        """How they are, in words."""
        states = [broker.state for broker in self._brokers]
        if len(set(states)) == 1:
            return states[0]
        return "; ".join(f"{number}: {state}" for number, state in enumerate(states))

    async def admit(self, token: bytes) -> ShardedAdmission:
        """Look up who may listen to what: see :meth:`sinapse.broker.broker.Broker.admit`.

        First where the token is, then everywhere else.
        """
        admissions: dict[int, Admission] = {}
        try:
            entry = await self._admit_everywhere(admissions, token)
        except BaseException:
            for number, admission in admissions.items():
                self._brokers[number].withdraw(admission)
            raise
        ordered = [admissions[number] for number in range(len(self._brokers))]
        joining = ShardedJoining(token, tuple(each.joining for each in ordered))
        return ShardedAdmission(joining, ShardedEntry(entry.subject, entry.expires))

    async def _admit_everywhere(self, admissions: dict[int, Admission], token: bytes) -> TokenEntry:
        home = self._home(token)
        entry = (await self._admit(admissions, home, token, None)).entry
        others = [number for number in range(len(self._brokers)) if number != home]
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [
                Deferred.fromCoroutine(self._admit(admissions, number, token, entry.subject))
                for number in others
            ],
            consumeErrors=True,
        )
        for is_admitted, outcome in outcomes:
            if not is_admitted:
                outcome.raiseException()
        # While the last one was waited for, the first may have been lost.
        for number, broker in enumerate(self._brokers):
            if not broker.vouches_for(admissions[number]):
                raise BrokerUnavailable(broker.state)
        return entry

    async def _admit(
        self, admissions: dict[int, Admission], number: int, token: bytes, subject: bytes | None
    ) -> Admission:
        admission = admissions[number] = await self._brokers[number].admit(token, subject)
        return admission

    def withdraw(self, admission: ShardedAdmission) -> None:
        """Give back leave that is not used."""
        self._hub.abandon(admission.joining)

    async def look_up(self, token: bytes) -> TokenEntry:
        """Return what Redis knows of `token`; raises as :meth:`admit` does."""
        return await self._brokers[self._home(token)].look_up(token)

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Tell when tokens expire: see :meth:`sinapse.broker.broker.Broker.tell_expiry_to`."""
        for broker in self._brokers:
            broker.tell_expiry_to(told)

    def _is_home(self, number: int, token: bytes) -> bool:
        return self._home(token) == number

    def _home(self, token: bytes) -> int:
        return shard_of(token, len(self._brokers))
