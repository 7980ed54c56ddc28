"""One session with Redis: connections that live and die together.

There is one subscriber connection, and a few for commands. :meth:`Session.run` reads from top to
bottom: connect, subscribe, reconcile, catch up, go on until a connection is lost. Open streams stay
open throughout.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

import txredisapi
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from sinapse.broker.clock import RedisClock
from sinapse.broker.ends import Ends
from sinapse.broker.lookup import LastIDs, Lookup
from sinapse.broker.payloads import Payloads
from sinapse.broker.probes import Probes
from sinapse.broker.recovery import Recovering, Recovery
from sinapse.broker.sentinel import Sentinels
from sinapse.broker.subscription import Subscription
from sinapse.counters import Counters
from sinapse.errors import InvalidPayload
from sinapse.protocol.ids import EventID, parse_id
from sinapse.protocol.keys import END, NODES, parse_control
from sinapse.protocol.message import unpack
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import State
from sinapse.sockets.turns import prefer
from sinapse.txredis.dial import ANSWER_TIMEOUT, Dial, dial

#: Connections for commands, so that a long answer on one does not delay the other.
LOOKUP_CONNECTIONS = 2

#: Messages by which a counter may be ahead of the last one received: more than any Redis takes
#: between two probes.
MAX_JUMP = 1_000_000

Connected = TypeVar("Connected", Lookup, Subscription)
Heard = TypeVar("Heard")


class SessionOwner(Recovering, Protocol):
    """The owner, which begins one session after another and keeps the lasting state."""

    payloads: Payloads
    counters: Counters
    sentinels: Sentinels
    ends: Ends
    dial_subscription: Dial

    def warn(self, text: str) -> None:
        """Log a problem with what was received, at a bounded rate."""

    def connected(self, node: RedisURL) -> None:
        """Note that the session with `node` is ready."""


class Session:
    """Connections to Redis, from the first that is made until one of them is lost."""

    def __init__(self, owner: SessionOwner, state: State | None, reactor: Any) -> None:
        self._owner = owner
        #: Whether this Redis joins or leaves, by the list of this node.
        self._state = state
        self._hub = owner.hub
        self._is_too_long = owner.payloads.is_too_long
        self._reactor = reactor
        # It may be the clock of a different machine from now on.
        owner.hub.journeys.redis_ahead = None
        self._clock = RedisClock(owner.hub.journeys.note_clock)
        self._probes = Probes(reactor, owner.counters.redis_probe_seconds, self._clock)
        self._marked: Deferred[EventID] = Deferred()
        #: Channels that are needed now, or no longer, without a command to Redis yet.
        self._changed: set[bytes] = set()
        #: What waits for a barrier that has not been asked for yet.
        self._behind: list[Deferred[None]] = []
        #: Whether an id is being checked.
        self._is_doubting = False
        self._subscription: Subscription | None = None
        #: The connections for commands.
        self.lookups: list[Lookup] = []
        #: The epoch of the ids that Redis gives now.
        self.epoch = ""
        #: Connected, subscribed, reconciled and caught up.
        self.is_ready = False

    async def run(self) -> NoReturn:
        """Connect, and stay connected until a connection is lost; raises the reason."""
        connections: list[Any] = []
        lost: Deferred[None] = Deferred()

        def note_loss(_connection: Any) -> None:
            if not lost.called:
                lost.callback(None)

        async def connect(kind: type[Connected], dial: Dial = dial) -> Connected:
            connection = await dial(kind, node, self._reactor)
            connections.append(connection)
            connection.whenDisconnected().addCallback(note_loss)
            return connection

        # One session is with one node: Sentinels may name another at any time.
        node = await self._owner.sentinels.locate()
        try:
            lookups = await self._for_commands(connect)
            subscription = await connect(Subscription, self._owner.dial_subscription)
            let_go = prefer(subscription.transport, self._reactor)
            subscription.whenDisconnected().addCallback(lambda _: let_go())
            self._hear(subscription)
            # Control messages first: every change from now on is received.
            subscription.subscribe_control()
            await self._in_time(subscription.barrier())
            recovery = Recovery(self._owner, lookups[0], self._reactor)
            attachment = await lookups[0].attach(recovery.known())
            # What comes while lists are read is applied after them, in the order of Redis.
            subscription.hold()
            await recovery.end_grants()
            await recovery.reconcile()
            # Publishers check the epoch themselves until a node is subscribed to this channel.
            subscription.subscribe_for_good(
                NODES.encode(),
                f"{NODES}:{attachment.position.epoch}".encode(),
                self._probes.channel,
                self._probes.knowing(self._hub.since),
                *([] if self._state is None else [self._probes.in_state(self._state)]),
            )
            self._changed = set(self._hub.channels)
            # From the mark on messages wait, in Redis if they are many, for those before the mark.
            # Control messages wait with them, so that their order stays.
            last_ids = None
            while last_ids is None or self._changed:  # A channel may have been granted meanwhile.
                subscription.release()
                self._set_interest(subscription)
                await self._in_time(subscription.barrier())
                last_ids = await self._mark(lookups[0], subscription)
            if last_ids.position.epoch != attachment.position.epoch:
                raise txredisapi.ConnectionError("its data have been replaced")
            self.epoch = attachment.position.epoch
            await recovery.catch_up(attachment, last_ids)
            # What is read behind the SUBSCRIBE is known to whoever does not find this node yet.
            since = await lookups[0].check(self.epoch)
            self.lookups = lookups
            self._subscription = subscription
            self._has_its_share(since)
            self._synchronize()
            self.is_ready = True
            self._owner.connected(node)
            subscription.release()
            await self._until_lost(lost, node)
            raise txredisapi.ConnectionError("connection lost")
        finally:
            self._subscription = None
            for connection in connections:
                connection.transport.abortConnection()

    # For the broker

    def interest_changed(self, channel: bytes) -> None:
        """Subscribe to a needed channel, or unsubscribe from another, in a later turn."""
        if not self._changed:
            self._reactor.callLater(0, self._synchronize)
        self._changed.add(channel)

    async def barrier(self) -> None:
        """Return when all that Redis had done before now has been handled, for new channels too.

        Raises ``txredisapi.RedisError``.
        """
        if self._subscription is None:
            raise txredisapi.ConnectionError("connection lost")
        # Those whose tokens Redis has looked up together share one command, and one answer.
        if not self._behind:
            self._reactor.callLater(0, self._ask_barrier)
        handled: Deferred[None] = Deferred()
        self._behind.append(handled)
        await handled

    def _ask_barrier(self) -> None:
        behind, self._behind = self._behind, []

        def release(_: None) -> None:
            for each in behind:
                each.callback(None)

        def fail(reason: Failure) -> None:
            for each in behind:
                each.errback(reason)

        if self._subscription is None:
            fail(Failure(txredisapi.ConnectionError("connection lost")))
            return
        self._synchronize()
        self._subscription.barrier().addCallbacks(release, fail)

    def give_up(self) -> None:
        """End: Redis has lost its data, and the next session starts from its new counter."""
        if self._subscription is not None:
            self._subscription.transport.abortConnection()

    def read_on(self) -> None:
        """Read again, if reading had to wait for large fan-outs."""
        if self._subscription is not None and self._subscription.is_held:
            self._subscription.release()

    def _synchronize(self) -> None:
        if self._subscription is not None:
            self._set_interest(self._subscription)

    def _set_interest(self, subscription: Subscription) -> None:
        changed, self._changed = self._changed, set()
        subscription.set_interest(changed, self._hub.channels.keys())

    # What Redis sends

    def _hear(self, subscription: Subscription) -> None:
        subscription.hear(self._published, self._controlled)
        subscription.refused = self._refused
        subscription.read = self._hub.stopwatch.has_read
        subscription.handled = self._handled

    def _published(self, channel: bytes, payload: bytes) -> None:
        if channel == self._probes.channel:
            self._reached(parse_id(payload))
            return
        if not self.is_ready:
            return  # While we subscribe to the channels again: it is read from history.
        try:
            message = unpack(payload)
        except InvalidPayload as error:
            self._owner.counters.invalid_payloads += 1
            name = repr(channel.decode(errors="replace"))
            self._owner.warn(f"channel {name}: skipped a payload: {error}")
            return
        is_too_long = self._is_too_long(payload, message)
        if message.id is None:
            if not is_too_long:
                self._hub.dispatch(channel, message)
            return
        epoch, _, digits = message.id.partition("-")
        counter = int(digits)
        if epoch != self.epoch or counter > self._hub.position + MAX_JUMP:
            self._doubt(channel, EventID(epoch, counter))
        elif is_too_long:
            self._hub.omit(channel, counter)
        else:
            self._hub.dispatch(channel, message, counter)

    def _controlled(self, name: bytes, value: bytes) -> None:
        if (control := parse_control(name)) is not None:
            subject, action = control
            if action == END:
                self._owner.ends.announced(value)
            else:
                self._hub.control(subject, action, value)

    def _refused(self, channel: bytes, reason: str) -> None:
        """Go on without a channel that the ACL of Redis denies to this node."""
        name = repr(channel.decode(errors="replace"))
        self._owner.complain(f"channel {name} is not heard: {reason}")

    def _handled(self) -> None:
        """End a read: send its messages, or at least begin to."""
        self._hub.flush()
        if self._subscription is not None and self._hub.fan_outs.is_full:
            self._subscription.hold()

    def _reached(self, place: EventID | None) -> None:
        """Handle a probe, or a mark, which has the last id of that moment."""
        self._probes.heard()
        if place is None:
            # Something foreign has overwritten the parts of ids: a new session begins anew.
            if self.is_ready:
                self.give_up()
            return
        if not self._marked.called:
            self._marked.callback(place)
        elif not self.is_ready:
            return
        elif place.epoch == self.epoch and place.counter >= self._hub.position:
            self._hub.reached(place.counter)
        else:  # Its counter may have gone back: older data can be put back while Redis runs.
            self.give_up()

    def _doubt(self, channel: bytes, place: EventID) -> None:
        """Check whether Redis has given an id, before anything is done about it.

        If it has, its data are not those of before: a new session begins, which reads what was
        published. Otherwise the id is made up, or from a different database of this Redis.
        """
        if self._is_doubting:
            return
        self._is_doubting = True
        Deferred.fromCoroutine(self._look_whether(channel, place))

    async def _look_whether(self, channel: bytes, place: EventID) -> None:
        try:
            here = (await self.lookups[0].last_ids([])).position
        except txredisapi.RedisError:
            here = place
        finally:
            self._is_doubting = False
        is_given = here.epoch == place.epoch and here.counter >= place.counter
        if is_given or here.epoch != self.epoch:
            self.give_up()
            return
        self._owner.counters.invalid_payloads += 1
        name = repr(channel.decode(errors="replace"))
        self._owner.complain(
            f"channel {name}: skipped a message with an id that was not given here"
        )

    # Connecting

    async def _for_commands(
        self, connect: Callable[[type[Lookup]], Coroutine[Any, Any, Lookup]]
    ) -> list[Lookup]:
        """Connect, and learn what time it is there."""
        lookups = [await connect(Lookup) for _ in range(LOOKUP_CONNECTIONS)]
        await lookups[0].tell_time(self._clock)
        return lookups

    async def _mark(self, lookup: Lookup, subscription: Subscription) -> LastIDs:
        """Hold what is received from some place on; returns the last ids there of all channels."""
        marked: Deferred[EventID] = Deferred()
        self._marked = marked
        marked.addCallback(lambda _: subscription.hold())

        def give_up(_: object) -> None:
            if not marked.called:
                marked.errback(txredisapi.ConnectionError("connection lost"))

        subscription.whenDisconnected().addCallback(give_up)
        try:
            last_ids = await lookup.mark(self._probes.channel, self._hub.channels)
            await self._in_time(marked)
        finally:
            marked.addErrback(lambda _: None)  # Nothing waits for it any more.
        return last_ids

    async def _until_lost(self, lost: "Deferred[None]", node: RedisURL) -> None:
        """Return when any of the connections is lost; a failed probe closes them."""

        def give_up(reason: str) -> None:
            if not lost.called:
                lost.errback(txredisapi.ConnectionError(reason))

        probes = self._probes.start(self.lookups, self.epoch, give_up, self._has_its_share)
        moving = Deferred.fromCoroutine(self._owner.sentinels.until_moved(node))
        moving.addCallbacks(give_up, lambda failure: failure.trap(CancelledError))
        try:
            await lost
        finally:
            probes.stop()
            moving.cancel()

    def _has_its_share(self, since: int) -> None:
        """Act by `since` from now on, and then say so."""
        if since != self._hub.since:
            self._hub.since = since
            if self._subscription is not None:
                self._subscription.subscribe_for_good(self._probes.knowing(since))

    def _in_time(self, heard: "Deferred[Heard]") -> "Deferred[Heard]":
        """Fail when the message is late; once the session is ready, probes do that."""
        return heard.addTimeout(ANSWER_TIMEOUT, self._reactor, _late)


def _late(_failure: object, seconds: float) -> NoReturn:
    raise txredisapi.TimeoutError(f"connected, but nothing is heard for {seconds:g} s")
