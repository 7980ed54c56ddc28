"""The open streams of a node: opened, kept alive, moved on, and ended with the node."""

import random
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.server import Request

from sinapse.broker.interface import Admission, Broker
from sinapse.broker.sightings import Sightings
from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached
from sinapse.framing.eventstream import TROUBLE_RETRY, EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.hub.presence import Presence
from sinapse.settings import Settings
from sinapse.streams.backlog import Backlog
from sinapse.streams.connection import Connection
from sinapse.streams.drain import Drain
from sinapse.streams.expiry import Expiry
from sinapse.streams.keepalive import KeepAlive
from sinapse.streams.limits import StreamLimits
from sinapse.streams.longpoll import LongPoll
from sinapse.streams.stream import Stream
from sinapse.streams.takeover import take_over
from sinapse.streams.websocketpeer import WebSocketPeer
from sinapse.web.answers import Fields
from sinapse.web.intake import Intake

#: Seconds that a client has to agree to the end of its WebSocket.
CLOSE_TIMEOUT = 2

#: Seconds after which a stream that was behind is checked again before it moves on.
MOVE_PAUSE = 2

#: Seconds after which an event stream comes back that a newer one of its subject has replaced:
#: long, since it then replaces one itself.
REPLACED_RETRY = (30.0, 90.0)

#: Seconds after which a stream gets its current id, however quiet it is: for some days Redis
#: remembers which channels had messages, and a younger id can always be resumed from.
POSITION_INTERVAL = 3600

#: Parts of its longest life after which a stream ends, at random: streams that came together do
#: not end together.
LIFETIME_FACTORS = (0.9, 1.1)

#: Seconds after which it comes back: nothing is wrong, and few come at once.
MOVE_RETRY = (0.1, 1.0)

#: Seconds between two steps of a drain.
DRAIN_TICK = 0.05

Opened = TypeVar("Opened", bound=Stream)


class Streams(Service):
    """All open streams, within `limits`; their tokens go to `sightings`.

    Their subjects go to `presence`, if there is one.
    """

    _log = Logger()

    def __init__(
        self,
        broker: Broker[Stream],
        counters: Counters,
        settings: Settings,
        *,
        limits: StreamLimits,
        sightings: Sightings,
        presence: Presence | None,
        reactor: Any,
    ) -> None:
        self.max_pending = settings.max_pending
        #: The bytes that wait to be written, to all of them.
        self.backlog = Backlog(settings.max_pending_total)
        self._max_lifetime = settings.max_lifetime
        #: Whether each stream has a line in the log when it opens, and when it ends.
        self._is_logged = settings.log_level == "debug"
        self._limits = limits
        self._sightings = sightings
        self._presence = presence
        self._broker = broker
        self._counters = counters
        self._reactor = reactor
        self._expiry = Expiry(
            broker,
            settings.expiry_notice,
            is_open=lambda stream: stream in self._open,
            move_on=self._move_now,
            reactor=reactor,
        )
        # Streams that can be resumed get their current id now and then.
        refresh = self._refresh if settings.retains else None
        self._keep_alive = KeepAlive(
            settings.keep_alive,
            reactor,
            refresh,
            POSITION_INTERVAL,
            now=lambda: counters.messages,
            has_written_to=broker.has_written_to,
        )
        self._open: set[Stream] = set()
        #: No stream may open any more.
        self.is_draining = False

    @property
    def here(self) -> str:
        """The id from which a new stream goes on."""
        return self._broker.here

    def startService(self) -> None:  # noqa: N802
        """Begin to send keep-alives."""
        super().startService()
        self._keep_alive.start()

    def stopService(self) -> None:  # noqa: N802
        """End all streams that are left."""
        super().stopService()
        self._keep_alive.stop()
        for stream in list(self._open):
            self._send_off(stream, CloseReason.SHUTDOWN)

    async def drain(self, seconds: float) -> None:
        """End all streams, evenly over some seconds, and return when none is left."""
        self.is_draining = True
        now = self._reactor.seconds
        drain = Drain(self._open, seconds, now())
        deadline = now() + seconds + CLOSE_TIMEOUT
        while self._open and now() < deadline:
            is_over = drain.is_over(now())
            for stream in drain.due(now()):
                if stream not in self._open:
                    continue
                if is_over:
                    self._send_off(stream, CloseReason.SHUTDOWN)
                elif stream.is_behind:
                    # An end now would drop the bytes that wait.
                    drain.postpone(stream)
                else:
                    self._send_off(stream, CloseReason.DRAIN)
            await deferLater(self._reactor, DRAIN_TICK)

    def open(
        self,
        request: Request,
        admission: Admission,
        framing: EventStream | WebSocket,
        first: bytes,
        *,
        name: str | None = None,
        last_event_id: str | None = None,
        address: str,
    ) -> None:
        """Turn `request` into a stream whose first bytes are `first`, response head included.

        Its client calls it `name`. It resumes after `last_event_id`, if that is given, and counts
        for `address`. Raises :class:`~sinapse.errors.Unauthorized` if its token was revoked
        meanwhile, and :class:`~sinapse.errors.LimitReached` if the subject has too many streams or
        channels; the request can then still be answered.
        """

        def make() -> Connection:
            peer = None
            if isinstance(framing, WebSocket):
                peer = WebSocketPeer(compresses=framing.compress is not None)
            connection = take_over(request, self, framing, admission.token, peer)
            connection.name = name
            return connection

        connection = self._admit(make, admission, last_event_id, address)
        connection.bucket = self._keep_alive.add(connection)
        connection.send(first)
        if self._max_lifetime:
            seconds = self._max_lifetime * random.uniform(*LIFETIME_FACTORS)  # noqa: S311
            connection.move = self._reactor.callLater(seconds, self._move_on, connection)
        if last_event_id is not None:
            self._resume(connection, last_event_id)

    def poll(
        self,
        request: Request,
        admission: Admission,
        headers: Fields,
        *,
        name: str | None = None,
        last_event_id: str,
        address: str,
        compress: int | None = None,
    ) -> None:
        """Let `request` wait for messages after `last_event_id`, with `headers` in its answer.

        Its client calls it `name`. The answer is compressed if it has `compress` bytes, unless that
        is None. Raises as :meth:`open` does.
        """

        def make() -> LongPoll:
            token = admission.token
            poll = LongPoll(
                self,
                request,
                headers,
                token,
                self._reactor,
                last_event_id=last_event_id,
                compress=compress,
            )
            poll.name = name
            return poll

        self._resume(self._admit(make, admission, last_event_id, address), last_event_id)

    def _admit(
        self,
        make: Callable[[], Opened],
        admission: Admission,
        last_event_id: str | None,
        address: str,
    ) -> Opened:
        """Open the stream that `make` makes, and note that it is open."""
        self._make_room(admission)
        stream = self._broker.open(admission, make, live=last_event_id is None)
        self._note_open(stream, admission, address)
        self._expiry.watch(stream, admission.expires)
        return stream

    def _resume(self, stream: Connection | LongPoll, last_event_id: str) -> None:
        self._counters.replays += 1
        self._broker.resume(stream, last_event_id)

    def end(self, subject: bytes) -> int:
        """End the streams of a subject, which may come back; returns how many there were."""
        found = self._broker.streams_of(subject)
        for stream in found:
            self._send_off(stream, CloseReason.ENDED)
        return len(found)

    def closed(self, stream: Stream, reason: CloseReason) -> None:
        """Forget a stream that has ended."""
        self._broker.leave(stream)
        self._open.discard(stream)
        if stream.bucket is not None:
            self._keep_alive.discard(stream, stream.bucket)
        stream.forget_move()
        stream.forget_expiry()
        self._limits.closed(stream.address)
        self._sightings.closed(stream.token)
        if self._presence is not None:
            self._presence.closed(stream.whose, self._reactor.seconds())
        self._counters.streams_closed[reason] += 1
        self._counters.streams[stream.framing.transport] -= 1
        if self._is_logged:
            self._log.debug(
                "stream of {subject!r} ended after {seconds} s: {reason}; {transport}, {address}",
                seconds=round(self._reactor.seconds() - stream.opened, 1),
                reason=reason.text,
                **_facts(stream),
            )

    def _send_off(
        self,
        stream: Stream,
        reason: CloseReason,
        retry: tuple[float, float] = TROUBLE_RETRY,
    ) -> None:
        """End a stream whose client should come back, but not at the same moment as all others."""
        stream.come_back(random.uniform(*retry))  # noqa: S311
        self._broker.end(stream, reason)

    def _move_on(self, stream: Stream) -> None:
        """End a stream after its longest life: its client may get to a different node."""
        if stream.is_behind:
            stream.move = self._reactor.callLater(MOVE_PAUSE, self._move_on, stream)
        else:
            self._move_now(stream)

    def _move_now(self, stream: Stream) -> None:
        self._send_off(stream, CloseReason.MOVED_ON, MOVE_RETRY)

    def closing(self, connection: Connection) -> None:
        """End a connection that waits for its client to agree, at the latest after a timeout."""
        self._reactor.callLater(CLOSE_TIMEOUT, connection.abandon)

    def intake(self, transport: Any, handle: Callable[[bytes], None]) -> Intake:
        """Return the intake that calls `handle` with what a client sends on `transport`."""
        return Intake(transport, handle, self._reactor)

    def _make_room(self, admission: Admission) -> None:
        """End the oldest stream of a subject that has reached its limit."""
        if not self._limits.per_subject:
            return
        streams = self._broker.streams_of(admission.subject)
        try:
            if not self._limits.exceeded(streams):
                return
        except LimitReached:
            self._broker.withdraw(admission)
            raise
        oldest = min(streams, key=attrgetter("opened"))
        oldest.notice("replaced", "by a newer stream")
        self._send_off(oldest, CloseReason.REPLACED, REPLACED_RETRY)

    def _note_open(self, stream: Stream, admission: Admission, address: str) -> None:
        stream.opened = self._reactor.seconds()
        stream.address = address
        stream.whose = admission.subject
        self._limits.opened(address)
        self._sightings.opened(stream.token)
        if self._presence is not None:
            self._presence.opened(stream.whose)
        self._open.add(stream)
        self._counters.streams_opened += 1
        self._counters.streams[stream.framing.transport] += 1
        if self._is_logged:
            self._log.debug(
                "stream of {subject!r} opened: {transport}, {address}", **_facts(stream)
            )

    def waited(self, poll: LongPoll) -> None:
        """Send a poll its current id, if that has changed without a message for it.

        Otherwise its client would come back with an id that grows old.
        """
        place = self._broker.where(poll)
        if place is not None and place != poll.last_event_id:
            poll.send(poll.framing.position(place))

    def _refresh(self, stream: Stream) -> None:
        """Send a stream its current id, which changes even if its channels are quiet."""
        if not stream.is_behind and (place := self._broker.where(stream)) is not None:
            stream.send(stream.framing.position(place))


def _facts(stream: Stream) -> dict[str, str]:
    """Return the fields of a stream for the log, and never its token."""
    return {
        "subject": stream.whose.decode(errors="replace"),
        "transport": stream.framing.transport,
        "address": stream.address,
    }
