"""Answers: what every one of them says, what none ever says, and nothing to who has gone."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.publisher import Publisher
from sinapse.web.answers import SAFETY, respond
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe


def begun() -> tuple[Request, StringTransport]:
    transport = StringTransport()
    channel = HTTPChannel()
    channel.makeConnection(transport)
    request = Request(channel, parsePOSTFormSubmission=False)
    channel.requests = [request]
    request.gotLength(0)
    request.clientproto = b"HTTP/1.1"
    request.method = b"GET"
    return request, transport


def test_an_answer_is_whole() -> None:
    request, transport = begun()
    assert respond(request, 404, b"no\n") == NOT_DONE_YET
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 Not Found")
    assert body == b"no\n"


def test_who_has_gone_while_something_was_looked_up_is_told_nothing() -> None:
    request, transport = begun()
    request.notifyFinish().addErrback(lambda _: None)
    request.connectionLost(ConnectionError())
    assert respond(request, 503, b"come back\n") == NOT_DONE_YET
    assert transport.value() == b""


def fields_of(answer: bytes) -> dict[str, str]:
    """Return the header fields of an answer, as it came."""
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in head)}


def exchange(daemon: Daemon, request: bytes) -> bytes:
    """Send `request`, and return what comes first, or all of it if the daemon closes."""
    assert isinstance(daemon.address, int)
    received = b""
    with socket.create_connection(("127.0.0.1", daemon.address), EVENT_TIMEOUT) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
        with contextlib.suppress(ConnectionError):
            while b"\r\n\r\n" not in received and (data := client.recv(65536)):
                received += data
    return received


def request(method: str, target: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


ORIGIN = "Origin: https://a.example"
PREFLIGHT = (ORIGIN, "Access-Control-Request-Method: GET")
EVENTS = "Accept: text/event-stream"

REQUESTS = {
    "200": request("GET", "/status"),
    "204": request("OPTIONS", "/"),
    "204 preflight": request("OPTIONS", "/", *PREFLIGHT),
    "400": request("GET", "/"),
    "401": request("GET", "/?access_token=unknown", ORIGIN),
    "401 stream": request("GET", "/?access_token=unknown", EVENTS),
    "404": request("GET", "/elsewhere"),
    "405": request("PUT", "/status"),
    "400 handshake": request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"),
    "400 no HTTP": b"junk\r\n\r\n",
    "413": request("POST", "/", "Content-Length: 999999"),
    "414": request("GET", "/?" + "x" * 10_000),
    "431": request("GET", "/", "A: " + "x" * 20_000),
    "200 stream": request("GET", "/?access_token=TOKEN", EVENTS, ORIGIN),
    "200 poll": request("GET", "/?access_token=TOKEN", "Accept: application/json"),
    "200 head": request("HEAD", "/?access_token=TOKEN"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_answer_is_safe(daemon: Daemon, publisher: Publisher, name: str) -> None:
    token = subscribe(publisher, "news").encode()
    answer = exchange(daemon, REQUESTS[name].replace(b"TOKEN", token))
    status = name.partition(" ")[0]
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    fields = fields_of(answer)
    for field, value in SAFETY:
        assert fields[field.decode()] == value.decode()
    assert fields["Cache-Control"].startswith("no-store")
    assert token not in answer


@pytest.mark.parametrize("path", ["/metrics", "/status", "/ready", "/elsewhere"])
def test_so_is_every_answer_of_the_administration_endpoint(daemon: Daemon, path: str) -> None:
    answer = daemon.admin(path)
    for field, value in SAFETY:
        assert answer.headers[field.decode()] == value.decode()


def test_a_trouble_that_passes_is_told_as_safely(tmp_path: Path) -> None:
    with running_daemon(tmp_path, "redis://127.0.0.1:1/0", ready=False) as daemon:
        for fields in ((EVENTS,), ()):
            answer = exchange(daemon, request("GET", "/?access_token=x", *fields))
            assert dict(SAFETY)[b"Content-Security-Policy"] in answer


#: Breaks what opens a stream, in several places, as no request can.
FAULTS = """
import sys
from sinapse.streams import resource
from sinapse.streams import streams
from sinapse.hub import hub
from sinapse.streams import handshake
fault = sys.argv.pop(1)
def fail(*arguments, **options):
    raise RuntimeError(f"a fault of the test: {fault}")
if fault == "answer":
    resource.StreamResource._refuse_socket = fail
elif fault == "open":
    streams.Streams.open = streams.Streams.poll = fail
elif fault == "hub":
    hub.Hub.expect = fail
elif fault == "handshake":
    resource.shake_hands = fail
from twisted.scripts.twistd import run
run()
"""


class TestTokens:
    """A token is in no line of the log, in no metric, and in no answer: grep for it."""

    @pytest.fixture
    def broken(
        self, request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
    ) -> Iterator[Daemon]:
        options = ("--log-level", "debug", "--cookie", "push", "--origin", "a.example")
        daemon = Daemon(tmp_path, redis_server.url, *options)
        start = daemon.command.index("-c")
        daemon.command[start + 1 : start + 2] = [FAULTS, request.param]
        try:
            yield daemon.start()
        finally:
            if daemon.process is not None:
                end(daemon.process)

    @pytest.mark.parametrize(
        "broken", ["none", "answer", "open", "hub", "handshake"], indirect=True
    )
    def test_whatever_goes_wrong(self, broken: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, "news")
        socket_fields = (
            *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        form = f"access_token={token}"
        typed = "Content-Type: application/x-www-form-urlencoded"
        requests = [
            request("GET", f"/?access_token={token}", EVENTS),
            request("GET", f"/?access_token={token}"),
            request("HEAD", f"/?access_token={token}"),
            request("GET", f"/?access_token={token}", "Accept: application/json"),
            request("GET", f"/?access_token={token}&last_event_id={token}", EVENTS),
            request("GET", f"/?access_token={token}", *socket_fields),
            request("GET", "/", *socket_fields, f"Sec-WebSocket-Protocol: sinapse.token.{token}"),
            request("GET", "/", f"Authorization: Bearer {token}"),
            request("GET", "/", f"Cookie: push={token}"),
            request("POST", "/", typed, f"Content-Length: {len(form)}") + form.encode(),
            request("GET", f"/{token}?access_token={token}"),
            request("GET", f"/?access_token={token}", "Content-Length: x"),
            request("GET", f"/?access_token={token}", f"Bad header {token}"),
            request(token, "/"),
            f"GET /?access_token={token} {token}\r\n\r\n".encode(),
            request("GET", f"/?access_token={token}" + "x" * 20_000),
            request("GET", f"http://a/?access_token={token}", "Upgrade: websocket"),
        ]
        answers = [exchange(broken, each) for each in requests]
        with contextlib.suppress(http.client.HTTPException, OSError):
            Stream(broken.address, f"/?access_token={token}", {"Last-Event-ID": token}).close()
        seen = [answer.decode("latin-1") for answer in answers]
        told = [broken.admin(path) for path in ("/metrics", "/status")]
        seen += [answer.text for answer in told]  # type: ignore[attr-defined]
        publisher.tokens.clear("1")
        eventually(lambda: broken.get("/ready").status == 200)
        broken.stop()
        log = broken.log
        assert ("a fault of the test" in log) == ("none" not in broken.command)
        for text in (*seen, log):
            assert token not in text
            # Not even a part of it that would do for a search.
            assert token[:20] not in text
