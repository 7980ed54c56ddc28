"""Requests for streams, as many as come."""

from __future__ import annotations

import contextlib
import socket

from sinapse.publisher import Publisher
from sinapse.streams.resource import ADMISSIONS
from tests.support import EVENT_TIMEOUT, eventually
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy


def test_when_many_come_at_once_some_are_looked_up_and_all_are_opened(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    tokens = []
    with publisher.pipeline() as pipe:
        for number in range(3 * ADMISSIONS):
            pipe.channels.add(number, "news")
            tokens.append(pipe.tokens.generate(number))

    def asked() -> int:
        sent = b"".join(link.sent for link in proxy.links)
        return sum(token.result.encode() in sent for token in tokens)

    proxy.stall("down")
    with contextlib.ExitStack() as opened:
        clients = []
        for token in tokens:
            client = socket.create_connection(("127.0.0.1", distant.port), EVENT_TIMEOUT)
            clients.append(opened.enter_context(client))
            request = f"GET /?access_token={token.result} HTTP/1.1\r\nHost: push\r\n\r\n"
            client.sendall(request.encode())
        eventually(lambda: asked() == ADMISSIONS)
        assert distant.get("/nowhere").status == 404  # All have been read by now.
        assert asked() == ADMISSIONS
        proxy.flow()
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"
