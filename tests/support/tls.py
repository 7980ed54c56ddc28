"""A daemon that is reached over TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port
from tests.support.certificates import root
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.websocket import received


class SecureDaemon:
    """A daemon with a TLS endpoint, and how to reach that."""

    def __init__(self, daemon: Daemon, port: int, context: ssl.SSLContext) -> None:
        self.daemon = daemon
        self.port = port
        self.context = context

    def stream(self, token: str, after: str | None = None) -> Stream:
        headers = {} if after is None else {"Last-Event-ID": after}
        path = f"/?access_token={token}"
        return Stream(self.port, path, headers, context=self.context)

    @contextlib.contextmanager
    def websocket(self, token: str, after: str | None = None) -> Iterator[ClientConnection]:
        """Open a WebSocket, and read what comes first."""
        resume = "" if after is None else f"&last_event_id={after}"
        url = f"wss://127.0.0.1:{self.port}/?access_token={token}{resume}"
        with connect(url, ssl=root().client_of_threads(), proxy=None, max_size=None) as client:
            assert received(client)["event"] == "authentication"
            yield client

    def certificate(self, name: str = "127.0.0.1") -> str:
        """Return what a client is shown that asks for `name`, in PEM format."""
        with shaken_hands(self.port, self.context, name) as client:
            shown = client.getpeercert(binary_form=True)
            assert shown is not None
            return ssl.DER_cert_to_PEM_cert(shown)

    def hang_up(self) -> None:
        """Ask the daemon to read its certificates again."""
        os.kill(self.daemon.pid, signal.SIGHUP)

    def said(self, text: str, times: int = 1) -> None:
        """Wait for a line in the log, and check that there are no more of it."""
        eventually(lambda: self.daemon.log.count(text) >= times, text)
        assert self.daemon.log.count(text) == times


@contextlib.contextmanager
def secure_daemon(
    folder: Path, redis: RedisServer, context: ssl.SSLContext, arguments: str, *options: str
) -> Iterator[SecureDaemon]:
    """Run a daemon with an endpoint ``ssl:`` and `arguments`, or ``tls:``, a folder's."""
    port = free_port()
    kind, _, rest = arguments.partition(":")
    endpoint = f"{kind}:port={port}:interface=127.0.0.1:{rest}"
    with running_daemon(folder, redis.url, "--port", endpoint, *options) as daemon:
        yield SecureDaemon(daemon, port, context)
        assert "Traceback" not in daemon.log


@contextlib.contextmanager
def shaken_hands(
    port: int, context: ssl.SSLContext, name: str = "127.0.0.1"
) -> Iterator[ssl.SSLSocket]:
    """Shake hands, and say nothing."""
    with (
        socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        yield client
