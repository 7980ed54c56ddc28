"""The ends of connections: each comes, and none before the client has got what was said."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from sinapse.sockets.ending import CLOSE_TIMEOUT
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.certificates import root
from tests.support.http2client import Client
from tests.support.longpoll import position
from tests.support.subscribing import subscribe
from tests.support.tls import SecureDaemon, secure_daemon

#: Seconds that the daemon keeps a connection that is idle.
IDLE_TIMEOUT = 1

#: Bytes of a long poll's answer, which take some times as long: more than the kernel holds.
ANSWER_SIZE = 16 * 1024 * 1024


def connect(secure: SecureDaemon, *protocols: str, room: int = 0) -> ssl.SSLSocket:
    """Connect, as a client that takes little at a time if it makes so much `room`."""
    plain = socket.socket()
    if room:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    plain.settimeout(EVENT_TIMEOUT)
    plain.connect(("127.0.0.1", secure.port))
    return root().client(*protocols).wrap_socket(plain, server_hostname="127.0.0.1")


def descriptors(secure: SecureDaemon) -> int:
    return len([*Path(f"/proc/{secure.daemon.pid}/fd").iterdir()])


@pytest.fixture(scope="module")
def _secure(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[SecureDaemon]:
    options = ["--idle-timeout", str(IDLE_TIMEOUT), "--presence", "--retry", "0"]
    options += ["--max-pending", str(2 * ANSWER_SIZE)]
    folder = tmp_path_factory.mktemp("ending")
    arguments = f"ssl:privateKey={certificate}"
    with secure_daemon(folder, redis_process, root().client(), arguments, *options) as secure:
        yield secure


@pytest.fixture
def secure(_secure: SecureDaemon, redis_server: RedisServer) -> SecureDaemon:
    """Return the module's daemon, on an empty Redis."""
    return _secure


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


def test_an_answer_over_tls_that_nobody_agrees_to_end_ends(secure: SecureDaemon) -> None:
    before = descriptors(secure)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(connect(secure))
            client.sendall(get("/status", "Connection: close"))
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        eventually(lambda: descriptors(secure) == before)


@pytest.mark.parametrize(
    ("protocol", "fields"),
    [
        ("http/1.1", ["Accept: text/event-stream"]),
        (
            "http/1.1",
            [
                *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ],
        ),
        ("h2", [("accept", "text/event-stream")]),
    ],
    ids=["event stream", "websocket", "http2"],
)
def test_a_stream_of_a_client_that_is_frozen_ends_with_its_token(
    secure: SecureDaemon, publisher: Publisher, protocol: str, fields: list[str]
) -> None:
    token = subscribe(publisher)
    before = descriptors(secure)
    if protocol == "h2":
        context = root().client("h2")
        h2 = Client(secure.port, context)
        h2.wait_for("ok", h2.request(f"/?access_token={token}", fields))  # type: ignore[arg-type]
        client = h2.socket
    else:
        client = connect(secure, protocol)
        client.sendall(get(f"/?access_token={token}", *fields))
        assert client.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 101")
    with client:
        eventually(lambda: publisher.online("1"))
        publisher.tokens.clear("1")
        eventually(lambda: not publisher.online("1"))
        eventually(lambda: descriptors(secure) <= before)


def slowly(client: socket.socket, is_whole: Callable[[bytes], bool], seconds: float) -> bytes:
    """Return what comes, taken in small parts over so many seconds at least, up to the end."""
    received = bytearray(client.recv(4096))
    paused = time.monotonic() + seconds
    # It is the pauses that are tested: each is as long as an idle connection is kept.
    while time.monotonic() < paused:
        time.sleep(IDLE_TIMEOUT)
        received += client.recv(65536)
    while not is_whole(bytes(received[-2:])) and (data := client.recv(1 << 20)):
        received += data
    return bytes(received)


@pytest.mark.parametrize("is_secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["kept", "closed"])
def test_a_long_poll_whose_answer_is_taken_slowly_comes_whole(
    secure: SecureDaemon, publisher: Publisher, is_secure: bool, fields: list[str]
) -> None:
    token = subscribe(publisher)
    begin = position(secure.daemon, token)
    text = "x" * (900 * 1024)
    for _ in range(ANSWER_SIZE // len(text)):
        publisher.publish("room:1", text)
    poll = get(f"/?access_token={token}&last_event_id={begin}", "Accept: application/json", *fields)
    if is_secure:
        client: socket.socket = connect(secure, "http/1.1", room=4096)
    else:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(EVENT_TIMEOUT)
        client.connect(("127.0.0.1", secure.daemon.port))
    with client:
        client.sendall(poll)
        whole = slowly(client, lambda data: data.endswith(b"]\n"), IDLE_TIMEOUT + 2 * CLOSE_TIMEOUT)
    assert whole.endswith(b"]\n")
    length = int(whole.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert len(whole.partition(b"\r\n\r\n")[2]) == length


def test_a_connection_that_is_idle_is_closed_and_not_reset(secure: SecureDaemon) -> None:
    with socket.create_connection(("127.0.0.1", secure.daemon.port), EVENT_TIMEOUT) as client:
        client.sendall(get("/status"))
        received = b""
        while data := client.recv(1024):  # A reset would raise.
            received += data
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
