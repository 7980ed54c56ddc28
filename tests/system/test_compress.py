"""Messages that are compressed once for all who take gzip."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import contextlib
import http.client
import http.server
import queue
import random
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually
from tests.support.browser import Browser, Page, _first_browser, browser, program, running_firefox
from tests.support.certificates import root
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.gzipped import GZIP, GzippedStream, gzipped
from tests.support.http2client import Client
from tests.support.proxies import SHIPPED, Caddy, HAProxy, Nginx, Proxy, running_proxies
from tests.support.subscribing import position, subscribe
from tests.support.tls import SecureDaemon, secure_daemon
from tests.support.websocket import received

#: Bytes of a message that is compressed, and one that is not.
LARGE = "".join(f'<li id="{number}">item {number * 37 % 101}</li>' for number in range(300))
SMALL = "small"

#: So that nobody waits for a browser to come back.
RETRY = ("--retry", "0.2")


class TestStreams:
    """What a client gets that takes gzip, and one that does not."""

    def test_messages_come_at_once_large_or_small(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with gzipped(daemon, subscribe(publisher)).opened() as stream:
            assert stream.headers["Content-Encoding"] == "gzip"
            assert stream.headers["Vary"] == "Origin, Accept-Encoding"
            for text in (SMALL, LARGE, SMALL, "é" * 70_000, LARGE, SMALL):
                # Nothing follows that could push it through.
                publisher.publish("room:1", text, event="chat")
                assert stream.message() == Event(text, "chat")

    def test_large_ones_are_compressed(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        before = daemon.metrics()["sinapse_delivered_bytes_total"]
        with gzipped(daemon, token).opened() as stream:
            size = stream.size
            publisher.publish("room:1", LARGE)
            assert stream.next().data == LARGE
            assert stream.size - size < len(LARGE) / 3
        # What is counted is what was written.
        assert daemon.metrics()["sinapse_delivered_bytes_total"] - before < len(LARGE) / 3

    def test_who_does_not_take_it_gets_it_plain(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        for field in ("identity", "br", "gzip;q=0", "*;q=0"):
            with daemon.stream(token, {"Accept-Encoding": field}).opened() as stream:
                assert "Content-Encoding" not in stream.headers
                assert stream.headers["Vary"] == "Origin, Accept-Encoding"
                publisher.publish("room:1", LARGE)
                assert stream.next().data == LARGE

    def test_padding_is_there_on_the_wire(self, daemon: Daemon, publisher: Publisher) -> None:
        path = f"/?access_token={subscribe(publisher)}&padding=true"
        with Stream(daemon.address, path, GZIP).opened() as stream:
            assert "Content-Encoding" not in stream.headers

    def test_over_http_1_0_too(self, daemon: Daemon, publisher: Publisher) -> None:
        request = f"GET /?access_token={subscribe(publisher)} HTTP/1.0\r\nAccept-Encoding: gzip\r\n"
        assert isinstance(daemon.address, int)
        with socket.create_connection(("127.0.0.1", daemon.address), EVENT_TIMEOUT) as client:
            client.sendall(f"{request}\r\n".encode())
            head, _, body = _until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
            assert b"\r\nContent-Encoding: gzip\r\n" in head
            publisher.publish("room:1", LARGE)
            reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
            text = reader.decompress(body)
            while not text.endswith(b"\n\n") or LARGE.encode() not in text:
                text += reader.decompress(client.recv(65536))

    def test_it_can_be_off(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with (
            running_daemon(tmp_path, redis_server.url, "--compress", "off") as daemon,
            daemon.stream(token, GZIP).opened() as stream,
        ):
            assert "Content-Encoding" not in stream.headers
            assert stream.headers["Vary"] == "Origin"
            publisher.publish("room:1", LARGE)
            assert stream.next().data == LARGE

    def test_a_head_is_that_of_the_stream(self, daemon: Daemon, publisher: Publisher) -> None:
        path = f"/?access_token={subscribe(publisher)}"
        assert daemon.get(path, "HEAD", **GZIP).headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in daemon.get(path, "HEAD").headers

    def test_refusals_are_plain(self, daemon: Daemon) -> None:
        answer = daemon.get("/?access_token=nobody", **GZIP)
        assert answer.status == 401
        assert "Content-Encoding" not in answer.headers
        assert answer.text == "401 unknown token\n"  # type: ignore[attr-defined]

    def test_one_that_is_cut_in_the_midst_of_a_block_resumes(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        noise = random.Random(1).randbytes(100_000).hex()  # Half of it, when it is compressed.
        with gzipped(daemon, token).opened() as stream:
            publisher.publish("room:1", "before")
            last = stream.next().id
            publisher.publish("room:1", noise)
            publisher.publish("room:1", "behind")
            stream.socket.recv(1000)
        with gzipped(daemon, token, last).opened() as stream:
            assert [stream.next().data for _ in range(2)] == [noise, "behind"]

    def test_what_was_missed_is_compressed_as_one(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        last = position(daemon, token)
        texts = [f'{{"number": {number}, "text": "much the same"}}' for number in range(500)]
        for text in texts:
            publisher.publish("room:1", text)
        with gzipped(daemon, token, last).opened() as stream:
            publisher.publish("room:1", "live")
            assert [stream.next().data for _ in range(501)] == [*texts, "live"]
            assert stream.size < sum(map(len, texts)) / 4

    def test_a_slow_one_is_closed_for_what_waits_on_the_wire(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with (
            running_daemon(tmp_path, redis_server.url, "--max-pending", "65536") as daemon,
            gzipped(daemon, token).opened() as stream,
        ):
            # Plain it would be more than fits into the socket and the queue together.
            for _ in range(300):
                publisher.publish("room:1", "x" * 50_000)
            publisher.publish("room:1", "last")
            stream.wait_for_message("last")
            noise = random.Random(1)
            while "sinapse_streams_closed_total slow consumer" not in daemon.metrics():
                publisher.publish("room:1", noise.randbytes(20_000).hex())
            with pytest.raises((Ended, ConnectionError)):
                stream.wait_for_message("nothing")

    def test_the_end_of_the_daemon_is_the_end_of_the_chunks(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with (
            running_daemon(tmp_path, redis_server.url) as daemon,
            gzipped(daemon, token).opened() as stream,
        ):
            daemon.stop()
            assert stream.next().retry is not None
            with pytest.raises(Ended):
                stream.next()
            assert stream.response.isclosed()


def _until(client: socket.socket, enough: bytes) -> bytes:
    received = b""
    while enough not in received:
        data = client.recv(65536)
        assert data
        received += data
    return received


class TestClients:
    """Others that take gzip, each the real one: what was sent is there before anything follows."""

    def test_httpx(self, daemon: Daemon, publisher: Publisher) -> None:
        url = f"http://127.0.0.1:{daemon.port}/?access_token={subscribe(publisher)}"
        with (
            httpx.Client(trust_env=False, timeout=EVENT_TIMEOUT) as client,
            client.stream("GET", url, headers={"Accept": "text/event-stream"}) as response,
        ):
            assert response.headers["Content-Encoding"] == "gzip"
            lines = response.iter_lines()
            for text in (LARGE, SMALL):
                publisher.publish("room:1", text)
                assert f"data: {text}" in lines

    @pytest.mark.parametrize("client", ["curl", "node"])
    def test_of_the_command_line(self, daemon: Daemon, publisher: Publisher, client: str) -> None:
        url = f"http://127.0.0.1:{daemon.port}/?access_token={subscribe(publisher)}"
        command = {
            "curl": ["-qsN", "--noproxy", "*", "--compressed", url],
            "node": ["-e", NODE, url],
        }
        process = subprocess.Popen([program(client), *command[client]], stdout=subprocess.PIPE)
        try:
            lines = iter(process.stdout or ())
            assert b"event: authentication\n" in lines
            for text in (LARGE, SMALL):
                publisher.publish("room:1", text)
                assert f"data: {text}\n".encode() in lines
        finally:
            end(process)


#: What `fetch` of Node gets, as it comes.
NODE = """
fetch(process.argv[1]).then(async (response) => {
    if (response.headers.get("content-encoding") !== "gzip") throw new Error("plain");
    for await (const part of response.body) process.stdout.write(part);
});
"""


@pytest.fixture(scope="module")
def secure(
    redis_process: RedisServer, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureDaemon]:
    folder = tmp_path_factory.mktemp("secure")
    arguments = f"ssl:privateKey={certificate}"
    with secure_daemon(folder, redis_process, root().client(), arguments, *RETRY) as secure:
        yield secure


class TestHTTP2:
    """Over HTTP/2 what counts is what was compressed."""

    def test_a_client_without_room_gets_the_rest_when_it_makes_some(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        path = f"/?access_token={subscribe(publisher)}"
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
        with Client(secure.port, root().client("h2"), window=1000) as client:
            answer = client.request(path, [("accept-encoding", "gzip")])
            client.read_until(lambda: bool(answer.body))
            assert answer.fields["content-encoding"] == "gzip"
            publisher.publish("room:1", LARGE)
            client.read_until(lambda: len(answer.body) == 1000)
            client.make_room(100_000, answer)
            text = b""
            taken = 0
            while LARGE.encode() not in text:
                text += reader.decompress(answer.body[taken:])
                taken = len(answer.body)
                if LARGE.encode() not in text:
                    client.read()

    @pytest.mark.browser
    def test_chromium(self, secure: SecureDaemon, publisher: Publisher, browser: Browser) -> None:
        page = Page(browser, secure.port, subscribe(publisher))
        assert page.protocol == "h2"
        page.open_streams(3)
        page.open_websocket()
        page.sees("opened", times=4)
        assert "permessage-deflate" in browser.run("return opened.at(-1).extensions")
        for number, text in enumerate((LARGE, SMALL, LARGE)):
            publisher.publish("room:1", f"{number}{text}")
            page.sees(f"{number}{text}", times=4)
        secure.daemon.stop()
        publisher.publish("room:1", f"missed {LARGE}")
        secure.daemon.start()
        page.sees(f"missed {LARGE}", times=3)
        page.close()


@pytest.mark.browser
def test_firefox(daemon: Daemon, tmp_path: Path, publisher: Publisher) -> None:
    """Its own EventSource and WebSocket: messages at once, and what was missed in a break."""
    token = subscribe(publisher)
    with (
        serving(daemon, token) as (url, reports),
        running_firefox(tmp_path / "profile", url),
    ):

        def tell(text: str) -> None:
            assert {reports.get(timeout=EVENT_TIMEOUT) for _ in range(2)} == {
                f"stream {text}",
                f"socket {text}",
            }

        tell("ok")
        for text in (LARGE, SMALL):
            publisher.publish("room:1", text)
            tell(text)
        # Not that of the daemon: after a refused connection Firefox may give up for ever.
        daemon.admin("/subjects/1", "DELETE")
        publisher.publish("room:1", f"missed {LARGE}")
        texts = iter(lambda: reports.get(timeout=EVENT_TIMEOUT), None)
        assert f"stream missed {LARGE}" in texts


#: Reports what it hears.
PAGE = """<script>
    const report = (text) => fetch("/", {method: "POST", body: text});
    const source = new EventSource("http://HOST");
    source.onmessage = (event) => report(`stream ${event.data}`);
    source.addEventListener("authentication", source.onmessage, {once: true});
    const socket = new WebSocket("ws://HOST");
    socket.onmessage = (event) => report(`socket ${JSON.parse(event.data).data}`);
</script>"""


@contextlib.contextmanager
def serving(daemon: Daemon, token: str) -> Iterator[tuple[str, queue.Queue[str]]]:
    """Serve the page, and give its URL and what it reports."""
    reports: queue.Queue[str] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = f"127.0.0.1:{daemon.port}/?access_token={token}"
            self.answer(PAGE.replace("HOST", host).encode())

        def do_POST(self) -> None:
            reports.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.answer(b"")

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serves = threading.Thread(target=server.serve_forever)
        serves.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", reports
        finally:
            server.shutdown()
            serves.join()


class CompressingNginx(Nginx):
    """One that compresses whatever it may."""

    def shipped(self, file: str, places: dict[str, str]) -> str:
        text = super().shipped(file, places)
        assert "gzip off;" in text
        return text.replace("gzip off;", "gzip on; gzip_types *; gzip_proxied any;")


class CompressingCaddy(Caddy):
    def shipped(self, file: str, places: dict[str, str]) -> str:
        text = super().shipped(file, places)
        return text.replace("\treverse_proxy ", "\tencode gzip zstd\n\treverse_proxy ")


@pytest.fixture(scope="module")
def compressing(redis_process: RedisServer) -> Iterator[Callable[[str], Proxy]]:
    kinds = {"nginx": CompressingNginx, "caddy": CompressingCaddy, "haproxy": HAProxy}
    with running_proxies(redis_process.url, "3600", SHIPPED, kinds) as start:
        yield start


class TestBehindProxies:
    """A proxy that compresses leaves alone what is compressed, and what must not be."""

    @pytest.mark.parametrize("name", ["nginx", "caddy", "haproxy"])
    def test_it_is_compressed_once_and_comes_at_once(
        self, compressing: Callable[[str], Proxy], publisher: Publisher, name: str
    ) -> None:
        proxy = compressing(name)
        path = f"/?access_token={subscribe(publisher)}"
        with GzippedStream(proxy.port, path, GZIP, context=proxy.context).opened() as stream:
            assert stream.headers.get_all("Content-Encoding") == ["gzip"]
            for text in (LARGE, SMALL):
                publisher.publish("room:1", text)
                assert stream.message().data == text
            with proxy.websocket(path) as client:
                assert client.protocol.extensions
                publisher.publish("room:1", LARGE)
                assert received(client)["data"] == LARGE

    @pytest.mark.parametrize("name", ["nginx", "caddy", "haproxy"])
    def test_who_says_nothing_of_it_gets_it_plain(
        self, compressing: Callable[[str], Proxy], publisher: Publisher, name: str
    ) -> None:
        """Caddy asks for gzip by itself then, and unpacks it."""
        proxy = compressing(name)
        request = f"GET /?access_token={subscribe(publisher)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with (
            socket.create_connection(("127.0.0.1", proxy.port), EVENT_TIMEOUT) as plain,
            proxy.context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(request.encode())
            response = http.client.HTTPResponse(client)
            response.begin()
            assert "Content-Encoding" not in response.headers
            for text in (LARGE, SMALL):
                publisher.publish("room:1", text)
                assert f"data: {text}\n".encode() in iter(response.readline, b"")
