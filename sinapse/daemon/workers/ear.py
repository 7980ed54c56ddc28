"""The ear, as it sees itself: it hears Redis for all workers of its node."""

import os
import time
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.web.resource import Resource

from sinapse.admin.metrics import process_figures
from sinapse.admin.status import StatusResource
from sinapse.daemon.signals import Signals
from sinapse.daemon.systemd import Notifier
from sinapse.daemon.workers.inheritance import Inheritance
from sinapse.daemon.workers.worker import become_one, own_redis
from sinapse.ear.service import Ear
from sinapse.settings import Settings
from sinapse.sockets.inherited import SharedSocket
from sinapse.sockets.listener import Listener
from sinapse.sockets.turns import be_fair
from sinapse.web.site import Site

reactor: Any = _reactor


class EarProcess(MultiService):
    """The services of the process."""

    def __init__(self, settings: Settings, inheritance: Inheritance) -> None:
        super().__init__()
        (descriptor,) = inheritance.descriptors
        self._ear = Ear(own_redis(settings), SharedSocket(descriptor, reactor), reactor)
        self._notifier = Notifier(os.environ, reactor)
        services: list[Any] = [self._ear]
        if inheritance.admin is not None:
            root = Resource()
            root.putChild(b"status", StatusResource(partial(_status, time.monotonic())))
            place = f"unix:{quoteStringArgument(inheritance.admin)}:mode=600"
            services.append(Listener(place, Site(root, reactor), reactor, option="admin"))
        for service in (*services, self._notifier):
            service.setServiceParent(self)
        # It has no certificates.
        self._signals = Signals(reactor, hasten=self._ear.hasten, renew=lambda: None)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind."""
        self._signals.watch()
        super().privilegedStartService()

    def startService(self) -> None:  # noqa: N802
        """Serve the workers."""
        super().startService()
        be_fair(reactor)
        self._notifier.ready()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Stop when there is no more time: our parent kills us after the last worker.

        Until then it must hear that we live.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._ear.disownServiceParent()
        await super().stopService()


def make_ear(settings: Settings, inheritance: Inheritance) -> EarProcess:
    """Return the services of the ear; the process is one from here on."""
    become_one(inheritance)
    return EarProcess(settings, inheritance)


def _status(started: float) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "uptime": round(time.monotonic() - started, 1),
        "process": process_figures(),
    }
