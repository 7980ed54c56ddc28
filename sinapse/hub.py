"""Who listens to what, exactly: the subscription table of a node. No socket, no timer.

Redis gives messages and control messages on one connection, in one order, and the hub is told
of them in that order. :meth:`Hub.dispatch` collects messages; :meth:`Hub.flush`, called when one
read of that connection has been handled, gives every touched subscriber its messages of that
read in one :meth:`Subscriber.send`, in the order of publication. A control message is applied at
once: what was dispatched before it is flushed first, what follows sees the new list.

A subscriber opens in three steps, so that no list is ever wrong, not even for an instant:

1. :meth:`Hub.join` before the look-up is sent: control messages are noted from now on.
2. :meth:`Hub.admit` with the answer: its channels are kept subscribed.
3. :meth:`Hub.open` when everything published before the answer has been handled.

A subscriber that resumes is opened replaying: it is ended when it must be, but gets nothing until
:meth:`Hub.go_live`. While history is read for it, :meth:`Hub.tape` keeps what is dispatched, so
that history and live messages join without a gap.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TypeVar

from sinapse.audience import Channel, Subject, Subscriber
from sinapse.catchup import CatchUp, Dispatched
from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached, Unauthorized
from sinapse.fanout import FanOuts
from sinapse.joining import Joining, Joins
from sinapse.keys import ADD, GRANT, REMOVE, REVOKE, WITHDRAW, is_channel
from sinapse.message import Message
from sinapse.timing import Lap, Stopwatch

Joined = TypeVar("Joined", bound=Subscriber)


class Hub:
    """The table of a node. `max_channels` is how many a subject may have, 0 for any number."""

    def __init__(
        self, counters: Counters, *, ends_when_empty: bool = True, max_channels: int = 0
    ) -> None:
        """Make the table; `ends_when_empty`: a subject that may listen to nothing has no streams.

        Otherwise :attr:`emptied` is told of it.
        """
        self.channels: dict[bytes, Channel] = {}
        self.subjects: dict[bytes, Subject] = {}
        #: Counter up to which everything retained that may be heard here has been dispatched.
        self.position = 0
        #: Redis is heard. While it is not, nothing can be caught up with.
        self.is_connected = False
        #: Told of a channel that is needed from now on, or no longer.
        self.interest_changed: Callable[[bytes], None] = _nobody
        #: Told of a subject that has begun to catch up; it ends with :meth:`caught_up`.
        self.catch_up_needed: Callable[[Subject], None] = _nobody
        #: Told of a subject whose list was emptied.
        self.emptied: Callable[[Subject], None] = self._end_all if ends_when_empty else _nobody
        self._ends_when_empty = ends_when_empty
        #: Told of a subject that has more channels than it may, and how many.
        self.channels_exceeded: Callable[[bytes, int], None] = lambda _subject, _count: None
        self._max_channels = max_channels
        self._counters = counters
        self._batch: list[tuple[Channel, list[Message]]] = []
        self._tape: list[Dispatched] | None = None
        self._joins = Joins()
        #: What is sent over several turns of the reactor.
        self.stopwatch = Stopwatch(counters.fan_out_seconds, counters.delivery_seconds)
        self.fan_outs = FanOuts(self.stopwatch)

    # Messages

    def dispatch(self, name: bytes, message: Message, counter: int | None = None) -> None:
        """Take a message that was published to the channel `name`.

        `counter` is that of its id. Counters only go up on one connection; one that does not was
        dispatched before, from history.
        """
        if counter is not None:
            if counter <= self.position:
                return
            self.position = counter
        channel = self.channels.get(name)
        if channel is None:  # Unsubscribed, and Redis does not know yet.
            return
        self._counters.messages += 1
        if self._tape is not None:
            self._tape.append(Dispatched(counter, name, message))
        for subject in channel.holding:
            assert subject.catch_up is not None  # noqa: S101
            subject.catch_up.held.append(Dispatched(counter, name, message))
        batch = self._batch
        if batch and batch[-1][0] is channel:
            batch[-1][1].append(message)
        else:
            batch.append((channel, [message]))

    def reached(self, counter: int) -> None:
        """Take note that everything that was published up to `counter` has been handled.

        So what a stream began or was brought up to date with does not come again after a break.
        """
        self.position = max(self.position, counter)

    def flush(self) -> None:
        """Send what was dispatched: one frame a framing, one send a touched subscriber."""
        batch = self._batch
        if not batch:
            return
        self._batch = []
        lap = self.stopwatch.start()
        is_sent = self._send(*batch[0], lap) if len(batch) == 1 else self._send_all(batch, lap)
        if is_sent:
            self.stopwatch.stop(lap)

    def _send(self, channel: Channel, messages: list[Message], lap: Lap) -> bool:
        """Send messages of one channel; returns whether all of it has been sent."""
        channel.messages += len(messages)
        is_sent = True
        for framing, audience in channel.audiences.items():
            frame = framing.encode(channel.name, messages)
            if self.fan_outs or len(audience) > self.fan_outs.slice_size:
                shared = [frame]
                is_sent &= self.fan_outs.begin(dict.fromkeys(audience, shared), lap)
            else:
                for subscriber in audience:
                    subscriber.send(frame)
            self._counters.deliveries += len(messages) * len(audience)
            self._counters.delivered_bytes += len(frame) * len(audience)
        return is_sent

    def _send_all(self, batch: list[tuple[Channel, list[Message]]], lap: Lap) -> bool:
        """Send messages of several channels.

        Frames are collected by subscriber, which keeps their order across channels and makes one
        system call of many.
        """
        outbox: dict[Subscriber, list[bytes]] = {}
        deliveries = size = 0
        for channel, messages in batch:
            channel.messages += len(messages)
            for framing, audience in channel.audiences.items():
                frame = framing.encode(channel.name, messages)
                for subscriber in audience:
                    if (frames := outbox.get(subscriber)) is None:
                        outbox[subscriber] = [frame]
                    else:
                        frames.append(frame)
                deliveries += len(messages) * len(audience)
                size += len(frame) * len(audience)
        self._counters.deliveries += deliveries
        self._counters.delivered_bytes += size
        return self.fan_outs.begin(outbox, lap)

    @contextmanager
    def tape(self) -> Iterator[list[Dispatched]]:
        """Keep what is dispatched in the ``with`` block; one block at a time."""
        self.flush()
        self._tape = []
        try:
            yield self._tape
        finally:
            self._tape = None

    # Opening and leaving

    def join(self) -> Joining:
        """Begin to open a subscriber, before anything is looked up for it."""
        return self._joins.begin()

    def admit(
        self, joining: Joining, subject: bytes, token: bytes, channels: Iterable[bytes]
    ) -> None:
        """Take the answer of the look-up, and hold its channels.

        Raises :class:`~sinapse.errors.Unauthorized` if the subject may listen to nothing, and
        :class:`~sinapse.errors.LimitReached` if to too many.
        """
        joining.subject = subject
        joining.token = token
        joining.answer = frozenset(filter(is_channel, channels))
        self._require(joining.answer)
        self._check_number(subject, joining.answer)
        # All of them: a removal that was noted already may be older than the answer, and the
        # addition that followed it is still on its way.
        joining.channels = joining.answer
        for name in joining.channels:
            self._hold(name)

    def expected(self, joining: Joining) -> Mapping[bytes, int | None]:
        """Return the channels that a subscriber will have that opens now.

        One that was granted since the look-up has the counter of that. Raises
        :class:`~sinapse.errors.Unauthorized` if the token was revoked, and
        :class:`~sinapse.errors.LimitReached` if they are too many.
        """
        self.flush()
        channels = self._joins.channels(joining)
        self._check_number(joining.subject, channels)
        return channels

    def open(self, joining: Joining, make: Callable[[], Joined], *, live: bool = True) -> Joined:
        """End the join with an open subscriber: it gets what is dispatched from now on.

        To be called when everything published before the answer has been dispatched. `make` is
        only called if the subscriber may open; otherwise, since the token was revoked or the
        list emptied meanwhile, this raises :class:`~sinapse.errors.Unauthorized`; if that has
        become too long, :class:`~sinapse.errors.LimitReached`. One that is not `live` gets nothing
        until :meth:`go_live`.
        """
        try:
            expected = self.expected(joining)
            self._require(expected)
            subscriber = make()
            subject = self.subjects.get(joining.subject)
            if subject is None:
                subject = self.subjects[joining.subject] = Subject(joining.subject)
            for name in joining.answer:
                self.channels[name].is_subscribed = True
            self._settle(subject, expected.keys())
            subject.subscribers[subscriber] = None
            subscriber.subject = subject
            if live:
                self._listen(subject, subscriber)
                for name, after in expected.items():
                    if after is not None and not self.channels[name].is_subscribed:
                        self._begin_catch_up(subject, name, after)
            else:
                subject.replaying |= {subscriber}
        finally:
            self.abandon(joining)
        return subscriber

    def streams_of(self, subject: bytes) -> list[Subscriber]:
        """Return the open subscribers of a subject, the oldest first."""
        found = self.subjects.get(subject)
        return [] if found is None else list(found.subscribers)

    def go_live(self, subscriber: Subscriber) -> None:
        """Let a subscriber that has replayed all it missed get what is dispatched from now on."""
        subject = subscriber.subject
        if subject is not None:
            self.flush()
            subject.replaying -= {subscriber}
            self._listen(subject, subscriber)

    def abandon(self, joining: Joining) -> None:
        """End a join that did not become a subscriber, or has become one."""
        self._joins.end(joining)
        for name in joining.channels:
            self._release(name)
        joining.channels = frozenset()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose stream has ended."""
        subject = subscriber.subject
        if subject is None:
            return
        subscriber.subject = None
        self.fan_outs.forget(subscriber)
        subject.subscribers.pop(subscriber, None)
        subject.replaying -= {subscriber}
        if subject.catch_up is not None:
            subject.catch_up.members.pop(subscriber, None)
        self._stop_listening(subject.channels, subscriber)
        if not subject.subscribers:
            del self.subjects[subject.id]
            self._end_catch_up(subject)
            for name in subject.channels:
                self._release(name)

    def end(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """End a stream, after what was dispatched for it."""
        self.flush()
        self.fan_outs.finish(subscriber)
        self.leave(subscriber)
        subscriber.close(reason)

    # Looking in

    def channels_of(self, subject_id: bytes) -> AbstractSet[bytes]:
        """Return what a subject with open streams may listen to."""
        subject = self.subjects.get(subject_id)
        return subject.channels if subject is not None else frozenset()

    def is_live(self, subscriber: Subscriber) -> bool:
        """Whether a subscriber gets what is dispatched: it neither replays nor is held."""
        subject = subscriber.subject
        if subject is None or subscriber in subject.replaying:
            return False
        return subject.catch_up is None or subscriber not in subject.catch_up.members

    # Live authorisation

    def control(self, subject_id: bytes, action: str, value: bytes) -> None:
        """Apply a control message: ADD or REMOVE of a channel, or REVOKE of a token.

        GRANT and WITHDRAW are ADD and REMOVE with the counter at which that was done; each comes
        first, and the plain one then changes nothing. Others are ignored, so that the protocol
        can grow.
        """
        at: int | None = None
        if action in (GRANT, WITHDRAW):
            counter, _, value = value.partition(b" ")
            at = int(counter) if counter.isdigit() else None
            action = ADD if action == GRANT else REMOVE
        if action == ADD and not is_channel(value):
            return
        self._joins.note(subject_id, action, value, at)
        subject = self.subjects.get(subject_id)
        if subject is None:
            return
        if action == ADD and value not in subject.channels:
            self.flush()
            self._grant(subject, value, at)
            self._end_if_too_many(subject)
        elif action == REMOVE and value in subject.channels:
            self.flush()
            self._withdraw(subject, value, at)
            self._end_if_empty(subject)
        elif action == REVOKE:
            self.end_token(subject_id, value, CloseReason.REVOKED)

    def end_token(self, subject_id: bytes, token: bytes, reason: CloseReason) -> None:
        """End the streams that were opened with a token of the subject."""
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            for subscriber in [each for each in subject.subscribers if each.token == token]:
                self.end(subscriber, reason)

    def reconcile(self, subject_id: bytes, channels: Iterable[bytes]) -> None:
        """Make the list of a subject with open streams what Redis says it is now."""
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            self._settle(subject, set(filter(is_channel, channels)))
            self._end_if_empty(subject)
            self._end_if_too_many(subject)

    # Connecting

    def disconnected(self) -> None:
        """Take note that Redis is not heard: from now on messages are missed."""
        self.flush()
        self.is_connected = False
        for channel in self.channels.values():
            channel.is_subscribed = False

    def connected(self) -> None:
        """Take note that Redis is heard, on all channels that are needed."""
        self.is_connected = True
        for channel in self.channels.values():
            channel.is_subscribed = True

    def listeners(self) -> set[bytes]:
        """Return the ids of the subjects that may listen to something."""
        return {subject.id for subject in self.subjects.values() if subject.channels}

    def tell_reset(
        self,
        reason: str,
        channels: AbstractSet[bytes] | None,
        position: str | None,
        former: Container[bytes] = (),
    ) -> None:
        """Tell open streams that messages are missing: all, or those that listen to `channels`.

        Those of `former` subjects are told as well: what they had been listening to may be what is
        lost.
        """
        self.flush()
        for subject in self.subjects.values():
            missing = subject.channels if channels is None else subject.channels & channels
            if missing or subject.id in former:
                for subscriber in subject.subscribers.keys() - subject.replaying:
                    self._counters.resets += 1
                    self.fan_outs.finish(subscriber)
                    subscriber.send(subscriber.framing.reset(reason, missing, position))

    # Catching up

    def caught_up(self, subject: Subject) -> None:
        """Release the streams that were held, with what was read for them and what was held."""
        catch_up = subject.catch_up
        if catch_up is None:
            return
        self.flush()
        self._end_catch_up(subject)
        for subscriber in catch_up.members:
            frame = b"".join(
                subscriber.framing.encode(entry.channel, [entry.message])
                for entry in catch_up.messages_for(subscriber)
            )
            if frame:
                self.fan_outs.finish(subscriber)
                subscriber.send(frame)
            self._listen(subject, subscriber)
        self._end_if_empty(subject)

    def _begin_catch_up(self, subject: Subject, name: bytes, after: int) -> None:
        is_new = subject.catch_up is None
        catch_up = subject.catch_up or CatchUp()
        for subscriber in subject.listening():
            self._stop_listening(subject.channels, subscriber)
            catch_up.members[subscriber] = len(catch_up.held), len(catch_up.gaps)
        catch_up.open_gap(name, after)
        subject.catch_up = catch_up
        for each in subject.channels:
            self.channels[each].holding.add(subject)
        if is_new:
            self.catch_up_needed(subject)

    def _end_catch_up(self, subject: Subject) -> None:
        subject.catch_up = None
        for name in subject.channels:
            self.channels[name].holding.discard(subject)

    # The table itself

    def _settle(self, subject: Subject, expected: AbstractSet[bytes]) -> None:
        for name in expected - subject.channels:
            self._grant(subject, name, None)
        for name in subject.channels - expected:
            self._withdraw(subject, name, None)

    def _grant(self, subject: Subject, name: bytes, after: int | None) -> None:
        channel = self._hold(name)
        subject.channels.add(name)
        is_missed = self.is_connected and after is not None and not channel.is_subscribed
        if is_missed and (subject.catch_up is not None or subject.listening()):
            self._begin_catch_up(subject, name, after or 0)
            return
        if subject.catch_up is not None:
            channel.holding.add(subject)
        for subscriber in subject.listening():
            channel.listen(subscriber)

    def _withdraw(self, subject: Subject, name: bytes, at: int | None) -> None:
        channel = self.channels[name]
        self._stop_listening([name], *subject.subscribers)
        channel.holding.discard(subject)
        if subject.catch_up is not None:
            subject.catch_up.close_gap(name, at)
        subject.channels.remove(name)
        self._release(name)

    def _end_if_empty(self, subject: Subject) -> None:
        # Streams that are held get first what they are held for.
        if not subject.channels and subject.catch_up is None:
            self.emptied(subject)

    def _end_all(self, subject: Subject) -> None:
        for subscriber in list(subject.subscribers):
            self.end(subscriber, CloseReason.NO_CHANNELS)

    def _require(self, channels: Collection[bytes]) -> None:
        if self._ends_when_empty and not channels:
            raise Unauthorized("no channels")

    def _check_number(self, subject: bytes, channels: Collection[bytes]) -> None:
        """Raise :class:`~sinapse.errors.LimitReached` if these are more than a subject may have.

        To deliver some of them only would be to lose messages in silence.
        """
        if 0 < self._max_channels < len(channels):
            self.channels_exceeded(subject, len(channels))
            raise LimitReached(CloseReason.TOO_MANY_CHANNELS.text, 503)

    def _end_if_too_many(self, subject: Subject) -> None:
        try:
            self._check_number(subject.id, subject.channels)
        except LimitReached:
            for subscriber in list(subject.subscribers):
                self.end(subscriber, CloseReason.TOO_MANY_CHANNELS)

    def _hold(self, name: bytes) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name)
            self.interest_changed(name)
        channel.holders += 1
        return channel

    def _release(self, name: bytes) -> None:
        channel = self.channels[name]
        channel.holders -= 1
        if not channel.holders:
            del self.channels[name]
            self.interest_changed(name)

    def _listen(self, subject: Subject, subscriber: Subscriber) -> None:
        for name in subject.channels:
            self.channels[name].listen(subscriber)

    def _stop_listening(self, names: Iterable[bytes], *subscribers: Subscriber) -> None:
        for name in names:
            for subscriber in subscribers:
                self.channels[name].stop_listening(subscriber)


def _nobody(_who: object) -> None:
    """Stand in until a broker is there."""
