"""Notifications for a service manager, or from a worker to its parent: sd_notify(3)."""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Where to send datagrams, how often (microseconds), and by whom.
SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"


class Notifier(Service):
    """Says when we are ready, and that the event loop still turns; does nothing without a manager.

    The variables are removed from `environment`: child processes must not notify our manager.
    """

    _log = Logger()
    _pings: LoopingCall | None = None

    def __init__(self, environment: MutableMapping[str, str], reactor: Any) -> None:
        address = environment.pop(SOCKET, "")
        interval = environment.pop(WATCHDOG, "")
        pid = environment.pop(WATCHDOG_PID, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        if self._address and interval.isdigit() and pid in ("", str(os.getpid())):
            self._pings = LoopingCall(self._send, "WATCHDOG=1")
            self._pings.clock = reactor
            # Half of it, as sd_watchdog_enabled(3) has it.
            self._interval = int(interval) / 2 / 1_000_000

    def startService(self) -> None:  # noqa: N802
        """Begin to say that we live."""
        super().startService()
        if self._pings is not None:
            self._pings.start(self._interval)

    def stopService(self) -> None:  # noqa: N802
        """Say no more."""
        super().stopService()
        if self._pings is not None and self._pings.running:
            self._pings.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str = "serving") -> None:
        """Say that clients are served."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """Say how things are, for people."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """Say that files are read again; :meth:`ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that we are about to end."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            self._log.warn(
                "{socket} {address!r}: {error}",
                socket=SOCKET,
                address=self._address,
                error=error.strerror or str(error),
            )
