"""Behind nginx, HAProxy and Caddy, each with the file that is shipped for it in ``contrib/``."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from sinapse.publisher import Publisher
from tests.support import PATIENCE, RedisServer, end, eventually, free_port
from tests.support.browser import Browser, _first_browser, browser
from tests.support.certificates import root
from tests.support.daemon import ROOT, Daemon, Ended, Event, Stream, running_daemon
from tests.support.subscribing import subscribe
from tests.support.websocket import received

CONTRIB = ROOT / "contrib"

#: Seconds after which a silent connection is cut, in the files and, to save time, in one test.
SHIPPED = "60s"
SHORT = "5s"

#: Whose pages may connect, besides those of the proxy's own host.
ORIGIN = ("--origin", "https://app.example")

#: Where Debian has servers, and the PATH of users has not.
PROGRAMS = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


class Proxy:
    """A proxy on a free port of this machine, with all that it writes in `folder`."""

    name: str
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path, daemon: Daemon, socket_path: Path, timeout: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.daemon = daemon
        self.context = root().client()
        self._process: subprocess.Popen[bytes] | None = None
        issued = root().issue("127.0.0.1")
        self.certificate = folder / "server.pem"
        self.certificate.write_bytes(issued.certificate + root().certificate + issued.key)
        self._socket_path = socket_path
        self._timeout = timeout

    def shipped(self, file: str, places: dict[str, str]) -> str:
        """Return the file, with what is another on every machine replaced: all of `places`."""
        text = (CONTRIB / self.name / file).read_text()
        for place, value in {SHIPPED: self._timeout, **places}.items():
            assert place in text, place
            text = text.replace(place, value)
        return text

    def command(self, program: str) -> list[str]:
        """Write the configuration, and return the command that serves it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start, and return when the daemon can be reached."""
        program = shutil.which(self.name, path=PROGRAMS)
        if program is None:
            pytest.skip(f"there is no {self.name}")
        with (self.folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self.command(program),
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        eventually(self.reaches_the_daemon, f"{self.name} reaches the daemon")

    def reaches_the_daemon(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.logs()
        try:
            with self.request("/status", Accept="*/*") as stream:
                return stream.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            end(self._process)

    def request(self, path: str, **headers: str) -> Stream:
        """Make a request over HTTP/1.1; the answer may be any."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Host"] = f"127.0.0.1:{self.port}"
        return Stream(self.port, path, named, context=self.context)

    def stream(self, token: str, **headers: str) -> Stream:
        """Open an event stream; the answer may be any."""
        return self.request(f"/?access_token={token}", **headers)

    @contextlib.contextmanager
    def websocket(self, query: str, **options: Any) -> Iterator[ClientConnection]:
        """Open a WebSocket, and read what comes first."""
        url = f"wss://127.0.0.1:{self.port}/{query}"
        options = {"open_timeout": PATIENCE} | options
        with connect(url, ssl=self.context, proxy=None, **options) as client:
            assert received(client)["event"] == "authentication"
            yield client

    def logs(self) -> str:
        """Return all that it has logged, anywhere."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


class Nginx(Proxy):
    name = "nginx"

    def command(self, program: str) -> list[str]:
        places = {
            "/run/sinapse/sinapse.sock": str(self._socket_path),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "push.example.com": "127.0.0.1",
            "/etc/ssl/sinapse/fullchain.pem": str(self.certificate),
            "/etc/ssl/sinapse/privkey.pem": str(self.certificate),
            "/var/log/nginx/": f"{self.folder}/",
        }
        (self.folder / "sinapse.conf").write_text(self.shipped("sinapse.conf", places))
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        main = self.folder / "nginx.conf"
        main.write_text(
            ("user root;\n" if os.getuid() == 0 else "")
            + f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;\n"
            + "events { worker_connections 8192; } http {\n"
            + "".join(f"{path}_temp_path {self.folder}/{path};\n" for path in paths)
            + f"include {self.folder}/sinapse.conf; }}\n"
        )
        return [program, "-e", "stderr", "-p", str(self.folder), "-c", str(main)]


class HAProxy(Proxy):
    name = "haproxy"

    def command(self, program: str) -> list[str]:
        places = {
            "/dev/log local0": "stdout format raw local0",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/sinapse.pem": str(self.certificate),
            "127.0.0.1:9000 ": f"127.0.0.1:{self.daemon.port} ",
        }
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(self.shipped("haproxy.cfg", places))
        return [program, "-db", "-f", str(configuration)]


class Caddy(Proxy):
    name = "caddy"

    def command(self, program: str) -> list[str]:
        # Where it listens for commands, and for HTTP without TLS, is the machine's business.
        own = "\tadmin off\n\tauto_https disable_redirects\n"
        places = {
            "127.0.0.1:9000 ": f"127.0.0.1:{self.daemon.port} ",
            "push.example.com {\n": f"https://127.0.0.1:{self.port} {{\n"
            f"\ttls {self.certificate} {self.certificate}\n",
            "\n{\n": f"\n{{\n{own}",
        }
        configuration = self.folder / "Caddyfile"
        configuration.write_text(self.shipped("Caddyfile", places))
        return [program, "run", "--config", str(configuration), "--adapter", "caddyfile"]


PROXIES = {proxy.name: proxy for proxy in (Nginx, HAProxy, Caddy)}


@contextlib.contextmanager
def running_proxies(
    redis_url: str, keep_alive: str, timeout: str
) -> Iterator[Callable[[str], Proxy]]:
    """Run a daemon for the length of a with block, and those proxies that are asked for."""
    with contextlib.ExitStack() as stack:
        # UNIX sockets have short paths.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sinapse-")))
        socket_path = folder / "sinapse.sock"
        options = ["--port", f"unix:{socket_path}", "--keep-alive", keep_alive, *ORIGIN]
        options += ["--trusted-proxies", "127.0.0.1"]
        daemon = stack.enter_context(running_daemon(folder, redis_url, *options))
        running: dict[str, Proxy] = {}

        def start(name: str) -> Proxy:
            if name not in running:
                own = folder / name
                own.mkdir()
                proxy = PROXIES[name](own, daemon, socket_path, timeout)
                stack.callback(proxy.stop)
                proxy.start()
                running[name] = proxy
            return running[name]

        yield start


@pytest.fixture(scope="module")
def proxies(redis_process: RedisServer) -> Iterator[Callable[[str], Proxy]]:
    """Start the proxies with the files as they are; the daemon says nothing of its own accord."""
    with running_proxies(redis_process.url, "3600", SHIPPED) as start:
        yield start


@pytest.fixture(params=sorted(PROXIES))
def proxy(
    request: pytest.FixtureRequest,
    proxies: Callable[[str], Proxy],
    redis_server: RedisServer,
) -> Proxy:
    return proxies(request.param)


def test_first_bytes_and_messages_come_at_once(proxy: Proxy, publisher: Publisher) -> None:
    # Nothing follows that could push them through.
    with proxy.stream(subscribe(publisher)).opened() as stream:
        for number in range(3):
            publisher.publish("room:1", f"{number}", event="chat")
            assert stream.message() == Event(f"{number}", "chat")


def test_a_large_message_comes_whole(proxy: Proxy, publisher: Publisher) -> None:
    with proxy.stream(subscribe(publisher)).opened() as stream:
        text = "x" * 1_000_000
        publisher.publish("room:1", text)
        assert stream.message() == Event(text)


def test_a_stream_resumes(proxy: Proxy, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with proxy.stream(token).opened() as stream:
        assert stream.position is not None
    for number in range(500):
        publisher.publish("room:1", str(number))
    with proxy.stream(token, Last_Event_ID=stream.position).opened() as stream:
        publisher.publish("room:1", "live")
        assert [stream.message().data for _ in range(501)] == [*map(str, range(500)), "live"]


def test_websockets_work_and_close_in_good_order(proxy: Proxy, publisher: Publisher) -> None:
    token = subscribe(publisher)
    offered: list[Any] = ["sinapse.v1", f"sinapse.token.{token}"]
    # The page's host is the one that the proxy has, port included.
    own: Any = f"https://127.0.0.1:{proxy.port}"
    with (
        proxy.websocket(f"?access_token={token}") as by_query,
        proxy.websocket("", subprotocols=offered, origin=own) as by_subprotocol,
    ):
        publisher.publish("room:1", "hello")
        for client in (by_query, by_subprotocol):
            assert received(client)["data"] == "hello"
            assert client.ping().wait(PATIENCE)
            client.close(1000)
            assert client.close_code == 1000


def test_the_end_of_a_client_is_the_end_of_its_stream(proxy: Proxy, publisher: Publisher) -> None:
    token = subscribe(publisher)

    def open_streams() -> float:
        return proxy.daemon.metrics()["sinapse_streams"]

    eventually(lambda: open_streams() == 0)
    with proxy.stream(token).opened():
        assert open_streams() == 1
    eventually(lambda: open_streams() == 0)
    with proxy.websocket(f"?access_token={token}") as client:
        assert open_streams() == 1
        client.socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: open_streams() == 0)


def test_refusals_are_those_of_the_daemon(proxy: Proxy) -> None:
    with proxy.stream("nobody") as stream:
        assert stream.status == 401
        assert stream.response.read() == b"401 unknown token\n"
    with proxy.request("/", Origin="https://app.example") as stream:
        assert stream.status == 400
        assert stream.headers["Access-Control-Allow-Origin"] == "https://app.example"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_nobody_can_say_that_he_is_somebody_else(
    proxy: Proxy, publisher: Publisher, header: str
) -> None:
    made_up = {header: "192.0.2.9" if header == "X-Forwarded-For" else "for=192.0.2.9"}
    with proxy.stream(subscribe(publisher), **made_up).opened():
        seen = json.loads(proxy.daemon.admin("/subjects/1").text)  # type: ignore[attr-defined]
        assert [stream["address"] for stream in seen["streams"]] == ["127.0.0.1"]


def test_no_token_is_logged(proxy: Proxy, publisher: Publisher) -> None:
    token = subscribe(publisher)
    offered: list[Any] = ["sinapse.v1", f"sinapse.token.{token}"]
    before = lines(proxy)
    with proxy.stream(token).opened(), proxy.websocket("", subprotocols=offered):
        pass
    with proxy.request("/", Authorization=f"Bearer {token}").opened():
        pass
    eventually(lambda: lines(proxy) >= before + 3, "three requests are logged")
    assert token not in proxy.logs()


def lines(proxy: Proxy) -> int:
    """Return how many requests for streams have been logged."""
    return len(re.findall(r'"GET / HTTP|"method":"GET",.*"uri":"/[?"]', proxy.logs()))


class Page:
    """A page of this machine, from a port that speaks TLS, in Chromium."""

    def __init__(self, browser: Browser, port: int, token: str) -> None:
        self._browser = browser
        self._path = f"/?access_token={token}"
        browser.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        # An answer of the daemon stands in for a page of its host: it forbids itself everything.
        browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        browser.open(f"https://127.0.0.1:{port}/status")
        browser.run("window.seen = []; window.opened = [];")

    @property
    def protocol(self) -> str:
        """What the page itself came by."""
        return str(
            self._browser.run(
                "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
            )
        )

    def open_streams(self, count: int) -> None:
        self._browser.run(
            """
            for (let number = 0; number < arguments[1]; number++) {
                const source = new EventSource(arguments[0]);
                source.addEventListener("authentication", () => seen.push("opened"));
                source.addEventListener("message", (event) => seen.push(event.data));
                opened.push(source);
            }
            """,
            self._path,
            count,
        )

    def open_websocket(self) -> None:
        self._browser.run(
            """
            const socket = new WebSocket(`wss://${location.host}${arguments[0]}`);
            socket.onmessage = (event) => {
                const {event: type, data} = JSON.parse(event.data);
                seen.push(type === "authentication" ? "opened" : data);
            };
            opened.push(socket);
            """,
            self._path,
        )

    def sees(self, text: str, times: int) -> None:
        """Wait until all streams together have seen something that often."""
        count = "seen.filter((each) => each === arguments[0]).length"
        self._browser.eventually(f"{count} === {times}", text)

    def close(self) -> None:
        self._browser.run("opened.forEach((each) => each.close())")
        self._browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


@pytest.mark.browser
def test_chromium_has_many_streams_over_http_2(
    proxy: Proxy, publisher: Publisher, browser: Browser
) -> None:
    token = subscribe(publisher)
    page = Page(browser, proxy.port, token)
    assert page.protocol == "h2"
    page.open_streams(10)  # Over HTTP/1.1 it would be six.
    page.open_websocket()
    page.sees("opened", times=11)
    publisher.publish("room:1", "hello")
    page.sees("hello", times=11)
    page.close()
    eventually(lambda: proxy.daemon.metrics()["sinapse_streams"] == 0)
    assert token not in proxy.logs()


@pytest.mark.browser
def test_while_the_daemon_is_away_an_event_source_is_told_to_come_back(
    proxy: Proxy, publisher: Publisher, browser: Browser
) -> None:
    token = subscribe(publisher)
    page = Page(browser, proxy.port, token)
    page.open_streams(1)
    page.sees("opened", times=1)

    proxy.daemon.stop()
    with proxy.stream(token, Origin="https://app.example") as stream:
        assert stream.status == 200
        assert stream.headers.get_content_type() == "text/event-stream"
        assert stream.headers["Access-Control-Allow-Origin"] == "https://app.example"
        (told,) = re.findall(rb"\Aretry: (\d+)\n\n\Z", stream.response.read())
        assert 1000 <= int(told) <= 5000
    with proxy.stream(token, Accept="application/json") as stream:
        assert stream.status == 503
    publisher.publish("room:1", "missed")
    assert token not in proxy.logs()

    proxy.daemon.start()
    page.sees("missed", times=1)
    page.close()
    eventually(proxy.reaches_the_daemon)


def test_what_is_quiet_stays_open_and_what_is_silent_is_cut(
    redis_server: RedisServer, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with (
        running_proxies(redis_server.url, "0.5", SHORT) as start,
        contextlib.ExitStack() as stack,
    ):
        running = [start(name) for name in PROXIES if shutil.which(name, path=PROGRAMS)]
        if not running:
            pytest.skip("there is no proxy")
        daemon = running[0].daemon
        streams = [stack.enter_context(each.stream(token)).opened() for each in running]
        query = f"?access_token={token}"
        clients = [stack.enter_context(each.websocket(query)) for each in running]

        # The keep-alives are the clock: one each half second, for longer than the timeout.
        for _ in range(14):
            assert [stream.block() for stream in streams] == [b":\n\n"] * len(running)
        publisher.publish("room:1", "still here")
        assert [stream.message().data for stream in streams] == ["still here"] * len(running)
        assert [received(client)["data"] for client in clients] == ["still here"] * len(running)

        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            for stream in streams:
                stream.wait_for_end()
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
