"""Requests for streams, as many as come."""

from __future__ import annotations

import contextlib
import socket

from sinapse.protocol.keys import MAX_TOKEN_LENGTH
from sinapse.publisher import Publisher
from sinapse.streams.admissions import ADMISSIONS
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


def test_many_who_are_refused_at_once_keep_nobody_else_out(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    """Their tokens are too long to be looked up, so each makes room as soon as there is room."""
    publisher.channels.add(1, "news")
    token = publisher.tokens.generate(1)
    lengths = [86] * 2 * ADMISSIONS + [MAX_TOKEN_LENGTH + 1] * 1500
    proxy.stall("down")
    with contextlib.ExitStack() as opened:
        clients = []
        for length in lengths:
            client = socket.create_connection(("127.0.0.1", distant.port), EVENT_TIMEOUT)
            clients.append(opened.enter_context(client))
            client.sendall(
                b"GET /?access_token=%b HTTP/1.1\r\nHost: push\r\n\r\n" % (b"x" * length)
            )
        assert distant.get("/nowhere").status == 404
        proxy.flow()
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 401"
    with distant.stream(token).opened() as stream:
        publisher.publish("news", "still here")
        assert stream.next().data == "still here"
    assert "RecursionError" not in distant.log
