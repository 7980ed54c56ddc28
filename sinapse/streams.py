"""The open streams of a node: opened, kept alive, ended when their token expires."""

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from sinapse.broker.broker import Admission, Broker
from sinapse.connection import Connection, take_over
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, CloseReason, Unauthorized
from sinapse.eventid import EventID
from sinapse.eventstream import EventStream
from sinapse.hub import Hub
from sinapse.keepalive import KeepAlive
from sinapse.replay import Replays
from sinapse.websocket import WebSocket
from sinapse.websocketpeer import WebSocketPeer

#: Seconds that a client has to agree to the end of its WebSocket.
LINGER = 2


class Streams(Service):
    """All open streams. `max_pending` is in bytes a stream, `keep_alive` in seconds."""

    def __init__(
        self,
        hub: Hub,
        broker: Broker,
        counters: Counters,
        *,
        max_pending: int,
        keep_alive: float,
        reactor: Any,
    ) -> None:
        self.max_pending = max_pending
        self._hub = hub
        self._broker = broker
        self._counters = counters
        self._replays = Replays(hub, broker, counters)
        self._reactor = reactor
        self._keep_alive = KeepAlive(keep_alive, reactor)
        self._open: set[Connection] = set()

    def startService(self) -> None:  # noqa: N802
        """Begin to send keep-alives."""
        super().startService()
        self._keep_alive.start()

    def stopService(self) -> None:  # noqa: N802
        """End all streams."""
        super().stopService()
        self._keep_alive.stop()
        for connection in list(self._open):
            connection.close(CloseReason.SHUTDOWN)

    def open(
        self,
        request: Request,
        admission: Admission,
        framing: EventStream | WebSocket,
        first: bytes,
        last_event_id: str | None = None,
    ) -> None:
        """Turn `request` into a stream whose first bytes are `first`, response head included.

        It resumes after `last_event_id`, if that is given. Raises
        :class:`~sinapse.errors.Unauthorized` if the leave was withdrawn on the way; the request
        can then still be answered.
        """

        def make() -> Connection:
            peer = WebSocketPeer() if isinstance(framing, WebSocket) else None
            return take_over(request, self, framing, admission.joining.token, peer)

        connection = self._hub.open(admission.joining, make, live=last_event_id is None)
        self._open.add(connection)
        self._counters.streams_opened += 1
        connection.bucket = self._keep_alive.add(connection)
        connection.send(first)
        self._watch_expiry(connection, admission.entry.remaining)
        if last_event_id is not None:
            position = admission.entry.position
            self._replays.begin(connection, EventID.parse(last_event_id), position)

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        """Forget a connection that has ended."""
        self._hub.leave(connection)
        self._open.discard(connection)
        self._keep_alive.discard(connection, connection.bucket)
        if connection.expiry is not None and connection.expiry.active():
            connection.expiry.cancel()
        connection.expiry = None
        self._counters.streams_closed[reason] += 1

    def closing(self, connection: Connection) -> None:
        """End a connection that is to be closed, at the latest in a while."""
        self._reactor.callLater(LINGER, connection.abandon)

    def _watch_expiry(self, connection: Connection, remaining: float | None) -> None:
        if remaining is not None and connection in self._open:
            connection.expiry = self._reactor.callLater(
                remaining, lambda: Deferred.fromCoroutine(self._expire(connection))
            )

    async def _expire(self, connection: Connection) -> None:
        """End a stream whose time is over, unless its token lives longer by now."""
        try:
            entry = await self._broker.look_up(connection.token)
        except (Unauthorized, BrokerUnavailable):
            # As far as is known it has expired. If Redis is away and knows better, the browser
            # comes back and is admitted then.
            self._hub.end(connection, CloseReason.EXPIRED)
        else:
            self._watch_expiry(connection, entry.remaining)
