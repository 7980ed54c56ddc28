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
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.browser import Browser, Page, _first_browser, browser
from tests.support.certificates import root
from tests.support.daemon import ROOT, Daemon, Ended, Event, Stream, running_daemon
from tests.support.proxies import (
    PROGRAMS,
    PROXIES,
    SHIPPED,
    UNDER_PATH,
    Caddy,
    HAProxy,
    Proxy,
    running_proxies,
)
from tests.support.subscribing import subscribe
from tests.support.websocket import received

#: Seconds after which one test, to save time, has a silent connection cut.
SHORT = "5s"


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
            assert client.ping().wait(EVENT_TIMEOUT)
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


def wait_for_the_log_of_the_site(proxy: Proxy) -> None:
    """Return when nginx has logged all that came before, there too."""
    with Stream(proxy.port, "/end", {"Host": "127.0.0.1"}, context=proxy.context):
        pass
    log = proxy.folder / "site.log"
    eventually(lambda: "GET /end" in log.read_text(), "it is logged")


def test_the_daemon_may_be_under_a_path(redis_server: RedisServer, publisher: Publisher) -> None:
    """With the files as the page on that changes them."""
    token = subscribe(publisher)
    query = f"?access_token={token}"
    with running_proxies(redis_server.url, "3600", SHIPPED, UNDER_PATH) as start:
        running = [start(name) for name in UNDER_PATH if shutil.which(name, path=PROGRAMS)]
        if not running:
            pytest.skip("there is no proxy")
        for proxy in running:
            with proxy.stream(token).opened() as stream, proxy.websocket(query) as client:
                publisher.publish("room:1", proxy.name)
                assert stream.message() == Event(proxy.name)
                assert received(client)["data"] == proxy.name
            with proxy.stream("nobody") as refused:
                assert refused.response.read() == b"401 unknown token\n"
            elsewhere = Stream(proxy.port, "/status", {"Host": "127.0.0.1"}, context=proxy.context)
            with elsewhere:  # The rest of the host is not the daemon's.
                assert elsewhere.response.read() != b"OK\n"

        running[0].daemon.stop()
        for proxy in running:
            with proxy.stream(token) as away:
                assert away.status == 200
                assert away.response.read().startswith(b"retry: ")
            if proxy.name == "nginx":
                wait_for_the_log_of_the_site(proxy)
            assert token not in proxy.logs()
