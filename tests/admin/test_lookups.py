"""Look-ups at the administration endpoint: subjects and channels; the end of streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe


@pytest.fixture(scope="module")
def seen(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, int]]:
    """One daemon for all tests here, and the port of its administration endpoint."""
    port = free_port()
    admin = f"tcp:{port}:interface=127.0.0.1"
    folder = tmp_path_factory.mktemp("seen")
    with running_daemon(folder, redis_process.url, "--admin", admin) as daemon:
        yield daemon, port
        assert "Traceback" not in daemon.log


class Admin:
    """Asks the administration endpoint at a port, or at the path of a socket."""

    def __init__(self, address: int | str) -> None:
        self._address = address

    def ask(self, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
        stream = Stream(self._address, path, {"Accept": "*/*", **headers}, method)
        with stream:
            stream.response.text = stream.response.read().decode()  # type: ignore[attr-defined]
            return stream.response

    def json(self, path: str, method: str = "GET", **headers: str) -> Any:
        answer = self.ask(path, method, **headers)
        assert answer.headers["Content-Type"] == "application/json"
        return json.loads(answer.text)  # type: ignore[attr-defined]


@pytest.fixture
def daemon(seen: tuple[Daemon, int], redis_server: RedisServer) -> Daemon:
    return seen[0]


@pytest.fixture
def admin(seen: tuple[Daemon, int]) -> Admin:
    return Admin(seen[1])


def test_a_subject_is_told_of_with_its_channels_and_streams(
    daemon: Daemon, admin: Admin, publisher: Publisher
) -> None:
    token = subscribe(publisher, "room:2", "room:1", subject="42")
    with (
        daemon.stream(token).opened(),
        connect(f"ws://127.0.0.1:{daemon.address}/?access_token={token}") as socket,
    ):
        socket.recv()
        answer = admin.ask("/subjects/42").text  # type: ignore[attr-defined]
        assert token not in answer
        told = json.loads(answer)
        assert told["subject"] == "42"
        assert told["channels"] == ["room:1", "room:2"]
        assert [stream["transport"] for stream in told["streams"]] == ["event stream", "websocket"]
        for stream in told["streams"]:
            assert stream["state"] == "live"
            assert stream["address"] == "127.0.0.1"
            assert stream["pending_bytes"] == 0
            assert stream["age"] >= 0


def test_a_stream_that_does_not_read_is_told_to_be_behind(
    daemon: Daemon, admin: Admin, publisher: Publisher
) -> None:
    token = subscribe(publisher, "room:slow", subject="slow")
    with daemon.stream(token).opened():

        def is_behind() -> bool:
            publisher.publish("room:slow", 300_000 * "x", retain=0)
            [stream] = admin.json("/subjects/slow")["streams"]
            return bool(stream["state"] == "behind" and stream["pending_bytes"] > 0)

        eventually(is_behind)


@pytest.mark.parametrize("subject", ["a/b c", "é", "/", "a//b", "?", "%41", ".", ".."])
def test_any_id_can_be_looked_up(
    daemon: Daemon, admin: Admin, publisher: Publisher, subject: str
) -> None:
    with daemon.stream(subscribe(publisher, "room:1", subject=subject)).opened():
        told = admin.json(f"/subjects/{quote(subject, safe='')}")
        assert told["subject"] == subject
        assert len(told["streams"]) == 1


def test_who_has_no_stream_has_none(admin: Admin) -> None:
    assert admin.json("/subjects/nobody") == {"subject": "nobody", "channels": [], "streams": []}
    assert admin.json("/subjects/%FF%00")["streams"] == []
    assert admin.json("/subjects/nobody", "DELETE") == {"ended": 0}


def test_streams_can_be_ended_and_come_back(
    daemon: Daemon, admin: Admin, publisher: Publisher
) -> None:
    token, other = subscribe(publisher, "room:1"), subscribe(publisher, "room:1", subject="2")
    before = daemon_closed(admin)
    with (
        daemon.stream(token).opened() as stream,
        daemon.stream(other).opened() as bystander,
        connect(f"ws://127.0.0.1:{daemon.address}/?access_token={token}") as socket,
    ):
        socket.recv()
        assert admin.json("/subjects/1", "DELETE") == {"ended": 2}
        stream.wait_for_end()
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv()
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4007, "ended by the operator")
        assert admin.json("/subjects/1")["streams"] == []
        with daemon.stream(token, after=stream.position).opened() as again:
            publisher.publish("room:1", "hello")
            assert again.next().data == "hello"
        assert bystander.next().data == "hello"
    eventually(lambda: daemon_closed(admin) == before + 2)


def daemon_closed(admin: Admin) -> int:
    return int(admin.json("/status")["streams_closed"].get("ended by the operator", 0))


def test_channels_with_the_most_streams_or_messages_come_first(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    with running_daemon(tmp_path, redis_server.url) as daemon:
        admin = Admin(daemon.admin_path)
        assert admin.json("/channels") == {"total": 0, "channels": []}
        one, two = subscribe(publisher, "a", "b"), subscribe(publisher, "b", "c", subject="2")
        with daemon.stream(one).opened() as stream, daemon.stream(two).opened():
            for number in range(3):
                publisher.publish("a", str(number))
            stream.wait_for_message("2")
            told = admin.json("/channels?top=1")
            assert told == {
                "total": 3,
                "channels": [{"channel": "b", "streams": 2, "messages": 0}],
            }
            told = admin.json("/channels?by=messages")
            assert told["channels"][0] == {"channel": "a", "streams": 1, "messages": 3}
            assert len(told["channels"]) == 3


@pytest.mark.parametrize(
    "query", ["top=0", "top=1001", "top=x", "top=-1", "by=name", "top=²", "top=" + "9" * 5000]
)
def test_what_cannot_be_asked_is_said(admin: Admin, query: str) -> None:
    answer = admin.ask(f"/channels?{quote(query, safe='=')}")
    assert answer.status == 400
    assert json.loads(answer.text)["error"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9001"}, 200),
        ({"Host": "[::1]:9001"}, 200),
        ({"Host": "sinapse.localhost"}, 200),
        ({"Host": "127.0.0.1:9001", "Origin": "http://127.0.0.1:9001"}, 200),
        # A page from elsewhere, and one whose name leads here.
        ({"Host": "127.0.0.1:9001", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:9001", "Origin": "null"}, 403),
        ({"Host": "evil.example:9001", "Origin": "http://evil.example:9001"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
    ],
)
@pytest.mark.parametrize(
    "asked",
    [
        *("GET /subjects/1", "DELETE /subjects/1", "GET /channels"),
        *("GET /status", "GET /metrics", "GET /"),
    ],
)
def test_foreign_pages_are_kept_from_what_there_is_to_know(
    admin: Admin, asked: str, headers: dict[str, str], status: int
) -> None:
    method, _, path = asked.partition(" ")
    assert admin.ask(path, method, **headers).status == status
    # It is what load balancers ask, by whatever name.
    assert admin.ask("/ready", **headers).status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_names_that_are_ours_can_be_said(
    tmp_path: Path, redis_server: RedisServer, workers: str
) -> None:
    port = free_port()
    options = ("--admin", f"tcp:{port}:interface=127.0.0.1", "--workers", workers)
    with running_daemon(tmp_path, redis_server.url, *options, "--admin-host", "Push-1.example"):
        for name in ("push-1.example", "PUSH-1.EXAMPLE:9001", "sinapse:9001", "127.0.0.1"):
            assert Admin(port).ask("/metrics", Host=name).status == 200
        for name in ("push-2.example", "evil.sinapse", "x.push-1.example"):
            assert Admin(port).ask("/metrics", Host=name).status == 403


def test_no_page_is_given_leave_to_end_streams(admin: Admin) -> None:
    # What a browser asks first before it lets a page of another origin DELETE.
    answer = admin.ask(
        "/subjects/1",
        "OPTIONS",
        **{"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert answer.status == 403
    assert admin.ask("/subjects/1", "POST").status == 405
    for path in ("/subjects/1", "/status", "/"):
        assert "Access-Control-Allow-Origin" not in admin.ask(path).headers


def test_a_unix_socket_has_no_host_name(tmp_path: Path, redis_server: RedisServer) -> None:
    with running_daemon(tmp_path, redis_server.url) as daemon:
        admin = Admin(daemon.admin_path)
        assert admin.ask("/channels", Host="whatever").status == 200
