"""A worker, or the ear, as its parent sees it: started, watched, replaced when it ends."""

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.process import ProcessExitedAlready
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.daemon.systemd import SOCKET, WATCHDOG
from sinapse.daemon.workers.inheritance import VARIABLE, Inheritance, title
from sinapse.daemon.workers.relay import Relay

#: Seconds before a process is started again: doubled each time, from the first to the second value,
#: until it lives for the third.
FIRST_DELAY = 0.1
LAST_DELAY = 5.0
STABLE_AGE = 10.0

#: Seconds of silence after which a process counts as hung. They are counted in looks: after a pause
#: of the whole machine, the clock alone must not end one.
HANG_TIMEOUT = 60.0
LOOKS_BEFORE_HANG = 4

#: Seconds until the first sign of life: Python reads many files, perhaps from a slow disk.
START_TIMEOUT = 120.0

#: Seconds to write down where it hangs, before it is killed.
LAST_WORDS = 5.0

#: The first descriptor behind standard error.
FIRST_DESCRIPTOR = 3


@dataclass(frozen=True)
class Program:
    """What all processes of a node run: a command, and its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    """Where they meet each other and their parent: nobody else may enter it."""
    has_admin: bool


class Process(Service):
    """Keeps a process running; `changed` is called when it begins to serve, and ends to.

    `label` is the number of a worker, or that of the ear; it accepts from `sockets`.
    """

    _log = Logger()

    #: Whether it has begun to serve, and whether it still does: it may be draining.
    has_started = False
    is_ready = False

    def __init__(
        self,
        label: int | str,
        program: Program,
        sockets: Sequence[int],
        changed: Callable[["Process"], None],
        reactor: Any,
    ) -> None:
        self.label = label
        self.title = title(label)
        self.ends = 0
        self.admin = str(program.folder / f"{label}.admin") if program.has_admin else None
        self._notify = str(program.folder / f"{label}.notify")
        self._program = program
        self._sockets = sockets
        self._changed = changed
        self._reactor = reactor
        self._run: _Run | None = None
        self._delay = FIRST_DELAY
        self._next: IDelayedCall | None = None
        self._kill: IDelayedCall | None = None
        self._renew_when_ready = False
        self._silence = 0
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor
        self._ended: Deferred[None] | None = None

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return None if self._run is None else self._run.pid

    def startService(self) -> None:  # noqa: N802
        """Start the first process."""
        super().startService()
        self._port = self._reactor.listenUNIXDatagram(
            self._notify, _Notices(self._told), mode=0o600
        )
        self._looks.start(HANG_TIMEOUT / LOOKS_BEFORE_HANG, now=False)
        self._spawn()

    def end(self, patience: float) -> "Deferred[None]":
        """Ask the process to end, and kill it after `patience` seconds; fires when it has."""
        super().stopService()
        self._looks.stop()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        ended: Deferred[None] = Deferred()
        if self._run is None:
            ended.callback(None)
        else:
            self._ended = ended
            self.signal(signal.SIGTERM)
            if self._kill is None:
                self._kill = self._reactor.callLater(patience, self._put_to_death)
        return ended.addBoth(lambda _: self._port.stopListening())

    def signal(self, number: int) -> None:
        """Send a signal, if the process is there."""
        if self._run is not None:
            self._run.signal(number)

    def renew(self) -> None:
        """Have certificates read again. Before it is ready, a SIGHUP would be the end of it."""
        if self.has_started:
            self.signal(signal.SIGHUP)
        else:
            self._renew_when_ready = True

    def _spawn(self) -> None:
        self._next = None
        self._silence = 0
        self._renew_when_ready = False
        descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + len(self._sockets))
        inheritance = Inheritance(
            self.label, tuple(descriptors), str(self._program.folder), self.admin
        )
        environment = {
            **self._program.environment,
            VARIABLE: inheritance.to_text(),
            SOCKET: self._notify,
            WATCHDOG: str(int(HANG_TIMEOUT / LOOKS_BEFORE_HANG * 2 * 1_000_000)),
        }
        run = _Run(self.label, self._run_ended, self._reactor)
        try:
            self._reactor.spawnProcess(
                run,
                self._program.command[0],
                self._program.command,
                env=environment,
                childFDs={
                    0: "w",
                    1: "r",
                    2: "r",
                    **dict(zip(descriptors, self._sockets, strict=True)),
                },
            )
        except OSError as error:  # There is no memory, or there are too many processes.
            self._again(error.strerror or str(error))
        else:
            self._run = run

    def _run_ended(self, run: "_Run", how: str) -> None:
        self._run = None
        had_started, self.has_started, self.is_ready = self.has_started, False, False
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if run.age > STABLE_AGE and had_started:
            self._delay = FIRST_DELAY
        if self._ended is not None:
            self._ended.callback(None)
        elif self.running:
            self._again(f"{how} after {run.age:.1f} s")
        self._changed(self)

    def _again(self, why: str) -> None:
        self._log.error(
            f"{self.title} ended: {{why}}; another one is started in {{delay:g}} s",
            number=self.label,
            why=why,
            delay=self._delay,
        )
        self.ends += 1
        self._next = self._reactor.callLater(self._delay, self._spawn)
        self._delay = min(self._delay * 2, LAST_DELAY)

    def _told(self, fields: Mapping[str, str]) -> None:
        """Take note of what the process says."""
        self._silence = 0
        if fields.get("READY") == "1" and not self.has_started:
            self.has_started = self.is_ready = True
            if self._renew_when_ready:
                self.signal(signal.SIGHUP)
            self._changed(self)
        elif fields.get("STOPPING") == "1" and self.is_ready:
            self.is_ready = False
            self._changed(self)

    def _look(self) -> None:
        self._silence += 1
        patience = HANG_TIMEOUT if self.has_started else START_TIMEOUT
        is_late = self._silence * HANG_TIMEOUT / LOOKS_BEFORE_HANG > patience
        if not is_late or self._run is None or self._kill is not None:
            return
        self._log.error(
            f"{self.title} has said nothing for {{seconds:g}} s, and is killed",
            number=self.label,
            seconds=patience,
        )
        # Python then writes down where it hangs.
        self.signal(signal.SIGABRT)
        self._kill = self._reactor.callLater(LAST_WORDS, self._put_to_death)

    def _put_to_death(self) -> None:
        self._kill = None
        self.signal(signal.SIGKILL)


class _Run(ProcessProtocol):
    """One process; `ended` is called with how it ended."""

    transport: IProcessTransport

    def __init__(
        self, label: int | str, ended: Callable[["_Run", str], None], reactor: Any
    ) -> None:
        # Lines of standard output and of standard error must not be mixed.
        self._relays = {child: Relay(label, lambda: self.pid) for child in (1, 2)}
        self._ended = ended
        self._seconds = reactor.seconds
        self._started = reactor.seconds()

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return float(self._seconds() - self._started)

    @property
    def pid(self) -> int | None:
        pid: int | None = self.transport.pid
        return pid

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        """Pass the log on."""
        self._relays[childFD].take(data)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """Tell how."""
        for relay in self._relays.values():
            relay.finish()
        value: Any = reason.value
        if value.signal is not None:
            how = signal.Signals(value.signal).name
        else:
            how = f"exit code {value.exitCode or 0}"
        self._ended(self, how)


class _Notices(DatagramProtocol):
    """Hears what a process says in the words of sd_notify(3)."""

    noisy = False

    def __init__(self, told: Callable[[Mapping[str, str]], None]) -> None:
        self._told = told

    def datagramReceived(self, datagram: bytes, addr: object) -> None:  # noqa: ARG002, N802
        lines = datagram.decode("utf-8", "replace").splitlines()
        self._told(dict(line.split("=", 1) for line in lines if "=" in line))
