"""The parent of workers and their ear: it binds, starts them, and serves no stream itself."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from sinapse.admin.root import tree
from sinapse.api.service import API
from sinapse.counters import Counters
from sinapse.daemon.signals import Signals
from sinapse.daemon.systemd import Notifier
from sinapse.daemon.traces import Traces
from sinapse.daemon.workers.inheritance import EAR, ear_socket
from sinapse.daemon.workers.overview import Overview, Ready
from sinapse.daemon.workers.ports import HeldPort
from sinapse.daemon.workers.process import Process, Program
from sinapse.errors import StartError
from sinapse.settings import Settings
from sinapse.sockets import descriptors
from sinapse.sockets.bounds import BACKLOG
from sinapse.sockets.forwarded import TrustedProxies
from sinapse.sockets.gate import Gate
from sinapse.sockets.listener import Listener
from sinapse.txredis.embedded import EmbeddedServer
from sinapse.web.site import Site

#: Seconds that a worker has to end when it has no streams left.
WORKER_END_TIMEOUT = 30

#: Runs twistd from wherever this process has its modules from.
TWISTD = ("-X", "faulthandler", "-c", "from twisted.scripts.twistd import run; run()")

reactor: Any = _reactor


class Supervisor(MultiService):
    """Keeps ``--workers`` and an ear running, each with these `options` of twistd and of ours."""

    _log = Logger()

    def __init__(
        self, settings: Settings, twistd_options: Sequence[str], options: Sequence[str]
    ) -> None:
        """Read everything that a worker will; raises :class:`~sinapse.errors.StartError`."""
        super().__init__()
        self._settings = settings
        self._command = [
            *(sys.executable, *(f"-W{each}" for each in sys.warnoptions), *TWISTD),
            *("--nodaemon", "--pidfile=", "--logger=sinapse.daemon.workers.relay.observer"),
            *(*twistd_options, "sinapse", *options),
        ]
        self._notifier = Notifier(os.environ, reactor)
        self._workers: list[Process] = []
        self._ear: Process | None = None
        self._was_ready = False
        self._ports = [HeldPort(port, reactor) for port in settings.ports]
        if (folder := settings.redis[0].embedded) is not None:
            EmbeddedServer(folder, reactor).setServiceParent(self)
        self._overview = Overview(self._workers, lambda: self._ear, settings.prefixes, reactor)
        services: list[Any] = [*self._ports, self._overview, self._notifier]
        proxies = TrustedProxies(settings.trusted_proxies, settings.forwarded_header)
        aside = partial(Gate, Counters(), proxies, most=descriptors.aside, reactor=reactor)
        if settings.admin is not None:
            overview, ready = self._overview, Ready(self._overview)
            site = Site(tree(overview, overview, ready, settings.admin_hosts), reactor)
            services.append(Listener(settings.admin, site, reactor, option="admin", gate=aside()))
        self._api = None if settings.api is None else API(settings, reactor, aside())
        if self._api is not None:
            # What it publishes has spans here; those of streams are their workers'.
            services += [Traces(os.environ, reactor), self._api]
        for service in services:
            service.setServiceParent(self)
        self._signals = Signals(reactor, hasten=self._hasten, renew=self._renew)

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind; raises :class:`~sinapse.errors.StartError`."""
        self._signals.watch()
        try:
            super().privilegedStartService()
            self._sockets = [port.descriptor for port in self._ports]
        except StartError:
            # twistd has put its log in the place of standard error by now.
            sys.stderr = sys.__stderr__
            raise

    def startService(self) -> None:  # noqa: N802
        """Start the workers."""
        super().startService()
        self._folder = TemporaryDirectory(prefix="sinapse-", ignore_cleanup_errors=True)
        program = Program(
            self._command,
            dict(os.environ),
            Path(self._folder.name),
            has_admin=self._settings.admin is not None,
        )
        # Workers that come while the ear starts, or is replaced, wait in the queue of its socket.
        self._ear_socket = socket.socket(socket.AF_UNIX)
        self._ear_socket.bind(ear_socket(program.folder))
        self._ear_socket.listen(BACKLOG)
        self._ear = Process(EAR, program, [self._ear_socket.fileno()], self._changed, reactor)
        self._ear.startService()
        for number in range(1, self._settings.workers + 1):
            worker = Process(number, program, self._sockets, self._changed, reactor)
            self._workers.append(worker)
            worker.startService()

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Have the workers end in good order, and then everything else."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notifier.stopping()
        for port in self._ports:
            port.stopService()
        await gatherResults(
            [worker.end(self._settings.drain + WORKER_END_TIMEOUT) for worker in self._workers]
        )
        # Until here streams that end got messages. The ear keeps nothing, and would go on: nobody
        # tells it that the last worker has gone.
        if self._ear is not None:
            await self._ear.end(0)
            self._ear_socket.close()
        self._folder.cleanup()
        await super().stopService()

    def _changed(self, process: Process) -> None:
        """Tell how many workers serve."""
        if process.pid is None:
            self._overview.ended(process)
        elif process.is_ready:
            self._log.info(
                f"{process.title} (process {{pid}}) serves",
                number=process.label,
                pid=process.pid,
            )
        ready, count = sum(each.is_ready for each in self._workers), len(self._workers)
        status = f"{ready} of {count} workers serve"
        if ready == count and not self._was_ready:
            self._was_ready = True
            self._notifier.ready(status)
        elif self.running:
            self._notifier.status(status)

    def _renew(self) -> None:
        if self._was_ready:
            self._notifier.reloading()
        if self._api is not None:
            self._api.renew()
        for worker in self._workers:
            worker.renew()
        if self._was_ready:
            self._notifier.ready()

    def _hasten(self) -> None:
        for worker in self._workers:
            worker.signal(signal.SIGINT)
