"""What the worst that a stranger can send costs, beside an ordinary request: in CPU of the daemon.

Each input is as large as one request may be, or as what is read of a connection at once. It must
cost what so many ordinary requests cost, and not what nobody thought of: a parser that is
quadratic, a list that is walked for each of a thousand frames.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sinapse.publisher import Publisher
from sinapse.web.limits import REQUESTS_PER_SECOND, RequestLimits
from tests.support import EVENT_TIMEOUT, RedisServer, free_port
from tests.support.certificates import root
from tests.support.daemon import Daemon, running_daemon
from tests.support.subscribing import subscribe

LIMITS = RequestLimits()

#: Bytes that the reactor reads of a connection at once.
READ = 64 * 1024

#: Seconds for which an input is looked at. What is held back until later is not paid for.
LOOK = 0.5

#: An input may cost too much so many times, and has to be cheap once: the machine does something
#: else as well, and what is costly of itself is so every time.
LOOKS = 3

#: Ordinary requests, and so how many may be handled in that time, and as many again for what the
#: machine does to figures.
MOST = 2 * (REQUESTS_PER_SECOND + REQUESTS_PER_SECOND * LOOK)

#: Ordinary requests that a single one of the largest size may cost.
MOST_OF_ONE = 60

GET = b"GET /status HTTP/1.1\r\nHost: a\r\n"


class Fronts(NamedTuple):
    """A daemon, and where it can be spoken to."""

    daemon: Daemon
    connect: dict[str, Callable[[], socket.socket]]

    def cpu(self) -> float:
        """Return the seconds that the daemon has computed."""
        return int(Path(f"/proc/{self.daemon.pid}/schedstat").read_text().split()[0]) / 1e9

    def ordinary(self) -> float:
        """Return what a request costs, its connection included."""
        before = self.cpu()
        for _ in range(100):
            assert self.daemon.get("/status").status == 200
        return (self.cpu() - before) / 100

    def costs_less(self, front: str, data: bytes, most: float) -> None:
        """Assert that `data` costs less than so many ordinary requests."""
        costs: list[float] = []
        while not costs or costs[-1] >= most:
            assert len(costs) < LOOKS, costs
            costs.append(self.cost(front, data))

    def cost(self, front: str, data: bytes) -> float:
        """Return what `data` costs within :data:`LOOK`, in ordinary requests."""
        ordinary, logged = self.ordinary(), len(self.daemon.log)
        with self.connect[front]() as client:
            before = self.cpu()
            deadline = time.monotonic() + LOOK
            reader = threading.Thread(target=_read, args=(client,), daemon=True)
            reader.start()
            with contextlib.suppress(OSError):
                client.sendall(data)
            reader.join(max(0, deadline - time.monotonic()))
            cost = (self.cpu() - before) / ordinary
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            reader.join(EVENT_TIMEOUT)
        assert "Traceback" not in self.daemon.log[logged:]
        return cost


def _read(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(65536):
            pass


@pytest.fixture(scope="module")
def fronts(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[Fronts]:
    folder = tmp_path_factory.mktemp("cost")
    secure, api = free_port(), free_port()
    (folder / "keys").write_text("k" * 32)
    options = ["--port", f"ssl:{secure}:privateKey={certificate}:interface=127.0.0.1"]
    options += ["--api", f"tcp:{api}:interface=127.0.0.1", "--api-keys", str(folder / "keys")]
    # Regular expressions are looked through for the origin of every request.
    options += ["--origin", r"https://.*\.(one|two)\.example", "--origin", "*.example.org"]
    context = root().client("h2")

    def to(port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT)

    def admin() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(daemon.admin_path)
        return client

    def http2() -> socket.socket:
        client = context.wrap_socket(to(secure), server_hostname="127.0.0.1")
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        return client

    with running_daemon(folder, redis_process.url, *options) as daemon:
        yield Fronts(
            daemon,
            {
                "http": lambda: to(daemon.port),
                "api": lambda: to(api),
                "admin": admin,
                "http2": http2,
            },
        )


def filled(head: bytes, piece: bytes, size: int, tail: bytes = b"") -> bytes:
    """Return `head` with as much of `piece` after it as fits into `size`, and `tail`."""
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


END = b"\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
HEADER = LIMITS.header
ONE = b"\r\nContent-Length: 1\r\n\r\nx"


def form(piece: bytes, kind: bytes = FORM) -> bytes:
    body = filled(b"", piece, LIMITS.body)
    return POST + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


REQUESTS_OF_THE_LARGEST_SIZE = {
    "type of semicolons": filled(POST + b"Content-Type: ", b";", HEADER - 40, ONE),
    "type of parentheses": filled(POST + b"Content-Type: ", b"(", HEADER - 40, ONE),
    "type of parameters": filled(POST + b"Content-Type: a/b", b";n*0*=x", HEADER - 40, ONE),
    "form of separators": form(b"&"),
    "form of fields": form(b"a=&"),
    "form of one field": form(b"access_token=%41&"),
    "multipart": form(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n',
        b"Content-Type: multipart/form-data; boundary=x\r\n",
    ),
    "query": filled(b"GET /?", b"a=&", LIMITS.url - 20, b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "path": filled(b"GET ", b"/%41", LIMITS.url - 20, b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fields": filled(GET, b"A: b\r\n", HEADER, b"\r\n"),
    "folded field": filled(GET + b"A: b", b"\r\n ", HEADER, END),
    "cookies": filled(GET + b"Cookie: ", b"a=;", HEADER, END),
    "origin": filled(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://", b"a.", HEADER, END),
    "origin of one": filled(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://", b"a", HEADER, END),
    "host": filled(b"GET / HTTP/1.1\r\nHost: ", b":1", HEADER, END),
    "upgrade": filled(UPGRADE + b"Sec-WebSocket-Protocol: a", b",a", HEADER, END),
    "extensions": filled(UPGRADE + b"Sec-WebSocket-Extensions: a", b";a", HEADER, END),
    "connection": filled(UPGRADE + b"Connection: a", b",a", HEADER, END),
    "forwarded": filled(GET + b"X-Forwarded-For: ", b"10.0.0.1,", HEADER, END),
}

FLOODS = {
    "chunks": filled(
        POST + FORM + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", READ, b"0\r\n\r\n"
    ),
    "chunks with extensions": filled(
        POST + FORM + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 900 + b"\r\nx\r\n", READ
    ),
    "blank lines": b"\r\n" * (READ // 2),
    "refused": filled(b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", READ),
    "answered": filled(b"", GET + b"\r\n", READ),
    "old": filled(b"", b"GET / HTTP/1.0\r\n\r\n", READ),
    "not there": filled(b"", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", READ),
}


@pytest.mark.parametrize("name", REQUESTS_OF_THE_LARGEST_SIZE)
@pytest.mark.parametrize("front", ["http", "api", "admin"])
def test_a_request_costs_no_more_than_some_ordinary_ones(
    fronts: Fronts, front: str, name: str
) -> None:
    fronts.costs_less(front, REQUESTS_OF_THE_LARGEST_SIZE[name], MOST_OF_ONE)


@pytest.mark.parametrize("front", ["http", "api", "admin"])
def test_cookies_that_nobody_asks_for_cost_nothing(fronts: Fronts, front: str) -> None:
    """Twisted takes each of thousands for a mistake, which costs it 25 to 50 ordinary requests."""
    fronts.costs_less(front, filled(GET + b"Cookie: ", b";", HEADER, END), 10)


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("front", ["http", "api", "admin"])
def test_many_at_once_cost_what_they_cost_one_by_one(fronts: Fronts, front: str, name: str) -> None:
    fronts.costs_less(front, FLOODS[name], MOST)


@pytest.mark.parametrize("kind", [b"application/json", b"multipart/form-data; boundary=x", b""])
def test_a_body_of_who_has_no_key_is_not_read(fronts: Fronts, kind: bytes) -> None:
    head = b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Type: " + kind
    piece = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    body = filled(b"", piece, 8 * 1024 * 1024)
    request = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    fronts.costs_less("api", request, MOST_OF_ONE)


def fields(*more: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    head = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), *more]
    encoded: bytes = encoder.encode(head)
    return encoded


def get(number: int, head: bytes) -> bytes:
    return HeadersFrame(number, head, flags=["END_HEADERS", "END_STREAM"]).serialize()


#: A hundred answers for which there is no room.
BLOCKED = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}).serialize() + b"".join(
    get(number, fields()) for number in range(1, 200, 2)
)
ROOMY = [
    SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: size}).serialize()
    for size in (0, 1)
]

FRAMES = {
    "requests": b"".join(get(number, fields()) for number in range(1, 2 * READ // 20, 2)),
    "requests of many fields": b"".join(
        get(number, fields() + b"\x90" * 50) for number in range(1, 2 * READ // 80, 2)
    ),
    "requests of empty fields": b"".join(
        get(number, fields() + b"\xc0" * 1500) for number in range(1, 2 * READ // 1600, 2)
    ),
    "PING": filled(b"", PingFrame(0, b"12345678").serialize(), READ),
    "SETTINGS": filled(b"", SettingsFrame(0).serialize(), READ),
    "PRIORITY": filled(b"", PriorityFrame(1).serialize(), READ),
    "WINDOW_UPDATE": filled(b"", WindowUpdateFrame(0, window_increment=1).serialize(), READ),
    "DATA": filled(get(1, fields()), DataFrame(1, b"").serialize(), READ),
    "unknown": filled(b"", b"\0\0\0\xee\0\0\0\0\0", READ),
    "SETTINGS while answers wait": filled(BLOCKED, SettingsFrame(0).serialize(), READ),
    "SETTINGS that change something": filled(BLOCKED, b"".join(ROOMY), READ),
    "WINDOW_UPDATE while answers wait": filled(
        BLOCKED, WindowUpdateFrame(0, window_increment=1).serialize(), READ
    ),
    "WINDOW_UPDATE of one that waits": filled(
        BLOCKED, WindowUpdateFrame(1, window_increment=1).serialize(), READ
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_cost_no_more_than_the_requests_that_there_may_be(fronts: Fronts, name: str) -> None:
    fronts.costs_less("http2", FRAMES[name], 2 * MOST)  # A request over HTTP/2 costs more.


MASKED = b"\x80\0\0\0\0"


@pytest.mark.parametrize(
    "frame",
    [b"\x81" + MASKED, b"\x89" + MASKED, b"\x8a" + MASKED, b"\x01" + MASKED + b"\0" + MASKED],
    ids=["questions", "pings", "pongs", "fragments"],
)
def test_frames_of_a_websocket_cost_no_more_than_requests(
    fronts: Fronts, publisher: Publisher, frame: bytes
) -> None:
    token = subscribe(publisher).encode()

    def upgraded() -> socket.socket:
        client = fronts.connect["http"]()
        client.sendall(UPGRADE.replace(b"GET /", b"GET /?access_token=" + token) + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 101"
        return client

    websockets = fronts._replace(connect={"websocket": upgraded})
    websockets.costs_less("websocket", filled(b"", frame, READ), MOST)
