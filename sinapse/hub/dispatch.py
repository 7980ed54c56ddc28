"""Messages, handed out: what one read of Redis brought becomes one send a subscriber.

:meth:`Dispatcher.dispatch` collects messages; :meth:`Dispatcher.flush`, called when one read has
been handled, gives every touched subscriber its messages of that read in one
:meth:`~sinapse.hub.subscribers.Subscriber.send`, in the order of publication.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sinapse.counters import Counters, Lap, Stopwatch
from sinapse.hub.catchup import Dispatched
from sinapse.hub.fanout import FanOuts
from sinapse.hub.subscribers import Channel, Subscriber, encode
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message


class Dispatcher:
    """Hands out what is published to the `channels` that somebody here listens to.

    `turn_needed` is told that a large fan-out is to go on, in another turn of the reactor.
    """

    def __init__(self, counters: Counters, turn_needed: Callable[[], None]) -> None:
        self.channels: dict[bytes, Channel] = {}
        #: Counter up to which everything retained that may be heard here has been dispatched, and
        #: the epoch that it belongs to.
        self.position = 0
        self.epoch = ""
        self.counters = counters
        self._batch: list[tuple[Channel, list[Message]]] = []
        self._tape: list[Dispatched] | None = None
        #: What is sent over several turns of the reactor.
        self.stopwatch = Stopwatch(counters.fan_out_seconds, counters.delivery_seconds)
        self.fan_outs = FanOuts(self.stopwatch, turn_needed)

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
        self.counters.messages += 1
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

    def omit(self, name: bytes, counter: int) -> None:
        """Tell who listens to the channel `name` of a message that no stream can hold.

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
        for subject in channel.holding:
            assert subject.catch_up is not None  # noqa: S101
            subject.catch_up.held.append(entry)
        for framing, audience in list(channel.audiences.items()):
            frame = encode(framing, entry, self.epoch)
            for subscriber in list(audience):
                self.counters.resets += 1
                self.fan_outs.finish(subscriber)
                subscriber.send(frame)

    @property
    def here(self) -> EventID:
        """The id that a stream can resume from to which all that was dispatched has been sent."""
        return EventID(self.epoch, self.position)

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
            self.counters.deliveries += len(messages) * len(audience)
            self.counters.delivered_bytes += len(frame) * len(audience)
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
        self.counters.deliveries += deliveries
        self.counters.delivered_bytes += size
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
