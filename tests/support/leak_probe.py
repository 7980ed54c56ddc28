"""Opens and closes thousands of streams on a daemon in this process; prints what stays.

Run by test_leak with the URL of a Redis and a token; the last line is a JSON object: kinds of
objects, how many there were before, and after.
"""

from __future__ import annotations

import gc
import http.client
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.tcp import Server
from twisted.internet.threads import deferToThread

from sinapse.daemon.daemon import Daemon
from sinapse.settings import resolve
from tests.support import free_port

ROUNDS = 10
STREAMS = 400

KINDS = ("SocketConnection", "Server", "Channel", "Request", "Subject", "Joining", "DelayedCall")

reactor: Any = _reactor


def count() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    found = Counter(
        type(each).__name__
        for each in gc.get_objects()
        if type(each).__module__.startswith(("sinapse", "twisted"))
    )
    found["Server"] = sum(isinstance(each, Server) for each in gc.get_objects())
    found["sockets"] = sum(isinstance(each, socket.socket) for each in gc.get_objects())
    return {kind: found[kind] for kind in (*KINDS, "Deferred", "sockets")}


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/ready")
    ready = connection.getresponse().status == 200
    connection.close()
    return ready


def open_and_close(port: int, token: str) -> None:
    """Open many streams, half of which end well and half by a reset, and some that never open."""
    streams = []
    for number in range(STREAMS):
        stream = socket.create_connection(("127.0.0.1", port), 30)
        streams.append(stream)
        known = token if number % 10 else "unknown"
        stream.sendall(f"GET /?access_token={known} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        if number % 7 == 0:
            continue  # Closed while its token is looked up.
        received = b""
        while b"ok\n\n" not in received and b"unknown token" not in received:
            received += stream.recv(65536)
    for number, stream in enumerate(streams):
        if number % 2:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()


async def probe(url: str, token: str) -> None:
    port = free_port()
    given = {"port": [f"tcp:{port}:interface=127.0.0.1"], "redis": [url]}
    daemon = Daemon(resolve(given, {}))
    daemon.privilegedStartService()
    daemon.startService()

    def transports() -> Iterable[object]:
        # One that is about to close waits as a writer only.
        watched = (*reactor.getReaders(), *reactor.getWriters())
        return [each for each in watched if isinstance(each, Server)]

    async def idle() -> None:
        while transports():
            await deferToThread(lambda: None)

    while not await deferToThread(is_ready, port):
        pass
    counts = []
    for _ in range(ROUNDS):
        await deferToThread(open_and_close, port, token)
        await idle()
        counts.append(count())
    print(json.dumps({"before": counts[0], "after": counts[-1]}))  # noqa: T201
    reactor.stop()


def main() -> None:
    from twisted.internet.defer import Deferred

    def begin() -> None:
        Deferred.fromCoroutine(probe(sys.argv[1], sys.argv[2])).addErrback(fail)

    def fail(failure: Any) -> None:
        failure.printTraceback(sys.stderr)
        reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
