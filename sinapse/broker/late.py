"""Streams that have opened while one of several Redis was away.

What they may hear there comes when it is back: each then joins the hub of that Redis in the steps
of a stream that opens, and resumes from the place that it had. So it is exact in the same way.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle, Member
from sinapse.broker.interface import Admitted, Holder
from sinapse.errors import BrokerUnavailable, CloseReason, LimitReached, Unauthorized
from sinapse.protocol.ids import EventID

#: Streams that join at once, so that others, and messages, have a turn.
AT_ONCE = 64

Same = TypeVar("Same")


class _Waiting(NamedTuple):
    """What a stream needs to join."""

    holder: Holder
    place: EventID | None
    """After which it resumes; None if it goes on from the moment of joining."""


class LateStreams:
    """Those of the Redis of `part`, which has the number `shard`.

    `joined` is called with a stream that has joined, `ended` with one that cannot, and why.
    """

    _log = Logger()

    def __init__(
        self,
        part: RedisBroker[Member],
        shard: int,
        joined: Callable[[Bundle], None],
        ended: Callable[[Bundle, CloseReason], None],
    ) -> None:
        self._part = part
        self._shard = shard
        self._joined = joined
        self._ended = ended
        self._waiting: dict[Bundle, _Waiting] = {}
        self._is_running = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, bundle: object) -> bool:
        return bundle in self._waiting

    def add(self, bundle: Bundle, holder: Holder) -> None:
        """Let a stream join as soon as this Redis is there."""
        self._waiting[bundle] = _Waiting(holder, None)
        if not self._is_running:
            self._is_running = True
            Deferred.fromCoroutine(self._run()).addErrback(self._failed)

    def resume(self, bundle: Bundle, place: EventID) -> None:
        """Let a stream that waits get what follows `place`, which may be unknown."""
        self._waiting[bundle] = self._waiting[bundle]._replace(place=place)

    def discard(self, bundle: Bundle) -> None:
        """Forget a stream that has ended."""
        self._waiting.pop(bundle, None)

    async def _run(self) -> None:
        failures = 0
        try:
            while self._waiting:
                await self._part.when_ready(failures)
                some = list(islice(self._waiting, AT_ONCE))
                done = await gatherResults(
                    [Deferred.fromCoroutine(self._join(bundle)) for bundle in some]
                )
                failures = 0 if any(done) else failures + 1
        finally:
            self._is_running = False

    async def _join(self, bundle: Bundle) -> bool:
        """Let a stream join; returns whether nothing is left to do for it."""
        waiting = self._waiting.get(bundle)
        if waiting is None:
            return True
        try:
            admitted, _ = await self._part.admit_here(bundle.stream.token, waiting.holder)
        except BrokerUnavailable:
            return self._postpone(bundle)
        except Unauthorized:
            self._end(bundle, CloseReason.REVOKED)
        except LimitReached:
            self._end(bundle, CloseReason.TOO_MANY_CHANNELS)
        else:
            return self._open(bundle, admitted)
        return True

    def _postpone(self, bundle: Bundle) -> bool:
        """Let all others go first: Redis may refuse the list of one subject, as long as it is."""
        if bundle in self._waiting:
            self._waiting[bundle] = self._waiting.pop(bundle)
        return bundle not in self._waiting

    def _open(self, bundle: Bundle, admitted: Admitted) -> bool:
        """Make a stream a member of the hub, in the turn of the reactor that admitted it."""
        hub = self._part.hub
        waiting = self._waiting.get(bundle)
        if waiting is None or not self._part.vouches_for(admitted):
            hub.abandon(admitted.joining)
            return waiting is None
        member = bundle.members[self._shard]
        try:
            hub.open(admitted.joining, partial(same, member), live=waiting.place is None)
        except Unauthorized:
            self._end(bundle, CloseReason.REVOKED)
        except LimitReached:
            self._end(bundle, CloseReason.TOO_MANY_CHANNELS)
        else:
            del self._waiting[bundle]
            if waiting.place is not None:
                self._part.replays.begin_at(member, waiting.place)
            self._joined(bundle)
        return True

    def _end(self, bundle: Bundle, reason: CloseReason) -> None:
        if self._waiting.pop(bundle, None) is not None:
            self._ended(bundle, reason)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("streams cannot join", failure=failure)


def same(member: Same) -> Same:
    """Return what is given: for a hub that opens what is made already."""
    return member
