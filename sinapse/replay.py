"""Bringing streams up to date from what is retained.

A stream that resumes gets every retained message after its last event ID on the channels that its
subject may read now, page by page, as fast as it reads; when there is no more it goes live, in the
very turn in which the last page came. A stream whose subject was granted a channel that this node
was not subscribed to is held until what was published meanwhile has been read.

Redis may go and come back at any point of this; what is known then is looked at afresh.
"""

from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.audience import Framing, Subject, Subscriber
from sinapse.broker.broker import Broker
from sinapse.catchup import Dispatched
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable
from sinapse.eventid import EventID
from sinapse.hub import Hub

#: Why a stream is told that messages are missing: see ``docs/delivery.md``.
UNKNOWN_ID = "unknown-id"
DATA_LOST = "data-lost"
NOT_RETAINED = "not-retained"


class ResumingFraming(Framing, Protocol):
    """How a stream that resumes is framed."""

    def position(self, identifier: str) -> bytes:
        """Return a frame that says where to resume from, and nothing else."""


class Resuming(Subscriber, Protocol):
    """A stream that resumes."""

    @property
    def framing(self) -> ResumingFraming:
        """How its bytes are made."""

    def drained(self) -> "Deferred[None]":
        """Fire when nothing waits to be written; it is cancelled when the stream ends."""


class Replays:
    """Runs every replay and every catching up."""

    _log = Logger()

    def __init__(self, hub: Hub, broker: Broker, counters: Counters) -> None:
        self._hub = hub
        self._broker = broker
        self._counters = counters
        hub.catch_up_needed = self._begin_catch_up

    def begin(self, connection: Resuming, last_event_id: str, position: EventID) -> None:
        """Resume a stream that was opened replaying.

        `last_event_id` is what the client sent, which may be no id; `position` is the id of the
        last retained message when the stream was admitted.
        """
        self.resume(connection, EventID.parse(last_event_id), position)

    def resume(
        self, connection: Resuming, last_event_id: EventID | None, position: EventID
    ) -> None:
        """Resume it after an id that has been read; None is one that is none."""
        replay = Deferred.fromCoroutine(self._replay(connection, last_event_id, position))
        replay.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("a replay failed", failure=failure)

    # Resuming

    async def _replay(
        self, connection: Resuming, last_event_id: EventID | None, position: EventID
    ) -> None:
        if last_event_id is None or (
            last_event_id.epoch == position.epoch and (last_event_id.counter > position.counter)
        ):
            self._give_up(connection, UNKNOWN_ID, position)
            return
        place = last_event_id
        was_reset = False
        while connection.subject is not None:
            resolved = self._broker.resolve(place)
            if resolved is None and self._broker.ready:
                self._give_up(connection, DATA_LOST, position)
                return
            wants = dict.fromkeys(connection.subject.channels, resolved.counter if resolved else 0)
            # One that is withdrawn and granted again is another channel: between, nobody heard it.
            heard = {name: self._hub.channels[name] for name in wants}
            try:
                part = await self._broker.read_history(wants)
            except BrokerUnavailable:
                await self._broker.when_ready()
                continue
            subject = connection.subject
            if subject is None or resolved is None:
                return
            if any(self._hub.channels[name] is not heard.get(name) for name in subject.channels):
                continue  # Granted while it was read: that channel's messages go in their places.
            gone = part.gone & subject.channels
            if gone:
                was_reset = True
                self._counters.resets += 1
                connection.send(connection.framing.reset(NOT_RETAINED, gone, None))
            self._send(connection, part.entries)
            if not part.more:
                self._send(
                    connection, [each for each in part.tape if (each.counter or 0) > part.after]
                )
                self._hub.go_live(connection)
                if was_reset:
                    # So that what is missing is told once, even if no other message follows.
                    here = EventID(resolved.epoch, max(part.after, self._hub.position))
                    connection.send(connection.framing.position(str(here)))
                return
            place = EventID(resolved.epoch, part.after)
            await connection.drained()

    def _give_up(self, connection: Resuming, reason: str, position: EventID) -> None:
        """Tell a stream that nobody knows what it missed, and let it go on from here."""
        subject = connection.subject
        if subject is not None:
            self._counters.resets += 1
            channels = subject.channels
            connection.send(connection.framing.reset(reason, channels, str(position)))
            self._hub.go_live(connection)

    def _send(self, connection: Resuming, entries: list[Dispatched]) -> None:
        subject = connection.subject
        if subject is not None:
            frame = b"".join(
                connection.framing.encode(entry.channel, [entry.message])
                for entry in entries
                if entry.channel in subject.channels
            )
            if frame:
                connection.send(frame)

    # Catching up

    def _begin_catch_up(self, subject: Subject) -> None:
        Deferred.fromCoroutine(self._catch_up(subject)).addErrback(self._failed)

    async def _catch_up(self, subject: Subject) -> None:
        catch_up = subject.catch_up
        while catch_up is not None and subject.catch_up is catch_up:
            gaps = catch_up.unread()
            if not gaps:
                self._hub.caught_up(subject)
                return
            wants: dict[bytes, int] = {}
            for gap in gaps:
                wants[gap.channel] = min(gap.after, wants.get(gap.channel, gap.after))
            try:
                part = await self._broker.read_history(wants)
            except BrokerUnavailable:
                await self._broker.when_ready()
                continue
            for gap in gaps:
                gap.take(part.entries, part.after, more=part.more)
