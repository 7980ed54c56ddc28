"""Replay: retained messages for streams that resume, begin with a past, or were granted a channel.

A stream that resumes gets every retained message after its last event ID on the channels that its
subject may read now, of each since it was granted: page by page, as fast as it reads. When there is
no more it goes live, in the turn of the reactor in which the last page came. A new stream whose
channels have a past resumes in the same way, from an id that says that it has none of it. If a
subject is granted a channel that this node was not subscribed to, its streams are held until the
messages published meanwhile have been read.

Redis may go and come back at any point of this; every step checks the state again.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.broker.history import Part
from sinapse.broker.interface import Resuming
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, ResetReason
from sinapse.hub.catchup import Dispatched
from sinapse.hub.hub import Hub
from sinapse.hub.past import Pasts, Reading
from sinapse.hub.subscribers import Framing, Subject, body_for
from sinapse.protocol.ids import UNKNOWN, EventID


class Source(Protocol):
    """The source of retained messages."""

    @property
    def ready(self) -> bool:
        """Whether it can be read now."""

    async def when_ready(self, failures: int = 0) -> None:
        """Return when it can; after more `failures`, later."""

    def resolve(self, identifier: EventID) -> EventID | None:
        """Return the same place in the current epoch; None if no stream can resume from it."""

    async def read_history(self, wants: Mapping[bytes, int]) -> Part:
        """Return the next part of the messages of channels, each after its counter.

        Raises :class:`~sinapse.errors.BrokerUnavailable`.
        """

    async def read_starts(self, upto: Mapping[bytes, int]) -> Mapping[bytes, int]:
        """Return the counters after which the past begins of those channels that have one.

        It is what was published up to the counter of each in `upto`. Raises
        :class:`~sinapse.errors.BrokerUnavailable`.
        """


class Replays:
    """Runs every replay and every catch-up.

    `max_pending` is in bytes: a replay is written in pieces of a quarter of that, each when the one
    before has been written, so that it does not make a slow consumer of its stream.
    """

    _log = Logger()

    def __init__(self, hub: Hub, source: Source, counters: Counters, *, max_pending: int) -> None:
        self._hub = hub
        self._source = source
        self._counters = counters
        self._max_pending = max_pending
        self._piece = max_pending // 4

    def begin(self, connection: Resuming, last_event_id: str) -> None:
        """Resume a stream that was opened replaying, or suspended, after the id of its client."""
        self.begin_at(connection, EventID.parse(last_event_id) or UNKNOWN)

    def begin_at(self, connection: Resuming, place: EventID) -> None:
        """Do so after a place that may be unknown."""
        if self.may_know(place):
            self.resume(connection, place)
        else:
            self._give_up(connection, ResetReason.UNKNOWN_ID)

    def may_know(self, place: EventID) -> bool:
        """Whether this Redis can have given an id, and had its share of the channels by then.

        An id that it gave is not above the last one.
        """
        here = self._hub.here
        if place == UNKNOWN or place.counter < self._hub.since:
            return False
        return place.epoch != here.epoch or place.counter <= here.counter

    def resume(self, connection: Resuming, place: EventID) -> None:
        """Resume a stream after an id that is known."""
        Deferred.fromCoroutine(self._replay(connection, place)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("a replay failed", failure=failure)

    # Resuming

    async def _replay(self, connection: Resuming, place: EventID) -> None:
        told: dict[bytes, int] = {}
        has_past = place.past is not None
        pasts = Pasts()
        failures = 0
        while (subject := connection.subject) is not None:
            resolved = self._source.resolve(place)
            if resolved is None and self._source.ready:
                self._give_up(connection, ResetReason.DATA_LOST)
                return
            # One that is withdrawn and granted again is a new object: between, it was not heard.
            heard = {name: self._hub.channels[name] for name in subject.heard()}
            try:
                if asked := pasts.unknown(subject, resolved or place):
                    upto = {name: max(at, place.counter) for name, at in asked.items()}
                    pasts.learn(asked, await self._source.read_starts(upto))
                    continue
                reading = pasts.reading(subject, resolved or place)
                part = await self._source.read_history(reading.wants)
            except BrokerUnavailable:
                failures += 1
                await self._source.when_ready(failures)
                continue
            subject = connection.subject
            if subject is None or resolved is None:
                return
            if any(self._hub.channels[name] is not heard.get(name) for name in subject.heard()):
                continue  # Granted meanwhile: its messages have to go in their places.
            if pasts.unknown(subject, resolved):
                continue
            has_past = has_past or bool(reading.pasts)
            # A client that gets a reset loads the state of the channel, complete until then. Of a
            # past nobody is promised more than what is retained.
            gone = {
                name: at
                for name, at in part.gone.items()
                if at > told.get(name, 0) and not reading.pasts
            }
            part = part._replace(gone=gone)
            if reading.limit is not None:
                part = _up_to(part, reading.limit)
            elif not part.more and self._finish(connection, part, reading, has_past=has_past):
                return
            told_now, place = await self._send_in_pieces(connection, part, reading)
            told |= told_now
            await connection.drained()

    def _finish(
        self, connection: Resuming, part: Part, reading: Reading, *, has_past: bool
    ) -> bool:
        """Send the rest and go live, unless it is more than can be sent at once."""
        later = [entry for entry in part.tape if (entry.counter or 0) > part.after]
        entries = (*part.entries, *later)
        bodies = [self._body(connection, entry, part, reading) for entry in entries]
        if part.entries and sum(map(len, bodies)) > self._piece:
            return False
        self._send(connection, bodies, dict(part.gone), None, reading, has_past=has_past)
        return True

    async def _send_in_pieces(
        self, connection: Resuming, part: Part, reading: Reading
    ) -> tuple[dict[bytes, int], EventID]:
        """Send messages as fast as the stream reads, each if its subject may have it then.

        Returns the channels that were reported as missing, each with the counter of that moment,
        and the id of the stream after all that was sent.
        """
        epoch = self._hub.epoch
        gone = dict(part.gone)
        told: dict[bytes, int] = {}
        piece: list[bytes] = []
        size = upto = 0
        for entry in part.entries:
            body = self._body(connection, entry, part, reading)
            if piece and size + len(body) > self._piece:
                told |= self._send(connection, piece, gone, upto, reading)
                await connection.drained()
                if self._hub.epoch != epoch:
                    return told, reading.place(upto)  # These counters are of a former epoch.
                piece, size = [], 0
                body = self._body(connection, entry, part, reading)
            piece.append(body)
            size += len(body)
            upto = entry.counter or 0
        told |= self._send(connection, piece, gone, part.after, reading)
        return told, reading.place(part.after)

    def _send(
        self,
        connection: Resuming,
        bodies: Sequence[bytes],
        gone: dict[bytes, int],
        upto: int | None,
        reading: Reading,
        *,
        has_past: bool = False,
    ) -> dict[bytes, int]:
        """Send messages up to a counter, and before them the losses up to there.

        With None there is no more, and the stream is live from then on. A loss is reported with the
        messages around it, and with an id behind them: it is reported once, even if the client
        reconnects between two parts, and a past comes once, even if no message follows. The
        reported channels are removed from `gone`, and returned with the current counter.
        """
        subject = connection.subject
        if subject is None:
            return {}
        framing = connection.framing
        due = {name: at for name, at in gone.items() if upto is None or at <= upto}
        for name in due:
            del gone[name]
        missing = {
            name
            for name in subject.heard_of(due.keys())
            if due[name] > (subject.granted_at(name) or 0)
        }
        if missing:
            self._counters.resets += 1
            reset = framing.plain.reset(ResetReason.NOT_RETAINED, missing, None)
            bodies = [reset, *bodies]
        body = b"".join(bodies)
        if missing or (upto is None and has_past):
            # In one write: who is cut off in between would get all of it again.
            place = self._hub.here if upto is None else reading.place(upto)
            body += framing.plain.position(str(place))
        if body:
            connection.send(framing.frame(body))
        if upto is None:
            self._hub.go_live(connection)
        return dict.fromkeys(missing, self._hub.position)

    def _body(self, connection: Resuming, entry: Dispatched, part: Part, reading: Reading) -> bytes:
        subject = connection.subject
        if subject is None or not subject.may_have(entry, reading.pasts):
            return b""
        if entry.counter is None:
            return self._encode(connection, entry, None)
        place = reading.place(entry.counter) if reading.pasts else None
        if entry.message is not None and entry.message.but is not None:
            return self._encode(connection, entry, place)
        key = connection.framing.plain, entry.counter, place
        made = part.bodies.get(key)
        if made is None:
            made = part.bodies[key] = self._encode(connection, entry, place)
        return made

    def _encode(self, connection: Resuming, entry: Dispatched, place: EventID | None) -> bytes:
        epoch = self._hub.epoch
        body = body_for(connection, entry, epoch, place)
        if self._is_too_long(body, connection.framing):
            # The framing made it too long for any stream.
            body = body_for(connection, entry._replace(message=None), epoch, place)
        return body

    def _is_too_long(self, body: bytes, framing: Framing) -> bool:
        """Whether no stream may hold the frame of a body."""
        may_be = len(body) > self._max_pending // 2  # For others the frame need not be made.
        return may_be and len(framing.frame(body)) > self._max_pending

    def _give_up(self, connection: Resuming, reason: ResetReason) -> None:
        """Tell a stream that what it missed is unknown, and let it go on from here."""
        subject = connection.subject
        if subject is None:
            return
        channels = subject.heard()
        self._hub.go_live(connection)
        place = str(self._hub.here)
        if channels:
            self._counters.resets += 1
            connection.send(connection.framing.reset(reason, channels, place))
        else:  # It can have missed nothing.
            connection.send(connection.framing.position(place))

    # Catching up

    def catch_up(self, subject: Subject) -> None:
        """Read the messages that a subject has missed on channels that it was granted."""
        Deferred.fromCoroutine(self._catch_up(subject)).addErrback(self._failed)

    async def _catch_up(self, subject: Subject) -> None:
        catch_up = subject.catch_up
        failures = 0
        while catch_up is not None and subject.catch_up is catch_up:
            gaps = catch_up.unread()
            if not gaps:
                self._hub.caught_up(subject)
                return
            wants: dict[bytes, int] = {}
            for gap in gaps:
                wants[gap.channel] = min(gap.after, wants.get(gap.channel, gap.after))
            try:
                part = await self._source.read_history(wants)
            except BrokerUnavailable:
                failures += 1
                await self._source.when_ready(failures)
                continue
            for gap in gaps:
                gone = part.gone.get(gap.channel, 0)
                gap.take(part.entries, part.after, more=part.more, gone=gone)


def _up_to(part: Part, limit: int) -> Part:
    """Return `part` without what is after a counter."""
    entries = [entry for entry in part.entries if (entry.counter or 0) <= limit]
    return part._replace(entries=entries, after=min(part.after, limit))
