"""The composition root: every part of the daemon, made and wired, from top to bottom."""

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from sinapse.broker.broker import RedisBroker
from sinapse.broker.interface import Broker
from sinapse.broker.occupancy import OccupancyService
from sinapse.broker.presence import PresenceService
from sinapse.broker.runs import RunSweeper
from sinapse.broker.sharded import ShardedBroker
from sinapse.broker.sightings import Sightings
from sinapse.counters import Counters
from sinapse.daemon.looplag import LoopLag
from sinapse.daemon.signals import Signals
from sinapse.daemon.systemd import Notifier
from sinapse.daemon.traces import Traces
from sinapse.ear.client import DialEar
from sinapse.errors import StartError
from sinapse.hub.presence import Presence
from sinapse.protocol.message import MAX_MESSAGE
from sinapse.protocol.redislist import shards_of
from sinapse.protocol.redisurl import RedisURL
from sinapse.settings import Settings
from sinapse.sockets import descriptors
from sinapse.sockets.forwarded import TrustedProxies
from sinapse.sockets.gate import Gate
from sinapse.sockets.listener import Listener
from sinapse.sockets.turns import be_fair
from sinapse.streams.limits import StreamLimits
from sinapse.streams.resource import StreamResource
from sinapse.streams.stream import Stream
from sinapse.streams.streams import Streams
from sinapse.txredis.embedded import EmbeddedServer
from sinapse.web.answers import Ready, Status
from sinapse.web.limits import RequestLimits
from sinapse.web.site import Site

if TYPE_CHECKING:
    from sinapse.api.service import API

#: Seconds for which clients wait in the kernel's queue while Redis is not connected yet: more than
#: connecting takes, and less than they wait for an answer.
REDIS_WAIT = 2

#: Seconds, on top of the reconnection time, for which a subject without a stream still counts as
#: online, and a channel without a listener as occupied.
PRESENCE_GRACE = 5

#: Seconds for which a daemon that ends waits for the requests of connections that it has accepted:
#: a client sends its first one at once.
LAST_REQUESTS = 1

#: Python's own are 700, 10, 10: with these a connect takes a quarter to a third less CPU, since the
#: collector walked all open streams again and again, and for 10,000 messages wait 50 ms each time.
#: Streams are freed without it.
GC_THRESHOLDS = (10_000, 20, 250)

reactor: Any = _reactor


class Daemon(MultiService):
    """All services, started in the order of their making and stopped in the reverse of it."""

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        listen: Callable[..., Listener] = Listener,
        ear: str | None = None,
    ) -> None:
        """Make everything; `listen` makes what serves a ``--port``.

        `ear` is the path at which the node has one that hears Redis for us.
        """
        super().__init__()
        counters = Counters()
        broker, parts = _broker(settings, counters, ear)
        proxies = TrustedProxies(settings.trusted_proxies, settings.forwarded_header)
        gate = Gate(
            counters,
            proxies,
            rate=settings.accept_rate,
            per_address=settings.max_streams_per_address,
            is_open=False,
            reactor=reactor,
        )
        aside = partial(Gate, counters, proxies, most=descriptors.aside, reactor=reactor)
        limits = StreamLimits(
            total=settings.max_streams,
            per_address=settings.max_streams_per_address,
            per_subject=settings.max_streams_per_subject,
            replaces=settings.subject_overflow == "replace",
            counted=proxies.counted,
            is_full=gate.is_full,
        )
        presence = Presence(settings.retry + PRESENCE_GRACE) if settings.presence else None
        sightings = Sightings(parts, reactor)
        self._gate = gate
        self._broker = broker
        self._streams = streams = Streams(
            broker,
            counters,
            settings,
            limits=limits,
            sightings=sightings,
            presence=presence,
            reactor=reactor,
        )
        root = StreamResource(
            broker,
            streams,
            counters,
            settings,
            limits=limits,
            proxies=proxies,
            reactor=reactor,
        )
        root.putChild(b"status", Status())
        ready = Ready(self._trouble)
        root.putChild(b"ready", ready)
        request_limits = RequestLimits(
            timeout=settings.request_timeout,
            idle=settings.idle_timeout,
            url=settings.max_url,
            header=settings.max_header,
            body=settings.max_body,
        )
        self._site = Site(
            root,
            reactor,
            request_limits,
            http2=settings.http2,
            refused=counters.requests_refused,
        )
        gate.relieve = self._site.close_an_idle

        traces = Traces(os.environ, reactor)
        if traces.is_wanted:
            for part in parts:
                part.hub.journeys.trace = traces.delivered
        services: list[Any] = [traces, broker, streams, LoopLag(counters.loop_lag_seconds, reactor)]
        services += [sightings, *(RunSweeper(each, reactor) for each in parts)]
        if presence is not None:
            services += [PresenceService(each, presence, reactor) for each in parts]
            services += [OccupancyService(each, presence.grace, reactor) for each in parts]
        if (folder := settings.redis[0].embedded) is not None:
            services.insert(0, EmbeddedServer(folder, reactor))
        self._ports = [listen(port, self._site, reactor, gate=gate) for port in settings.ports]
        self._listeners = [*self._ports]
        if settings.admin:
            from sinapse.admin.root import admin_root  # noqa: PLC0415  # As in _api.

            admin = Site(
                admin_root(
                    broker,
                    streams,
                    counters,
                    ready=ready,
                    seconds=reactor.seconds,
                    hosts=settings.admin_hosts,
                    prefix=settings.prefixes,
                ),
                reactor,
            )
            self._listeners.append(
                Listener(settings.admin, admin, reactor, option="admin", gate=aside())
            )
        self._api = None if settings.api is None else _api(settings, aside())
        if self._api is not None:
            services.append(self._api)
        self._notifier = Notifier(os.environ, reactor)
        for service in (*services, *self._listeners, self._notifier):
            service.setServiceParent(self)
        self._drain_seconds = settings.drain
        self._max_pending = settings.max_pending
        self._opening: Deferred[None] = Deferred()
        self._drain: Deferred[None] | None = None
        self._signals = Signals(reactor, hasten=self._hasten, renew=self._renew_certificates)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind; raises :class:`~sinapse.errors.StartError`."""
        self._signals.watch()
        try:
            super().privilegedStartService()
        except StartError:
            # twistd has put its log in the place of standard error by now.
            sys.stderr = sys.__stderr__
            raise

    def startService(self) -> None:  # noqa: N802
        """Start everything."""
        super().startService()
        if (longest := _longest_message(os.environ)) > self._max_pending:
            self._log.warn(
                "--max-pending {most}: a message may have {longest} bytes (SINAPSE_MAX_MESSAGE);"
                " a stream gets a reset in place of a message that is too long for it",
                most=self._max_pending,
                longest=longest,
            )
        be_fair(reactor)
        # What is there now stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._opening = Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        """Accept when Redis is connected, so that no client is refused at the start.

        After a while without Redis, accept all the same, and answer that Redis is away.
        """
        connected = Deferred.fromCoroutine(self._broker.when_ready())
        late = reactor.callLater(REDIS_WAIT, connected.cancel)
        with suppress(CancelledError):
            await connected
        if late.active():
            late.cancel()
        if not self._site.is_closing:
            self._gate.open()
            self._notifier.ready()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Accept no more, drain, and stop everything."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notifier.stopping()
        self._site.is_closing = True
        self._opening.cancel()
        await DeferredList([maybeDeferred(each.stopService) for each in self._ports])
        self._drain = Deferred.fromCoroutine(self._streams.drain(self._drain_seconds))
        with suppress(CancelledError):
            await self._drain
        await self._site.settle(LAST_REQUESTS)
        await super().stopService()

    def _trouble(self) -> str | None:
        """Return why clients should not come here now, or None."""
        if self._streams.is_draining:
            return "draining"
        return None if self._broker.ready else "Redis is not available"

    def _hasten(self) -> None:
        """End all streams at once."""
        self._drain_seconds = 0
        if self._drain is not None:
            self._drain.cancel()

    def _renew_certificates(self) -> None:
        is_open = self._opening.called
        if is_open:
            self._notifier.reloading()
        for listener in self._listeners:
            listener.renew_certificates()
        if self._api is not None:
            self._api.renew()
        if is_open:
            self._notifier.ready()


def _longest_message(environment: Mapping[str, str]) -> int:
    """Return how many bytes of data a message may have, as far as is known here."""
    text = environment.get("SINAPSE_MAX_MESSAGE", "")
    return int(text) if text.isdecimal() and len(text) < 20 else MAX_MESSAGE


def _broker(
    settings: Settings, counters: Counters, ear: str | None
) -> tuple[Broker[Stream], Sequence[RedisBroker[Any]]]:
    """Return Redis, as streams see it, and the brokers of each one that it is made of."""
    made: Any = partial(
        RedisBroker,
        counters=counters,
        max_pending=settings.max_pending,
        max_channels=settings.max_channels_per_subject,
        admits_empty=settings.admit_empty,
        reactor=reactor,
    )

    def make(url: RedisURL, **others: Any) -> RedisBroker[Any]:
        if ear is not None:
            others["dial_subscription"] = DialEar(ear, settings.redis.index(url))
        broker: RedisBroker[Any] = made(url, **others)
        return broker

    if not shards_of(settings.redis).are_spread:
        one: RedisBroker[Stream] = make(settings.redis[0])
        return one, [one]
    several: ShardedBroker[Stream] = ShardedBroker(
        settings.redis,
        make,
        least=settings.min_redis,
        admits_empty=settings.admit_empty,
        reactor=reactor,
    )
    return several, several.parts


def _api(settings: Settings, gate: Gate) -> "API":
    # What this loads is a quarter of the time of a start, and most daemons have no API.
    from sinapse.api.service import API  # noqa: PLC0415

    return API(settings, reactor, gate)
