"""The life of the connections to Redis, and what the rest of the daemon asks of them.

One subscriber connection and a few for look-ups live and die together, in :meth:`Broker._session`,
which reads from top to bottom: connect, subscribe, reconcile, go on until something is lost.
Open streams stay open throughout.
"""

import random
from typing import Any, NamedTuple, TypeVar

import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from sinapse.broker.dial import TIMEOUT, dial
from sinapse.broker.lookup import Lookup, TokenEntry
from sinapse.broker.subscription import Subscription
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, CloseReason, InvalidPayload, Unauthorized
from sinapse.hub import Hub, Joining
from sinapse.keys import MAX_TOKEN_LENGTH, parse_control
from sinapse.message import Message, unpack
from sinapse.ratelimit import LogLimit
from sinapse.redisurl import RedisURL

#: Connections for look-ups, so that a long answer on one does not delay the other.
LOOKUP_CONNECTIONS = 2

#: Seconds between two PINGs on each connection: a dead one is noticed in twice TIMEOUT at most.
PING_INTERVAL = TIMEOUT

#: Seconds before the second attempt to connect, doubled each time, and the most. Short, because
#: everybody waits; random, because all nodes come back at once.
FIRST_DELAY = 0.1
MAX_DELAY = 2.0

#: Tokens looked up at once after a break, so that the reactor has turns for others.
RECONCILE_SLICE = 500

#: Bytes that a line break in the data adds to its event stream: "data: ".
LINE_BREAK_COST = 6


Connected = TypeVar("Connected", Lookup, Subscription)


class Admission(NamedTuple):
    """Leave to open a stream, to be used in the very turn of the reactor that brought it."""

    joining: Joining
    remaining: float | None
    """Seconds until the token expires; None if it does not."""


class Broker(Service):
    """Redis, as the daemon sees it.

    `max_message` is in bytes of encoded event stream. For `patience` seconds after the start it
    is no news that Redis is not there: it is starting too.
    """

    _log = Logger()

    def __init__(
        self,
        url: RedisURL,
        hub: Hub,
        counters: Counters,
        *,
        max_message: int,
        patience: float,
        reactor: Any,
    ) -> None:
        self._url = url
        self._hub = hub
        self._counters = counters
        self._max_message = max_message
        self._reactor = reactor
        self._running: Deferred[Any] | None = None
        self._subscription: Subscription | None = None
        self._lookups: list[Lookup] = []
        self._changed: set[bytes] = set()
        self._state = "not connected yet"
        self._patience = patience
        self._warn = LogLimit(lambda text: self._log.warn("{text}", text=text), reactor.seconds)
        hub.interest_changed = self._interest_changed
        #: Connected, subscribed and reconciled.
        self.ready = False

    def startService(self) -> None:  # noqa: N802
        """Connect, and stay connected."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:  # noqa: N802
        """Disconnect for good."""
        super().stopService()
        if self._running is not None:
            self._running.cancel()

    # What others ask

    async def admit(self, token: bytes) -> Admission:
        """Look up who may listen to what, and subscribe to it.

        Raises :class:`~sinapse.errors.Unauthorized`, or
        :class:`~sinapse.errors.BrokerUnavailable` when Redis cannot say.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthorized("unknown token")
        joining = self._hub.join()
        try:
            entry = await self.look_up(token)
            self._hub.admit(joining, entry.subject, token, entry.channels)
            await self._barrier()
        except BaseException:
            self._hub.abandon(joining)
            raise
        return Admission(joining, entry.remaining)

    def withdraw(self, admission: Admission) -> None:
        """Give back leave that is not used."""
        self._hub.abandon(admission.joining)

    async def look_up(self, token: bytes) -> TokenEntry:
        """Return what Redis knows of `token`; raises as :meth:`admit` does."""
        if not self.ready:
            raise BrokerUnavailable(self._state)
        try:
            return await random.choice(self._lookups).token(token)  # noqa: S311
        except txredisapi.ConnectionError as error:
            raise BrokerUnavailable(str(error)) from error
        except txredisapi.RedisError as error:
            self._warn(f"Redis {self._url}: a look-up failed: {error}")
            raise BrokerUnavailable(str(error)) from error

    async def _barrier(self) -> None:
        if self._subscription is None:
            raise BrokerUnavailable(self._state)
        self._synchronize()
        try:
            await self._subscription.barrier()
        except txredisapi.RedisError as error:
            raise BrokerUnavailable(str(error)) from error

    # What Redis sends

    def _published(self, channel: bytes, payload: bytes) -> None:
        try:
            message = self._unpack(payload)
        except InvalidPayload as error:
            self._counters.invalid_payloads += 1
            self._warn(f"channel {channel.decode(errors='replace')!r}: skipped a payload: {error}")
        else:
            self._hub.dispatch(channel, message)

    def _unpack(self, payload: bytes) -> Message:
        message = unpack(payload)
        # Most messages are too short to be too long, whatever is in them.
        if len(payload) * (1 + LINE_BREAK_COST) > self._max_message:
            breaks = message.data.count("\n") + message.data.count("\r")
            if len(payload) + breaks * LINE_BREAK_COST > self._max_message:
                raise InvalidPayload(f"{len(payload)} bytes are more than a stream may hold")
        return message

    def _controlled(self, name: bytes, value: bytes) -> None:
        if (control := parse_control(name)) is not None:
            self._hub.control(*control, value)

    # What the hub needs

    def _interest_changed(self, channel: bytes) -> None:
        if not self._changed:
            self._reactor.callLater(0, self._synchronize)
        self._changed.add(channel)

    def _synchronize(self) -> None:
        changed, self._changed = self._changed, set()
        if self._subscription is not None and changed:
            self._subscription.set_interest(changed, self._hub.channels.keys())

    # Connecting

    async def _stay_connected(self) -> None:
        failures = 0
        started = self._reactor.seconds()
        while True:
            try:
                await self._session()
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # Whatever it was, Redis is tried again.
                if self._reactor.seconds() - started >= self._patience:
                    self._note_state(f"unavailable: {error or type(error).__name__}")
            if self.ready:
                self.ready = False
                self._counters.redis_losses += 1
                failures = 0
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
            failures += 1
            await deferLater(self._reactor, delay * random.uniform(0.5, 1))  # noqa: S311

    def _note_state(self, state: str) -> None:
        """Log a state when it is another than before: not once an attempt."""
        if state != self._state:
            self._state = state
            self._log.info("Redis {url}: {state}", url=str(self._url), state=state)

    async def _session(self) -> None:
        connections: list[Any] = []
        lost: Deferred[None] = Deferred()

        def note_loss(_connection: Any) -> None:
            if not lost.called:
                lost.callback(None)

        async def connect(kind: type[Connected]) -> Connected:
            connection = await dial(kind, self._url, self._reactor)
            connections.append(connection)
            connection.whenDisconnected().addCallback(note_loss)
            return connection

        try:
            lookups = [await connect(Lookup) for _ in range(LOOKUP_CONNECTIONS)]
            subscription = await connect(Subscription)
            self._subscribe(subscription)
            await subscription.barrier()
            # From here on messages wait, in Redis if they are many: those that nobody may read
            # any more must not be delivered before that is known.
            subscription.hold()
            await self._reconcile(lookups)
            self._lookups = lookups
            self.ready = True
            self._counters.redis_connects += 1
            self._note_state("connected")
            subscription.release()
            await self._until_lost(lost, lookups, subscription)
        finally:
            self._subscription = None
            for connection in connections:
                connection.transport.abortConnection()

    def _subscribe(self, subscription: Subscription) -> None:
        subscription.published = self._published
        subscription.controlled = self._controlled
        subscription.handled = self._hub.flush
        subscription.subscribe_control()
        wanted = self._hub.channels.keys()
        subscription.set_interest(set(wanted), wanted)
        self._subscription = subscription

    async def _reconcile(self, lookups: list[Lookup]) -> None:
        """Apply to the open streams what changed while nothing could be heard."""
        streams = {
            (subject.id, subscriber.token)
            for subject in self._hub.subjects.values()
            for subscriber in subject.subscribers
        }
        ordered = list(streams)
        for start in range(0, len(ordered), RECONCILE_SLICE):
            part = ordered[start : start + RECONCILE_SLICE]
            lookup = lookups[0]
            entries = [Deferred.fromCoroutine(_entry(lookup, token)) for _, token in part]
            for (subject, token), entry in zip(part, await gatherResults(entries), strict=True):
                if isinstance(entry, txredisapi.RedisError):
                    raise entry
                if entry is None or entry.subject != subject:
                    self._hub.end_token(subject, token, CloseReason.REVOKED)
                else:
                    self._hub.reconcile(subject, entry.channels)

    async def _until_lost(
        self, lost: Deferred[None], lookups: list[Lookup], subscription: Subscription
    ) -> None:
        """Return when any of the connections is lost, which one that does not answer is made."""

        def ping() -> None:
            for lookup in lookups:  # These abort their connection by themselves.
                lookup.ping().addErrback(lambda _: None)
            answer = subscription.barrier().addTimeout(TIMEOUT, self._reactor)
            answer.addErrback(lambda _: subscription.transport.abortConnection())

        pings = LoopingCall(ping)
        pings.clock = self._reactor
        pings.start(PING_INTERVAL, now=False)
        try:
            await lost
        finally:
            pings.stop()
        raise txredisapi.ConnectionError("connection lost")


async def _entry(lookup: Lookup, token: bytes) -> TokenEntry | txredisapi.RedisError | None:
    """Look a token up, with errors as results, so that many can be waited for together."""
    try:
        return await lookup.token(token)
    except Unauthorized:
        return None
    except txredisapi.RedisError as error:
        return error
