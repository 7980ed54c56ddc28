"""The life of the connections to Redis, and what the rest of the daemon asks of them.

One subscriber connection and a few for look-ups live and die together, in :meth:`Broker._session`,
which reads from top to bottom: connect, subscribe, reconcile, catch up, go on until something is
lost. Open streams stay open throughout.
"""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sinapse.broker.history import History, Part
from sinapse.broker.interface import ExpiryTold
from sinapse.broker.lookup import Attachment, LastIDs, Lookup, TokenEntry
from sinapse.broker.probes import Probes
from sinapse.broker.sentinel import Sentinels
from sinapse.broker.subscription import Subscription
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, CloseReason, InvalidPayload, Unauthorized
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Joining
from sinapse.protocol.ids import EventID, parse_id
from sinapse.protocol.keys import MAX_TOKEN_LENGTH, NODES, parse_control
from sinapse.protocol.message import Message, unpack
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import Script
from sinapse.ratelimit import LogLimit
from sinapse.txredis.dial import TIMEOUT, dial

#: Connections for look-ups, so that a long answer on one does not delay the other.
LOOKUP_CONNECTIONS = 2

#: Seconds before the second attempt to connect, doubled each time, and the most. Short, because
#: everybody waits; random, because all nodes come back at once.
FIRST_DELAY = 0.1
MAX_DELAY = 2.0

#: Tokens looked up at once after a break, so that the reactor has turns for others.
RECONCILE_SLICE = 500

#: Messages by which a counter may be ahead of what was heard last: more than any Redis takes
#: between two probes.
MAX_JUMP = 1_000_000

#: Bytes that a line break in the data adds to its event stream: "data: ".
LINE_BREAK_COST = 6

Connected = TypeVar("Connected", Lookup, Subscription)
Heard = TypeVar("Heard")


class Admission(NamedTuple):
    """Leave to open a stream, to be used in the very turn of the reactor that brought it."""

    joining: Joining
    entry: TokenEntry
    attachment: Attachment | None
    """What it rests on: what Redis was at that time."""


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
        self._sentinels = Sentinels(url, reactor)
        self._hub = hub
        self._counters = counters
        self._max_message = max_message
        self._reactor = reactor
        self._running: Deferred[Any] | None = None
        self._subscription: Subscription | None = None
        self._lookups: list[Lookup] = []
        self._history = History(hub, counters, self._barrier, self._unpack, self._complain)
        self._changed: set[bytes] = set()
        self._marked: Deferred[EventID] = Deferred()
        self._attachment: Attachment | None = None
        self._waiting: list[Deferred[None]] = []
        #: Subjects that were told what is missing of a channel, and up to where.
        self._told: dict[tuple[bytes, bytes], int] = {}
        #: How Redis is, in words.
        self.state = "not connected yet"
        self._patience = patience
        self._warn = LogLimit(lambda text: self._log.warn("{text}", text=text), reactor.seconds)
        warn_of_channels = LogLimit(
            lambda text: self._log.warn("{text}", text=text), reactor.seconds
        )
        hub.channels_exceeded = lambda subject, count: warn_of_channels(
            f"subject {subject.decode(errors='replace')!r} has {count} channels: more than it may"
        )
        self._probes = Probes(reactor, counters.redis_probe_seconds)
        #: Whether tokens are kept here: all are, but where there are several Redis.
        self.is_home: Callable[[bytes], bool] = lambda _token: True
        self._tell_expiry: ExpiryTold = lambda _subject, _token, _expires: None
        hub.interest_changed = self._interest_changed
        hub.fan_outs.turn_needed = self._turn_needed
        #: Whether an id is looked into.
        self._is_doubting = False
        #: Connected, subscribed, reconciled and caught up.
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

    async def admit(self, token: bytes, subject: bytes | None = None) -> Admission:
        """Look up who may listen to what, and subscribe to it.

        `subject` is who `token` stands for, if that is known from another Redis. Raises
        :class:`~sinapse.errors.Unauthorized`, or
        :class:`~sinapse.errors.BrokerUnavailable` when Redis cannot say.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthorized("unknown token")
        joining = self._hub.join()
        try:
            entry = await self.look_up(token, subject)
            if entry.position.epoch != self._epoch():
                self._look_afresh()
                raise BrokerUnavailable("its data have been replaced")  # noqa: TRY301
            self._hub.admit(joining, entry.subject, token, entry.channels)
            await self._barrier()
            self._hub.reached(entry.position.counter)
        except BaseException:
            self._hub.abandon(joining)
            raise
        return Admission(joining, entry, self._attachment)

    def vouches_for(self, admission: Admission) -> bool:
        """Whether all has been heard that has changed since `admission`."""
        return self.ready and admission.attachment is self._attachment

    def withdraw(self, admission: Admission) -> None:
        """Give back leave that is not used."""
        self._hub.abandon(admission.joining)

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Tell when the tokens of open streams expire, whenever that is read again."""
        self._tell_expiry = told

    async def look_up(self, token: bytes, subject: bytes | None = None) -> TokenEntry:
        """Return what Redis knows of `token`, or of its subject; raises as :meth:`admit` does."""
        lookup = self._lookup()
        try:
            return await (
                lookup.token(token) if subject is None else lookup.subject(subject, token)
            )
        except txredisapi.ConnectionError as error:
            raise BrokerUnavailable(str(error)) from error
        except txredisapi.RedisError as error:
            # Redis quotes an unknown command with its arguments.
            text = str(error).partition(", with args")[0]
            self._complain(f"a look-up failed: {text}")
            raise BrokerUnavailable(text) from None

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """Return what `script` returns; raises :class:`~sinapse.errors.BrokerUnavailable`."""
        lookup = self._lookup()
        try:
            return await lookup.run(script, keys, arguments)
        except txredisapi.RedisError as error:
            if not isinstance(error, txredisapi.ConnectionError):
                self._complain(f"a script failed: {error}")
            raise BrokerUnavailable(str(error)) from error

    def resolve(self, identifier: EventID) -> EventID | None:
        """Return the same place among the ids of this time; None if it cannot be resumed from."""
        if self._attachment is None:
            return None
        after = self._attachment.resolve(identifier)
        return None if after is None else EventID(self._attachment.position.epoch, after)

    async def read_history(self, wants: Mapping[bytes, int]) -> Part:
        """Return the next part of retained messages: see :class:`~sinapse.broker.history.History`.

        Of channels that the hub does not hold, only what is older than now is certain. Raises
        :class:`~sinapse.errors.BrokerUnavailable`.
        """
        channels = [self._hub.channels[name] for name in wants if name in self._hub.channels]
        if not all(channel.is_subscribed for channel in channels):
            await self._barrier()
            for channel in channels:
                channel.is_subscribed = True
        return await self._history.read(self._lookup(), wants)

    async def when_ready(self, failures: int = 0) -> None:
        """Return when Redis is there, in another turn of the reactor.

        Whoever asks has been let down, so many times by now: by a connection whose end may not be
        known here yet, or by a Redis that refuses what it is asked. To ask again at once, and be
        told so again, would go on for ever.
        """
        await deferLater(self._reactor, _delay(failures - 1) if self.ready and failures else 0)
        while not self.ready:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _lookup(self) -> Lookup:
        if not self.ready:
            raise BrokerUnavailable(self.state)
        return random.choice(self._lookups)  # noqa: S311

    async def _barrier(self) -> None:
        if self._subscription is None:
            raise BrokerUnavailable(self.state)
        self._synchronize()
        try:
            await self._subscription.barrier()
        except txredisapi.RedisError as error:
            raise BrokerUnavailable(str(error)) from error

    # What Redis sends

    def _published(self, channel: bytes, payload: bytes) -> None:
        if channel == self._probes.channel:
            self._reached(parse_id(payload))
            return
        if not self.ready:
            return  # While channels are subscribed to again: it is read from what is retained.
        try:
            message = unpack(payload)
        except InvalidPayload as error:
            self._counters.invalid_payloads += 1
            self._warn(f"channel {channel.decode(errors='replace')!r}: skipped a payload: {error}")
            return
        is_too_long = self._is_too_long(payload, message)
        if message.id is None:
            if not is_too_long:
                self._hub.dispatch(channel, message)
            return
        epoch, _, digits = message.id.partition("-")
        counter = int(digits)
        if epoch != self._epoch() or counter > self._hub.position + MAX_JUMP:
            self._doubt(channel, EventID(epoch, counter))
        elif is_too_long:
            self._hub.omit(channel, counter)
        else:
            self._hub.dispatch(channel, message, counter)

    def _doubt(self, channel: bytes, place: EventID) -> None:
        """Look whether an id is one that Redis has given, before anything is done about it.

        If it is, its data are not those of before: a new session begins, which reads what was
        published. Otherwise somebody has made it up, or it is of another database of this Redis.
        """
        if self._is_doubting:
            return
        self._is_doubting = True
        Deferred.fromCoroutine(self._look_whether(channel, place))

    async def _look_whether(self, channel: bytes, place: EventID) -> None:
        try:
            here = (await self._lookup().last_ids([])).position
        except (BrokerUnavailable, txredisapi.RedisError):
            here = place
        finally:
            self._is_doubting = False
        is_given = here.epoch == place.epoch and here.counter >= place.counter
        if is_given or here.epoch != self._epoch():
            self._look_afresh()
            return
        self._counters.invalid_payloads += 1
        name = repr(channel.decode(errors="replace"))
        self._complain(f"channel {name}: skipped a message with an id that was not given here")

    def _reached(self, place: EventID | None) -> None:
        """Take note of a probe, or of a mark, which has the last id of that instant."""
        self._probes.heard()
        if place is None:
            # What ids are made of was written by somebody else: who connects begins anew.
            if self.ready:
                self._look_afresh()
            return
        if not self._marked.called:
            self._marked.callback(place)
        elif not self.ready:
            return
        elif place.epoch == self._epoch() and place.counter >= self._hub.position:
            self._hub.reached(place.counter)
        else:  # Its counter may have gone back: older data can be put back while Redis runs.
            self._look_afresh()

    def _refused(self, channel: bytes, reason: str) -> None:
        """Do without a channel that this node's user of Redis may not hear."""
        self._complain(f"channel {channel.decode(errors='replace')!r} is not heard: {reason}")

    def _handled(self) -> None:
        """End a read: what it brought is sent, or at least begun to be sent."""
        self._hub.flush()
        if self._subscription is not None and self._hub.fan_outs.is_full:
            self._subscription.hold()

    def _turn_needed(self) -> None:
        self._reactor.callLater(0, self._fan_out)

    def _fan_out(self) -> None:
        """Go on with a large fan-out, after others have had their turn."""
        self._hub.fan_outs.go_on()
        subscription = self._subscription
        if subscription is not None and subscription.is_held and not self._hub.fan_outs.is_full:
            subscription.release()

    def _epoch(self) -> str | None:
        return None if self._attachment is None else self._attachment.position.epoch

    def _look_afresh(self) -> None:
        """Begin a new session: Redis has lost its data, and begins to count anew."""
        if self._subscription is not None:
            self._subscription.transport.abortConnection()

    def _unpack(self, payload: bytes) -> Message | None:
        """Return the message of a payload; None for one that is longer than a stream may hold.

        Raises :class:`~sinapse.errors.InvalidPayload` for what is no message.
        """
        message = unpack(payload)
        return None if self._is_too_long(payload, message) else message

    def _is_too_long(self, payload: bytes, message: Message) -> bool:
        # Most messages are too short to be too long, whatever is in them.
        if len(payload) * (1 + LINE_BREAK_COST) <= self._max_message:
            return False
        breaks = message.data.count("\n") + message.data.count("\r")
        if len(payload) + breaks * LINE_BREAK_COST <= self._max_message:
            return False
        self._counters.invalid_payloads += 1
        self._complain(f"a message of {len(payload)} bytes is more than a stream may hold")
        return True

    def _complain(self, text: str) -> None:
        self._warn(f"Redis {self._url}: {text}")

    def _controlled(self, name: bytes, value: bytes) -> None:
        if (control := parse_control(name)) is not None:
            self._hub.control(*control, value)

    # What the hub needs

    def _interest_changed(self, channel: bytes) -> None:
        if not self._changed:
            self._reactor.callLater(0, self._synchronize)
        self._changed.add(channel)

    def _synchronize(self) -> None:
        if self._subscription is not None:
            self._set_interest(self._subscription)

    def _set_interest(self, subscription: Subscription) -> None:
        changed, self._changed = self._changed, set()
        subscription.set_interest(changed, self._hub.channels.keys())

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
                if not self.running:  # Twisted says it in other words in the midst of connecting.
                    raise CancelledError from None
                if self._reactor.seconds() - started >= self._patience:
                    self._note_state(f"unavailable: {error or type(error).__name__}")
            if self.ready:
                self.ready = False
                self._hub.disconnected()
                self._counters.redis_losses += 1
                failures = 0
            await deferLater(self._reactor, _delay(failures))
            failures += 1

    def _note_state(self, state: str) -> None:
        """Log a state when it is another than before: not once an attempt."""
        if state != self.state:
            self.state = state
            tell = self._log.info if state.startswith("connected") else self._log.warn
            tell("Redis {url}: {state}", url=str(self._url), state=state)

    async def _session(self) -> None:
        connections: list[Any] = []
        self._probes.begin()
        lost: Deferred[None] = Deferred()

        def note_loss(_connection: Any) -> None:
            if not lost.called:
                lost.callback(None)

        async def connect(kind: type[Connected]) -> Connected:
            connection = await dial(kind, node, self._reactor)
            connections.append(connection)
            connection.whenDisconnected().addCallback(note_loss)
            return connection

        # One session is with one node: Sentinels may name another at any time.
        node = await self._sentinels.locate()
        try:
            lookups = [await connect(Lookup) for _ in range(LOOKUP_CONNECTIONS)]
            subscription = await connect(Subscription)
            subscription.published = self._published
            subscription.controlled = self._controlled
            subscription.refused = self._refused
            subscription.read = self._hub.stopwatch.has_read
            subscription.handled = self._handled
            # Control messages first: what changes from now on is heard.
            subscription.subscribe_control()
            await self._in_time(subscription.barrier())
            attachment = await lookups[0].attach(self._known())
            await lookups[0].check(attachment.position.epoch)
            listeners = self._hub.listeners()
            # What is heard while lists are read is applied after them, in the order of Redis.
            subscription.hold()
            await self._reconcile(lookups[0])
            # Publishers look after the epoch themselves until a node stands for it.
            epoch = f"{NODES}:{attachment.position.epoch}"
            subscription.subscribe_for_good(NODES.encode(), epoch.encode(), self._probes.channel)
            self._changed = set(self._hub.channels)
            # From the mark on messages wait, in Redis if they are many, for those before them.
            # Control messages wait with them: none that came after one of those is read before it.
            last_ids = None
            while last_ids is None or self._changed:  # A channel may have been granted meanwhile.
                subscription.release()
                self._set_interest(subscription)
                await self._in_time(subscription.barrier())
                last_ids = await self._mark(lookups[0], subscription)
            if last_ids.position.epoch != attachment.position.epoch:
                raise txredisapi.ConnectionError("its data have been replaced")
            await self._catch_up(lookups[0], attachment, last_ids, listeners)
            self._lookups = lookups
            self._subscription = subscription
            self._synchronize()
            self._be_ready(node)
            subscription.release()
            await self._until_lost(lost, lookups, node)
        finally:
            self._subscription = None
            for connection in connections:
                connection.transport.abortConnection()

    async def _mark(self, lookup: Lookup, subscription: Subscription) -> LastIDs:
        """Hold what is heard from some place on; returns the last ids there of all channels."""
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
            marked.addErrback(lambda _: None)  # Nobody waits for it any more.
        return last_ids

    def _in_time(self, heard: "Deferred[Heard]") -> "Deferred[Heard]":
        """Fail when what is to be heard is late; later on the probes see to that."""
        return heard.addTimeout(TIMEOUT, self._reactor, _late)

    def _known(self) -> EventID | None:
        """Return the id of the last message that was dispatched."""
        return None if self._attachment is None else self._hub.here

    async def _reconcile(self, lookup: Lookup) -> None:
        """Apply to the open streams what changed while nothing could be heard."""
        streams = {
            (subject.id, subscriber.token)
            for subject in self._hub.subjects.values()
            for subscriber in subject.subscribers
        }
        ordered = list(streams)
        for start in range(0, len(ordered), RECONCILE_SLICE):
            part = ordered[start : start + RECONCILE_SLICE]
            entries = [
                Deferred.fromCoroutine(
                    _entry(
                        lookup.token(token)
                        if self.is_home(token)
                        else lookup.subject(subject, token)
                    )
                )
                for subject, token in part
            ]
            for (subject, token), entry in zip(part, await gatherResults(entries), strict=True):
                if isinstance(entry, txredisapi.RedisError):
                    if not str(entry).startswith("WRONGTYPE"):
                        raise entry
                    # That is this subject's trouble, and nobody else's.
                    self._complain(f"the list of a subject cannot be read: {entry}")
                    self._hub.end_token(subject, token, CloseReason.ENDED)
                elif entry is None or entry.subject != subject:
                    self._hub.end_token(subject, token, CloseReason.REVOKED)
                else:
                    self._hub.reconcile(subject, entry.channels)
                    if entry.expires is not None:  # Earlier than before, where data are lost.
                        self._tell_expiry(subject, token, entry.expires)

    async def _catch_up(
        self, lookup: Lookup, attachment: Attachment, last_ids: LastIDs, listeners: set[bytes]
    ) -> None:
        """Dispatch what was retained, up to `last_ids`, while nothing could be heard.

        `listeners` are the subjects that could listen to something before.
        """
        hub = self._hub
        is_first = self._attachment is None
        self._attachment = attachment
        hub.epoch = attachment.position.epoch
        if is_first or not attachment.continues:
            self._told.clear()  # Counters of then may be above those that come.
            # Where some of what was heard is here, all that follows it is new to everybody.
            is_other = is_first or attachment.same < 0
            hub.begin_at(attachment.position.counter if is_other else attachment.same)
            if not is_first:
                hub.tell_lost(listeners)
        known = {
            (subject, name): at
            for (subject, name), at in self._told.items()
            if name in hub.channels_of(subject)
        }
        self._told = known
        async for portion in self._history.read_alone(lookup, hub.position, last_ids):
            hub.stopwatch.has_read()
            told = hub.tell_gone(portion.gone, known, last_ids.position.counter)
            for entry in portion.entries:
                counter = entry.counter or 0
                hub.granted(counter)
                if entry.message is None:
                    hub.omit(entry.channel, counter)
                else:
                    hub.dispatch(entry.channel, entry.message, counter)
            hub.flush()
            hub.reached(portion.upto)
            # So that they are not told again when they come back.
            hub.tell_position(told)
            while hub.fan_outs.is_full:
                await deferLater(self._reactor, 0)
        hub.reached(last_ids.position.counter)
        hub.granted(None)

    def _be_ready(self, node: RedisURL) -> None:
        self.ready = True
        self._counters.redis_connects += 1
        self._hub.connected()
        # Which one it is goes without saying, unless Sentinels chose it.
        where = f" to {node.host}:{node.port}" if self._url.sentinels else ""
        self._note_state(f"connected{where}")
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def _until_lost(
        self, lost: Deferred[None], lookups: list[Lookup], node: RedisURL
    ) -> None:
        """Return when any of the connections is lost, which one that is no good is made."""
        assert self._attachment is not None  # noqa: S101

        def give_up(reason: str) -> None:
            if not lost.called:
                lost.errback(txredisapi.ConnectionError(reason))

        probes = self._probes.start(lookups, self._attachment.position.epoch, give_up)
        moving = Deferred.fromCoroutine(self._sentinels.until_moved(node))
        moving.addCallbacks(give_up, lambda failure: failure.trap(CancelledError))
        try:
            await lost
        finally:
            probes.stop()
            moving.cancel()
        raise txredisapi.ConnectionError("connection lost")


def _delay(failures: int) -> float:
    """Return seconds to wait after so many failures before: longer each time, and at random."""
    longest: float = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
    return longest * random.uniform(0.5, 1)  # noqa: S311


async def _entry(
    found: Coroutine[Any, Any, TokenEntry],
) -> TokenEntry | txredisapi.RedisError | None:
    """Look something up, with errors as results, so that many can be waited for together."""
    try:
        return await found
    except Unauthorized:
        return None
    except txredisapi.RedisError as error:
        return error


def _late(_failure: object, seconds: float) -> NoReturn:
    raise txredisapi.TimeoutError(f"connected, but nothing is heard for {seconds:g} s")
