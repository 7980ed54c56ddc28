"""Dispatch: the messages of one read from Redis become one send for each subscriber.

:meth:`Dispatcher.dispatch` collects messages; :meth:`Dispatcher.flush`, called when one read has
been handled, gives every touched subscriber its messages of that read in one
:meth:`~sinapse.hub.subscribers.Subscriber.send`, in the order of publication.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, Protocol

from sinapse.counters import Counters, Lap, Stopwatch
from sinapse.hub.catchup import Dispatched
from sinapse.hub.fanout import FanOuts
from sinapse.hub.journeys import Journeys, Sent
from sinapse.hub.outbox import Outbox
from sinapse.hub.subscribers import Channel, Framing, Subscriber, encode
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message


class Writer(Protocol):
    """The owner of a dispatcher."""

    def write_all(self, frame: bytes, streams: Mapping[int, Any]) -> None:
        """Write a frame to all of the streams, which stand by their descriptors."""

    def write_each(
        self, frames: Mapping[int, Sequence[bytes]], streams: Sequence[Mapping[int, Any]]
    ) -> None:
        """Write to each descriptor its frames, as one; its stream is in one of `streams`."""

    def turn_needed(self) -> None:
        """Call ``fan_outs.go_on()`` in a later turn of the reactor."""


class Dispatcher:
    """Dispatches what is published to the `channels` that have listeners here.

    `owner` writes to those whose descriptors are known, and is told when a large fan-out is to go
    on in a later turn of the reactor.
    """

    def __init__(self, counters: Counters, owner: Writer) -> None:
        self._writer = owner
        self.channels: dict[bytes, Channel] = {}
        #: Open streams that have names.
        self.named: dict[str, set[Subscriber]] = {}
        #: The counter up to which every retained message for this node has been dispatched, and the
        #: epoch that it belongs to.
        self.position = 0
        self.epoch = ""
        #: Ids before this counter are unknown: its Redis did not have its channels yet.
        self.since = 0
        self.counters = counters
        self._batch: list[tuple[Channel, list[Message]]] = []
        #: What becomes of its messages, if that of one of them is to be known.
        self._sent: list[Sent] | None = None
        self._tape: list[Dispatched] | None = None
        self.stopwatch = Stopwatch(counters.fan_out_seconds, counters.delivery_seconds)
        #: What becomes of messages.
        self.journeys = Journeys(counters.message_age_seconds)
        self.stopwatch.stopped = self.journeys.ended
        #: Fan-outs take several turns of the reactor if they are large.
        self.fan_outs = FanOuts(self.stopwatch, owner.turn_needed)

    def dispatch(self, name: bytes, message: Message, counter: int | None = None) -> None:
        """Take a message that was published to the channel `name`.

        `counter` is that of its id. Counters only go up on one connection; a message with a lower
        one was dispatched before, from history.
        """
        if counter is not None:
            if counter <= self.position:
                return
            self.position = counter
        channel = self.channels.get(name)
        if channel is None:  # We have unsubscribed, and Redis does not know yet.
            return
        self.counters.messages += 1
        if self._tape is not None:
            self._tape.append(Dispatched(counter, name, message))
        for subject in channel.all_holding():
            assert subject.catch_up is not None  # noqa: S101
            subject.catch_up.held.append(Dispatched(counter, name, message))
        if message.at is not None or message.trace is not None:
            self._sent = []
        batch = self._batch
        is_for_all = message.but is None
        if is_for_all and batch and batch[-1][0] is channel and batch[-1][1][0].but is None:
            batch[-1][1].append(message)
        else:
            batch.append((channel, [message]))

    def omit(self, name: bytes, counter: int) -> None:
        """Report a message that no stream can hold to the subscribers of the channel `name`.

        `counter` is that of its id, as for :meth:`dispatch`.
        """
        if counter <= self.position:
            return
        self.flush()
        self.position = counter
        channel = self.channels.get(name)
        if channel is None:
            return
        entry = Dispatched(counter, name, None)
        if self._tape is not None:
            self._tape.append(entry)
        for subject in channel.all_holding():
            assert subject.catch_up is not None  # noqa: S101
            subject.catch_up.held.append(entry)
        for framing, audience in list(channel.all_audiences().items()):
            frame = encode(framing, entry, self.epoch)
            for subscriber in list(audience):
                self.counters.resets += 1
                self._put(subscriber, frame)

    @property
    def here(self) -> EventID:
        """The id to resume from for a stream that has all dispatched messages."""
        return EventID(self.epoch, self.position)

    def reached(self, counter: int) -> None:
        """Note that every message up to `counter` has been handled.

        This keeps messages that a stream has got by replay from coming again after a break.
        """
        self.position = max(self.position, counter)

    def flush(self) -> None:
        """Send what was dispatched: one frame for each framing, one send for each subscriber."""
        batch = self._batch
        if not batch:
            return
        self._batch = []
        lap = self.stopwatch.start(self._sent)
        self._sent = None
        is_sent = self._send(*batch[0], lap) if len(batch) == 1 else self._send_all(batch, lap)
        if is_sent:
            self.stopwatch.stop(lap)

    def _send(self, channel: Channel, messages: list[Message], lap: Lap) -> bool:
        """Send messages of one channel; returns whether all of them have been sent."""
        channel.messages += len(messages)
        is_sent = True
        streams = 0
        for framing, audience in channel.all_audiences().items():
            hearing: AbstractSet[Subscriber] = audience
            if messages[0].but is not None:
                hearing = self._without_senders(framing, audience, messages[0], self._put)
            frame = framing.encode(channel.name, messages)
            count = len(hearing)
            streams += count
            if self.fan_outs or count > self.fan_outs.slice_size:
                shared = [frame]
                is_sent &= self.fan_outs.begin(dict.fromkeys(hearing, shared), lap)
            elif hearing is audience:
                if audience.direct:
                    self._writer.write_all(frame, audience.direct)
                for subscriber in audience.others:
                    subscriber.send(frame)
                channel.note_written(self.counters.messages)
            else:
                for subscriber in hearing:
                    subscriber.send(frame)
            self.counters.delivered_bytes += len(frame) * count
        self.counters.deliveries += len(messages) * streams
        if streams and (sent := lap[2]) is not None:
            sent.append(Sent(channel.name, messages, streams))
        return is_sent

    def _send_all(self, batch: list[tuple[Channel, list[Message]]], lap: Lap) -> bool:
        """Send messages of several channels.

        It collects frames by stream, which keeps their order across channels and makes one system
        call of many.
        """
        outbox = Outbox()
        sent = lap[2]
        deliveries = size = 0
        for channel, messages in batch:
            channel.messages += len(messages)
            streams = 0
            for framing, audience in channel.all_audiences().items():
                hearing: AbstractSet[Subscriber] = audience
                if messages[0].but is not None:
                    hearing = self._without_senders(framing, audience, messages[0], outbox.put)
                frame = framing.encode(channel.name, messages)
                if hearing is audience:
                    outbox.add(audience, frame)
                    channel.note_written(self.counters.messages)
                else:
                    for subscriber in hearing:
                        outbox.put(subscriber, frame)
                streams += len(hearing)
                size += len(frame) * len(hearing)
            deliveries += len(messages) * streams
            if streams and sent is not None:
                sent.append(Sent(channel.name, messages, streams))
        self.counters.deliveries += deliveries
        self.counters.delivered_bytes += size
        if self.fan_outs or len(outbox) > self.fan_outs.slice_size:
            return self.fan_outs.begin(outbox.by_stream(), lap)
        if outbox.direct:
            self._writer.write_each(outbox.direct, outbox.streams)
        return self.fan_outs.begin(outbox.others, lap)

    def _without_senders(
        self,
        framing: Framing,
        audience: AbstractSet[Subscriber],
        message: Message,
        put: Callable[[Subscriber, bytes], None],
    ) -> AbstractSet[Subscriber]:
        """Return an audience without the streams that a message is not for, which get its id."""
        senders = {each for each in self.named.get(message.but or "", ()) if each in audience}
        if message.id is not None:
            for subscriber in senders:
                put(subscriber, framing.position(message.id))
        return audience - senders if senders else audience

    def _put(self, subscriber: Subscriber, frame: bytes) -> None:
        self.fan_outs.finish(subscriber)
        subscriber.send(frame)

    @contextmanager
    def tape(self) -> Iterator[list[Dispatched]]:
        """Record what is dispatched in the ``with`` block; one block at a time."""
        self.flush()
        self._tape = []
        try:
            yield self._tape
        finally:
            self._tape = None
