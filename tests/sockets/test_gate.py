"""The gate: descriptors run out and nothing else happens; who floods; who may say who it is."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from sinapse.sockets.gate import OTHER_CONNECTIONS_PER_ADDRESS
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.daemon import Daemon, Stream, refusal, running_daemon
from tests.support.subscribing import refused, subscribe

#: Descriptors of the daemon that has few: half of them are for clients, of whom one in eight is let
#: in only to be refused.
DESCRIPTORS = 80
ASIDE = DESCRIPTORS // 16
CONNECTIONS = DESCRIPTORS // 2 - 2 * ASIDE
STREAMS = CONNECTIONS - CONNECTIONS // 8

ASK = b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(stack: ExitStack, daemon: Daemon, source: str = "127.0.0.1") -> socket.socket:
    assert isinstance(daemon.address, int)
    address = ("127.0.0.1", daemon.address)
    client = socket.create_connection(address, EVENT_TIMEOUT, source_address=(source, 0))
    return stack.enter_context(client)


def is_closed(client: socket.socket) -> bool:
    """Return whether the daemon closes, rather than answer."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@contextlib.contextmanager
def daemon_with_few_descriptors(folder: Path, redis: RedisServer) -> Iterator[Daemon]:
    # Connections that ask nothing stay.
    daemon = Daemon(folder, redis.url, "--request-timeout", "3600")
    daemon.command[:0] = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    try:
        yield daemon.start()
    finally:
        if daemon.process is not None:
            end(daemon.process)


def test_when_descriptors_run_out_streams_live_on_and_others_wait(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
) -> None:
    with daemon_with_few_descriptors(tmp_path, redis_server) as daemon:
        token = subscribe(publisher, "news")
        streams: list[Stream] = []
        # What was asked for while it started may not have been closed yet.
        eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
        for _ in range(STREAMS):
            stream = stack.enter_context(daemon.stream(token))
            if stream.next().event != "authentication":
                break
            streams.append(stream)
        assert len(streams) > STREAMS - 4
        # There is still room to say that there is none, and for who asks how things are.
        assert refused(daemon, token) == (503, "503 too many streams\n")
        assert daemon.get("/ready").status == 200

        waiting = [connect(stack, daemon) for _ in range(3 * CONNECTIONS)]
        eventually(lambda: "no descriptors are left" in daemon.log)
        waiting[-1].sendall(ASK)
        assert not select.select([waiting[-1]], [], [], 0.5)[0]
        publisher.publish("news", "while it is full")
        assert {stream.message().data for stream in streams} == {"while it is full"}

        # Redis is reached again, although clients wait for every descriptor.
        connects = daemon.metrics()["sinapse_redis_connects_total"]
        with redis_server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: daemon.metrics()["sinapse_redis_connects_total"] > connects)
        publisher.publish("news", "after that")
        assert {stream.message().data for stream in streams} == {"after that"}

        for client in waiting[:-1]:
            client.close()
        assert waiting[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
        assert daemon.metrics()["sinapse_accepts_paused_total descriptors"] >= 1
        # A line a minute, whatever comes; and none of Twisted's, which come by the socket.
        assert daemon.log.count("no descriptors are left") <= 2
        assert "EMFILE" not in daemon.log
        assert "Traceback" not in daemon.log


def test_when_descriptors_run_out_what_is_idle_makes_room(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
) -> None:
    with daemon_with_few_descriptors(tmp_path, redis_server) as daemon:
        token = subscribe(publisher, "news")
        idle = [connect(stack, daemon) for _ in range(CONNECTIONS - 2)]
        for client in idle:
            client.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        for _ in range(STREAMS - 4):
            stack.enter_context(daemon.stream(token)).opened()
        assert is_closed(idle[0])  # That which was so for longest.
        idle[-1].sendall(ASK)
        assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
        assert "no descriptors are left" not in daemon.log


def test_who_comes_faster_than_the_rate_waits_and_is_served(
    tmp_path: Path, redis_server: RedisServer, stack: ExitStack
) -> None:
    with running_daemon(tmp_path, redis_server.url, "--accept-rate", "5") as daemon:
        clients = [connect(stack, daemon) for _ in range(20)]
        for client in clients:
            client.sendall(ASK)
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert daemon.metrics()["sinapse_accepts_paused_total rate"] >= 1


def test_one_address_cannot_take_all_connections(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
) -> None:
    options = ("--max-streams-per-address", "1", "--request-timeout", "3600")
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        flood = [
            connect(stack, daemon, "127.0.0.2") for _ in range(1 + OTHER_CONNECTIONS_PER_ADDRESS)
        ]
        assert is_closed(connect(stack, daemon, "127.0.0.2"))
        other = connect(stack, daemon, "127.0.0.3")
        other.sendall(ASK)
        assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
        name = "sinapse_connections_refused_total too many connections of this address"
        assert daemon.metrics()[name] == 1
        for client in flood:
            client.close()

        def is_let_in() -> bool:
            client = connect(stack, daemon, "127.0.0.2")
            with contextlib.suppress(ConnectionError):
                client.sendall(ASK)
            return not is_closed(client)

        eventually(is_let_in)


class TestProxyProtocol:
    """``haproxy:`` before an endpoint: only trusted proxies may say who a client is."""

    def test_somebody_must_be_trusted(self, tmp_path: Path) -> None:
        line = refusal(tmp_path, "--port", "haproxy:tcp:0")
        assert "--port 'haproxy:tcp:0': name the proxies with --trusted-proxies" in line

    def test_a_proxy_is_believed_and_nobody_else(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
    ) -> None:
        options = (
            *("--trusted-proxies", "127.0.0.0/30", "--max-streams-per-address", "1"),
            *("--log-level", "debug"),
        )
        daemon = Daemon(tmp_path, redis_server.url, *options)
        endpoint = daemon.command.index("--port") + 1
        daemon.command[endpoint] = "haproxy:" + daemon.command[endpoint]
        daemon.launch()
        assert daemon.process is not None
        stack.callback(end, daemon.process)
        eventually(daemon.is_ready)

        def answer(source: str, first: bytes) -> bytes:
            client = connect(stack, daemon, source)
            token = subscribe(publisher, "news", subject=source).encode()
            with contextlib.suppress(ConnectionError):
                client.sendall(
                    b"%bGET /?access_token=%b HTTP/1.1\r\nHost: a\r\n\r\n" % (first, token)
                )
                return client.recv(65536)
            return b""

        header = b"PROXY TCP4 192.0.2.%d 192.0.2.99 4711 80\r\n"
        assert answer("127.0.0.2", header % 1).startswith(b"HTTP/1.1 200 ")
        assert answer("127.0.0.3", header % 1).startswith(b"HTTP/1.1 429 ")
        assert answer("127.0.0.3", header % 2).startswith(b"HTTP/1.1 200 ")
        assert "192.0.2.1" in daemon.log
        # Without a header, and from elsewhere.
        assert answer("127.0.0.2", b"") == b""
        assert answer("127.0.0.9", header % 3) == b""
        refused = daemon.metrics()["sinapse_connections_refused_total not a trusted proxy"]
        assert refused == 1
        assert "Traceback" not in daemon.log


def test_connections_to_the_api_take_nothing_from_streams(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
) -> None:
    (tmp_path / "keys").write_text("k" * 32)
    port = free_port()
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(tmp_path / "keys"))
    daemon = Daemon(tmp_path, redis_server.url, *options)
    daemon.command[:0] = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    try:
        daemon.start()
        for _ in range(2 * DESCRIPTORS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT))
        eventually(lambda: "no descriptors are left" in daemon.log)
        for _ in range(STREAMS // 2):
            stack.enter_context(daemon.stream(subscribe(publisher, "news"))).opened()
        assert daemon.get("/status").status == 200
        assert daemon.log.count("no descriptors are left") == 1
    finally:
        if daemon.process is not None:
            end(daemon.process)
