"""Streams over WebSockets: as event streams, in all that matters."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import position, subscribe
from tests.support.websocket import HANDSHAKE, ending, opened, received

#: What is answered to most offers.
BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def data(client: ClientConnection, count: int) -> list[str]:
    return [received(client)["data"] for _ in range(count)]


def refusal(daemon: Daemon, path: str, **options: Any) -> int:
    """Return the status that a handshake is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{daemon.port}{path}", proxy=None, **options)
    return caught.value.response.status_code


class TestOpening:
    """Who gets in, and how the token comes."""

    def test_messages_come_as_json(self, daemon: Daemon, publisher: Publisher) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            publisher.publish("room:1", {"text": "é"}, event="chat")
            message = received(client)
            assert message.pop("id")
            assert json.loads(message.pop("data")) == {"text": "é"}
            assert message == {"event": "chat", "channel": "room:1"}
            publisher.publish("room:1", "plain", retain=0)
            assert received(client) == {"data": "plain", "channel": "room:1"}

    def test_the_token_can_be_offered_as_a_subprotocol(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        offered: list[Any] = ["sinapse.v1", f"sinapse.token.{token}"]
        url = f"ws://127.0.0.1:{daemon.port}/"
        with connect(url, proxy=None, subprotocols=offered) as client:
            assert client.subprotocol == "sinapse.v1"
            assert received(client)["event"] == "authentication"
            assert client.response is not None
            assert token not in str(client.response.headers)
        assert token not in daemon.log

    def test_bearer_tokens_will_do(self, daemon: Daemon, publisher: Publisher) -> None:
        bearer = {"Authorization": f"Bearer {subscribe(publisher, 'room:1')}"}
        url = f"ws://127.0.0.1:{daemon.port}/"
        with connect(url, proxy=None, additional_headers=bearer) as client:
            assert received(client)["event"] == "authentication"

    def test_it_is_refused_with_the_statuses_of_streams(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        assert refusal(daemon, "/") == 400
        assert refusal(daemon, "/?access_token=nobody") == 401
        subscribe(publisher, "room:1")
        assert refusal(daemon, f"/?access_token={publisher.tokens.generate('alone')}") == 401
        assert refusal(daemon, "/elsewhere") == 404

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Sec-WebSocket-Version": "12"}, 400),
            ({"Sec-WebSocket-Key": "short"}, 400),
            ({"Sec-WebSocket-Key": ""}, 400),
            ({"Connection": "close"}, 426),
            ({"Upgrade": "websocket, h2c"}, 426),
        ],
    )
    def test_what_is_no_handshake_is_refused(
        self, daemon: Daemon, publisher: Publisher, headers: dict[str, str], status: int
    ) -> None:
        token = subscribe(publisher, "room:1")
        right = {
            "Connection": "keep-alive, Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        path = f"/?access_token={token}"
        with Stream(daemon.address, path, {**right, **headers}) as stream:
            assert stream.status == status
            if status == 426:
                assert stream.headers["Upgrade"] == "websocket"
        with Stream(daemon.address, path, right) as stream:
            assert stream.status == 101
            # RFC 6455 §1.3 has this very key as its example.
            assert stream.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    def test_foreign_pages_are_refused(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with running_daemon(
            tmp_path, redis_server.url, "--origin", "https://app.example"
        ) as daemon:
            path = f"/?access_token={token}"
            assert refusal(daemon, path, origin="https://evil.example") == 403
            assert refusal(daemon, path, origin="null") == 403
            # Even if the token is no good: what is said does not depend on that.
            assert refusal(daemon, "/?access_token=x", origin="https://evil.example") == 403
            for good in ("https://app.example", f"http://127.0.0.1:{daemon.port}", None):
                with opened(daemon, token, origin=good):
                    pass

    def test_while_redis_is_away_it_is_503(self, tmp_path: Path) -> None:
        with running_daemon(tmp_path, "redis://127.0.0.1:1", ready=False) as daemon:
            assert refusal(daemon, "/?access_token=x") == 503


class TestCompression:
    """What is agreed upon, and what is sent then (RFC 7692)."""

    @pytest.mark.parametrize(
        ("offers", "answer"),
        [
            # Of Firefox, and of Chromium and Node's ws.
            ("permessage-deflate", BOTH),
            ("permessage-deflate; client_max_window_bits", BOTH),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", BOTH),
            (
                "permessage-deflate; client_max_window_bits=10; server_max_window_bits=15",
                f"{BOTH}; server_max_window_bits=15; client_max_window_bits=10",
            ),
            # Ours is for all, and so has the whole window.
            ("permessage-deflate; server_max_window_bits=10", None),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", BOTH),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; level=9", None),
            ("x-webkit-deflate-frame, permessage-bzip2", None),
            ("", None),
        ],
    )
    def test_an_offer_is_taken_if_it_can_be_shared(
        self, daemon: Daemon, publisher: Publisher, offers: str, answer: str | None
    ) -> None:
        headers = {**HANDSHAKE, **({"Sec-WebSocket-Extensions": offers} if offers else {})}
        path = f"/?access_token={subscribe(publisher, 'room:1')}"
        with Stream(daemon.address, path, headers) as stream:
            assert stream.status == 101
            assert stream.headers["Sec-WebSocket-Extensions"] == answer

    def test_an_offer_that_is_none_is_refused(self, daemon: Daemon, publisher: Publisher) -> None:
        headers = {**HANDSHAKE, "Sec-WebSocket-Extensions": "permessage-deflate; ="}
        path = f"/?access_token={subscribe(publisher, 'room:1')}"
        with Stream(daemon.address, path, headers) as stream:
            assert stream.status == 400

    def test_messages_are_the_same_with_it_and_without(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        start = position(daemon, token)
        texts = ["small", "é" * 70_000, "small again", "<li>x</li>" * 200]
        with opened(daemon, token) as with_it, opened(daemon, token, compression=None) as without:
            for text in texts:
                publisher.publish("room:1", text)
            assert data(with_it, 4) == data(without, 4) == texts
            assert with_it.protocol.extensions
            assert not without.protocol.extensions
        with opened(daemon, token, start) as resumed:
            assert data(resumed, 4) == texts

    def test_large_ones_are_compressed(self, daemon: Daemon, publisher: Publisher) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            before = daemon.metrics()["sinapse_delivered_bytes_total"]
            publisher.publish("room:1", "<li>x</li>" * 1000)
            assert len(data(client, 1)[0]) == 10_000
            assert daemon.metrics()["sinapse_delivered_bytes_total"] - before < 300

    def test_what_clients_send_may_be_compressed(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            assert client.protocol.extensions
            client.send("")
            assert received(client) == {}
            client.send("x" * 1024)
            assert client.ping("well?").wait(EVENT_TIMEOUT)
            client.send("")
            assert received(client) == {}
            client.send("x" * 1025)
            assert ending(client)[0] == 1009

    def test_it_can_be_off(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with (
            running_daemon(tmp_path, redis_server.url, "--compress", "off") as daemon,
            opened(daemon, token) as client,
        ):
            assert not client.protocol.extensions
            publisher.publish("room:1", "x" * 10_000)
            assert data(client, 1) == ["x" * 10_000]


class TestAuthorisation:
    """Lists and tokens count at once, as they do for event streams."""

    def test_channels_come_and_go(self, daemon: Daemon, publisher: Publisher) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            publisher.channels.add("1", "room:2")
            publisher.publish("room:2", "added")
            publisher.channels.remove("1", "room:2")
            publisher.publish("room:2", "removed")
            publisher.publish("room:1", "still")
            assert data(client, 2) == ["added", "still"]
            publisher.channels.remove("1", "room:1")
            assert ending(client) == (4002, "no channels left")

    def test_a_cleared_token_ends_it(self, daemon: Daemon, publisher: Publisher) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            publisher.publish("room:1", "last")
            publisher.tokens.clear("1")
            assert data(client, 1) == ["last"]
            assert ending(client) == (1008, "token revoked")

    def test_a_token_expires(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=2)
        with opened(daemon, token) as client:
            assert received(client)["event"] == "token-expiring"
            assert ending(client) == (4001, "token expired")


class TestResuming:
    """What was missed comes once and in order."""

    def test_everything_it_missed_comes_then_live(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with opened(daemon, token) as client:
            publisher.publish("room:1", "0")
            last = received(client)["id"]
        for number in range(1, 700):
            publisher.publish(f"room:{1 + number % 2}", str(number))
        with opened(daemon, token, last) as client:
            assert client.position is None  # type: ignore[attr-defined]
            publisher.publish("room:1", "live")
            assert data(client, 700) == [*map(str, range(1, 700)), "live"]

    def test_it_moves_between_transports(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, "room:1")
        last = position(daemon, token)
        for turn in range(5):
            publisher.publish("room:1", f"{turn} a")
            with opened(daemon, token, last) as client:
                publisher.publish("room:1", f"{turn} b")
                assert data(client, 1) == [f"{turn} a"]
                message = received(client)
                assert message["data"] == f"{turn} b"
            publisher.publish("room:1", f"{turn} c")
            with daemon.stream(token, after=message["id"]).opened() as stream:
                event = stream.next()
                assert event.data == f"{turn} c"
            last = event.id or ""

    def test_an_id_that_nobody_knows_is_a_reset(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, "room:1")
        with opened(daemon, token, "nonsense") as client:
            reset = received(client)
            assert reset["event"] == "reset"
            assert json.loads(reset["data"])["reason"] == "unknown-id"
            with opened(daemon, token, reset["id"]) as other:
                publisher.publish("room:1", "hello")
                assert data(client, 1) == data(other, 1) == ["hello"]


class TestClients:
    """What clients send, and what becomes of those that are gone or slow."""

    def test_what_clients_say_is_ignored_but_bounded(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            client.send("hello")
            client.send(b"x" * 1024)
            assert client.ping("well?").wait(EVENT_TIMEOUT)
            publisher.publish("room:1", "still here")
            assert data(client, 1) == ["still here"]
            client.send("x" * 1025)
            assert ending(client)[0] == 1009

    def test_an_empty_message_is_answered(self, daemon: Daemon, publisher: Publisher) -> None:
        with opened(daemon, subscribe(publisher, "room:1")) as client:
            client.send("")
            assert received(client) == {}

    def test_a_client_closes_in_good_order(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, "room:1")
        before = daemon.metrics()["sinapse_streams"]
        with opened(daemon, token) as client:
            assert daemon.metrics()["sinapse_streams"] == before + 1
            client.close(1000, "bye")
            assert client.close_code == 1000
        eventually(lambda: daemon.metrics()["sinapse_streams"] == before)

    def test_a_client_that_does_not_answer_pings_is_closed(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with (
            running_daemon(tmp_path, redis_server.url, "--keep-alive", "0.2") as daemon,
            Stream(daemon.address, f"/?access_token={token}", HANDSHAKE) as silent,
            opened(daemon, token) as client,
        ):
            assert silent.status == 101
            eventually(lambda: daemon.metrics()["sinapse_streams"] == 1)
            counted = daemon.metrics()
            assert counted["sinapse_streams_closed_total no answer to a ping"] == 1
            publisher.publish("room:1", "to who answers")
            assert data(client, 1) == ["to who answers"]

    def test_a_slow_client_is_closed_and_misses_nothing(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with running_daemon(tmp_path, redis_server.url, "--max-pending", "65536") as daemon:
            start = position(daemon, token)
            with Stream(daemon.address, f"/?access_token={token}", HANDSHAKE) as slow:
                slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                number = 0
                while "sinapse_streams_closed_total slow consumer" not in daemon.metrics():
                    publisher.publish("room:1", f"{number:06} {'x' * 20_000}")
                    number += 1
            with opened(daemon, token, start, max_size=None) as client:
                seen = [text.split()[0] for text in data(client, number)]
                assert seen == [f"{each:06}" for each in range(number)]

    def test_the_end_of_the_daemon_is_told(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with (
            running_daemon(tmp_path, redis_server.url) as daemon,
            opened(daemon, token) as client,
        ):
            os.kill(daemon.pid, signal.SIGTERM)
            assert ending(client) == (1001, "server shutting down")

    def test_nothing_that_is_sent_leaves_a_trace(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        junk = [b"\x88\x80abcd" * 3, os.urandom(3000), b"GET / HTTP/1.1\r\n\r\n", b"\x81\xff" * 9]
        before = daemon.metrics()["sinapse_streams"]
        for each in junk:
            with Stream(daemon.address, f"/?access_token={token}", HANDSHAKE) as stream:
                assert stream.status == 101
                stream.socket.sendall(each)
                eventually(lambda: daemon.metrics()["sinapse_streams"] == before)
