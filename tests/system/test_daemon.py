"""The daemon from outside: streams, statuses, live authorisation, faults of Redis."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import redis

from sinapse.protocol.ids import EventID
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, running_redis
from tests.support.daemon import COME_BACK, OPENING, Daemon, Ended, Event, Stream, running_daemon
from tests.support.subscribing import subscribe


def raw_exchange(daemon: Daemon, request: bytes, enough: bytes) -> bytes:
    """Send raw bytes, and return what comes back until `enough` is in it."""
    assert isinstance(daemon.address, int)
    with socket.create_connection(("127.0.0.1", daemon.address), 30) as client:
        client.sendall(request)
        received = b""
        while enough not in received:
            data = client.recv(65536)
            if not data:
                break
            received += data
        return received


def read_all(stream: Stream, count: int) -> list[str]:
    """Return the data of the next events."""
    return [stream.next().data for _ in range(count)]


@pytest.fixture(scope="module")
def strict(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Return a daemon that admits few origins."""
    with running_daemon(
        tmp_path_factory.mktemp("cors"),
        redis_process.url,
        *("-o", "example.com", "-o", r"https://[a-z]+\.example\.org"),
    ) as daemon:
        yield daemon


class TestStream:
    """What an open stream gets."""

    def test_its_first_bytes_over_http_1_1_are_one_chunk_with_the_origins_opening(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        received = raw_exchange(
            daemon,
            f"GET /?access_token={token} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
            b"ok\n\n\r\n",
        )
        head, _, body = received.partition(b"\r\n\r\n")
        size, chunk = body.removesuffix(b"\r\n").split(b"\r\n")
        assert int(size, 16) == len(chunk)
        assert re.sub(rb"id: .*\n", b"", chunk) == OPENING
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 200 OK"
        for field in (
            b"Content-Type: text/event-stream; charset=utf-8",
            b"Cache-Control: no-store, no-transform",
            b"X-Accel-Buffering: no",
            b"Transfer-Encoding: chunked",
            b"Vary: Origin, Accept-Encoding",
        ):
            assert field in lines

    def test_over_http_1_0_it_is_plain_and_ends_with_the_connection(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        received = raw_exchange(
            daemon, f"GET /?access_token={token} HTTP/1.0\r\n\r\n".encode(), b"ok\n\n"
        )
        head, _, body = received.partition(b"\r\n\r\n")
        first, position, *rest = body.splitlines(keepends=True)
        assert EventID.parse(position.decode().removeprefix("id: ").rstrip())
        assert first + b"".join(rest) == OPENING
        assert b"Connection: close" in head
        assert b"chunked" not in head.lower()

    def test_it_gets_messages_with_event_types_and_several_lines(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            assert publisher.publish("room:1", "one") == 1
            assert publisher.publish("room:1", "two\r\nlines", event="greeting") == 1
            assert publisher.publish("room:1", {"é": "☃"}) == 1
            assert stream.message() == Event("one")
            assert stream.message() == Event("two\nlines", "greeting")
            assert stream.message() == Event('{"é":"☃"}')

    def test_it_gets_many_messages_of_several_channels_in_the_order_of_publication(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with daemon.stream(token).opened() as stream:
            with redis_client.pipeline(transaction=False) as pipeline:
                for number in range(3000):
                    payload = msgpack.packb(str(number))
                    pipeline.publish(f"room:{1 + number % 2}", payload)
                assert set(pipeline.execute()) == {1}
            assert [stream.next().data for _ in range(3000)] == [str(n) for n in range(3000)]

    def test_nothing_of_other_channels_arrives(self, daemon: Daemon, publisher: Publisher) -> None:
        mine = subscribe(publisher, "room:1")
        other = subscribe(publisher, "room:2", subject="2")
        with daemon.stream(mine).opened() as stream, daemon.stream(other).opened():
            publisher.publish("room:2", "not for you")
            publisher.publish("room:1", "for you")
            assert stream.message() == Event("for you")

    def test_a_ruby_publisher_is_understood(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            long = "x" * 100
            redis_client.publish("room:1", b"\xda\x00\x64" + long.encode())  # the old raw 16
            redis_client.publish("room:1", b"\x92\xa5event\xa4data")
            redis_client.publish("room:1", b"\x93\xc0\xa4data\xa5later")  # what is to come
            assert stream.message() == Event(long)
            assert stream.message() == Event("data", "event")
            assert stream.message() == Event("data")

    def test_a_line_break_in_an_event_type_injects_nothing(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            redis_client.publish("room:1", msgpack.packb(["a\r\ndata: b\0", "c"]))
            assert stream.message() == Event("c", "adata: b")

    def test_many_streams_of_one_subject_all_get_everything(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        streams = [daemon.stream(token).opened() for _ in range(20)]
        assert publisher.publish("room:1", "all") == 1
        for stream in streams:
            assert stream.message() == Event("all")
            stream.close()

    def test_over_a_unix_socket_it_is_the_same(
        self, short_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        port = f"unix:{short_path / 's.sock'}"
        with running_daemon(short_path, redis_server.url, port=port) as daemon:
            with daemon.stream(subscribe(publisher)).opened() as stream:
                publisher.publish("room:1", "hello")
                assert stream.message() == Event("hello")
            eventually(lambda: publisher.publish("room:1", "nobody") == 0)


class TestAnswers:
    """Statuses, methods and fields."""

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/", 400),
            ("GET", "/?access_token=", 400),
            ("POST", "/", 400),
            ("HEAD", "/", 400),
            ("GET", "/?access_token=unknown", 401),
            ("HEAD", "/?access_token=unknown", 401),
            ("GET", "/?access_token=" + "x" * 5000, 401),
            ("PUT", "/?access_token=unknown", 405),
            ("DELETE", "/", 405),
            ("PATCH", "/", 405),
            ("TRACE", "/", 405),
            ("GET", "/elsewhere", 404),
            ("GET", "//", 400),
            ("GET", "//elsewhere", 404),
            ("POST", "/status/below", 404),
            ("GET", "/status", 200),
            ("HEAD", "/status", 200),
            ("POST", "/status", 405),
            ("GET", "/ready", 200),
        ],
    )
    def test_every_request_has_its_status(
        self, daemon: Daemon, method: str, path: str, status: int
    ) -> None:
        assert daemon.get(path, method).status == status

    def test_status_says_ok(self, daemon: Daemon) -> None:
        assert daemon.get("/status").text == "OK\n"  # type: ignore[attr-defined]

    def test_405_names_what_is_allowed(self, daemon: Daemon) -> None:
        assert daemon.get("/", "PUT").headers["Allow"] == "GET, HEAD, OPTIONS, POST"

    def test_options_without_an_origin_names_what_is_allowed(self, daemon: Daemon) -> None:
        answer = daemon.get("/", "OPTIONS")
        assert answer.status == 204
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        assert "Content-Length" not in answer.headers
        assert "Content-Type" not in answer.headers

    def test_head_answers_as_get_would_and_opens_nothing(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        answer = daemon.get(f"/?access_token={subscribe(publisher)}", "HEAD")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        eventually(lambda: publisher.publish("room:1", "nobody") == 0)

    def test_a_subject_without_channels_is_refused(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(publisher.tokens.generate("1")) as stream:
            assert stream.status == 401

    def test_no_answer_is_kept_or_sniffed_or_leaks_its_url(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            answers = [daemon.get("/"), daemon.get("/status"), stream.response]
            for answer in answers:
                assert answer.headers["Cache-Control"].startswith("no-store")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Server"].startswith("Sinapse/")
                assert answer.headers["Date"]


class TestToken:
    """Where a token may be."""

    def test_as_a_bearer(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        with Stream(daemon.address, "/", {"Authorization": f"Bearer {token}"}) as stream:
            stream.opened()

    def test_as_a_form_field(self, daemon: Daemon, publisher: Publisher) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = f"access_token={subscribe(publisher)}"
        with Stream(daemon.address, "/", kind, "POST", body) as stream:
            stream.opened()
            publisher.publish("room:1", "hello")
            assert stream.message() == Event("hello")

    def test_it_never_reaches_the_log(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with running_daemon(tmp_path, redis_server.url) as daemon:
            token = subscribe(publisher)
            with daemon.stream(token).opened():
                publisher.tokens.clear("1")
            daemon.get(f"/?access_token={token}")
            daemon.get(f"/elsewhere?access_token={token}")
            daemon.get("/", Authorization=f"Bearer {token}")
            daemon.stop()
            assert token not in daemon.log


class TestCors:
    """Cross-origin requests, with the default and with a list."""

    def test_any_origin_is_echoed_by_default(self, daemon: Daemon, publisher: Publisher) -> None:
        origin = {"Origin": "https://a.example"}
        with daemon.stream(subscribe(publisher), origin).opened() as stream:
            assert stream.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert stream.headers["Vary"] == "Origin, Accept-Encoding"
            assert stream.headers["Access-Control-Allow-Credentials"] == "true"
        refusal = daemon.get("/", **origin)
        assert refusal.headers["Access-Control-Allow-Origin"] == "https://a.example"

    @pytest.mark.parametrize(
        ("origin", "is_allowed"),
        [
            ("http://example.com", True),
            ("https://example.com", True),
            ("https://chat.example.org", True),
            ("https://example.com.evil.org", False),
            ("https://evil-example.com", False),
            ("https://chat.example.org.evil.net", False),
            ("http://chat.example.org", False),
            ("null", False),
        ],
    )
    def test_only_listed_origins_are_allowed(
        self, strict: Daemon, origin: str, is_allowed: bool
    ) -> None:
        assert ("Access-Control-Allow-Origin" in strict.get("/", Origin=origin).headers) is (
            is_allowed
        )
        assert ("Access-Control-Allow-Credentials" in strict.get("/", Origin=origin).headers) is (
            is_allowed
        )
        preflight = strict.get("/", "OPTIONS", Origin=origin, Access_Control_Request_Method="GET")
        assert preflight.status == (204 if is_allowed else 400)

    def test_a_preflight_allows_what_clients_send(self, strict: Daemon) -> None:
        preflight = strict.get(
            "/",
            "OPTIONS",
            Origin="https://example.com",
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers="last-event-id,cache-control,authorization",
        )
        allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
        assert set(allowed.split(",")) == {"authorization", "cache-control", "last-event-id"}
        assert "GET" in preflight.headers["Access-Control-Allow-Methods"]


class TestAuthorisation:
    """The list applies to open streams at once."""

    def test_an_added_channel_is_heard(self, daemon: Daemon, publisher: Publisher) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            publisher.publish("room:2", "before")
            publisher.channels.add("1", "room:2")
            publisher.publish("room:2", "hello")
            assert stream.message() == Event("hello")

    def test_a_removed_channel_is_not_heard_from_that_moment(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with daemon.stream(token).opened() as stream:
            for round_ in range(50):
                publisher.publish("room:2", f"before {round_}")
                publisher.channels.remove("1", "room:2")
                publisher.publish("room:2", f"after {round_}")
                publisher.publish("room:1", f"end {round_}")
                assert stream.message() == Event(f"before {round_}")
                assert stream.message() == Event(f"end {round_}")
                # Nobody on this node is subscribed to it at this moment, and yet:
                publisher.channels.add("1", "room:2")
                publisher.publish("room:2", f"added {round_}")
                assert stream.message() == Event(f"added {round_}")

    def test_all_streams_of_a_subject_follow(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        other = subscribe(publisher, "room:2", subject="2")
        streams = [daemon.stream(token).opened() for _ in range(5)]
        with daemon.stream(other).opened() as untouched:
            publisher.channels.remove("1", "room:2")
            publisher.publish("room:2", "for the other")
            publisher.publish("room:1", "for all")
            for stream in streams:
                assert stream.message() == Event("for all")
                stream.close()
            assert untouched.message() == Event("for the other")

    def test_an_emptied_list_ends_the_stream(self, daemon: Daemon, publisher: Publisher) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            publisher.publish("room:1", "last")
            publisher.channels.remove("1", "room:1")
            assert stream.message() == Event("last")
            with pytest.raises(Ended):
                stream.next()

    def test_a_cleared_token_ends_its_streams(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            publisher.tokens.clear("1")
            with pytest.raises(Ended):
                stream.next()
        with daemon.stream(token) as stream:
            assert stream.status == 401

    def test_a_replaced_token_ends_the_streams_of_the_former_only(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        former = subscribe(publisher)
        with daemon.stream(former).opened() as ended:
            token = publisher.tokens.reset("1")
            with daemon.stream(token).opened() as stream:
                ended.wait_for_end()
                publisher.publish("room:1", "hello")
                assert stream.message() == Event("hello")

    def test_an_expired_token_ends_its_streams(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=2)
        with daemon.stream(token).opened() as stream:
            stream.wait_for_end()
        with daemon.stream(token) as stream:
            assert stream.status == 401

    def test_a_token_that_lives_longer_by_now_keeps_its_stream(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=2)
        with daemon.stream(token).opened() as stream:
            redis_client.persist(f"sinapse:tokens:{token}")
            looked_up = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]

            def is_looked_up_again() -> bool:
                stats = redis_client.info("commandstats")
                return bool(stats["cmdstat_evalsha"]["calls"] > looked_up)

            eventually(is_looked_up_again)
            publisher.publish("room:1", "still here")
            stream.wait_for_message("still here")

    def test_names_of_control_channels_are_never_subscribed_to(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.sadd("sinapse:channels:1", "sinapse:channels:2:add", "room:1")
        token = publisher.tokens.generate("1")
        with daemon.stream(token).opened() as stream:
            publisher.channels.add("2", "secret")
            publisher.publish("room:1", "hello")
            assert stream.message() == Event("hello")


class TestRedis:
    """Subscriptions are what is needed, and faults pass."""

    def test_publish_tells_how_many_nodes_heard(
        self, daemon: Daemon, publisher: Publisher, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        token = subscribe(publisher)
        assert publisher.publish("room:1", "nobody") == 0
        with running_daemon(tmp_path, redis_server.url) as second:
            first_streams = [daemon.stream(token).opened() for _ in range(3)]
            assert publisher.publish("room:1", "one node") == 1
            with second.stream(token).opened():
                assert publisher.publish("room:1", "two nodes") == 2
            for stream in first_streams:
                stream.close()
            eventually(lambda: publisher.publish("room:1", "nobody") == 0)

    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_a_client_that_is_gone_is_noticed(
        self, daemon: Daemon, publisher: Publisher, how: str
    ) -> None:
        stream = daemon.stream(subscribe(publisher)).opened()
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.close()
        eventually(lambda: publisher.publish("room:1", "nobody") == 0)

    def test_a_stream_that_sends_junk_is_noticed_when_it_closes(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        stream = daemon.stream(subscribe(publisher)).opened()
        stream.socket.sendall(b"junk" * 50_000)
        publisher.publish("room:1", "hello")
        assert stream.message() == Event("hello")
        stream.close()
        eventually(lambda: publisher.publish("room:1", "nobody") == 0)

    def test_what_is_no_message_is_skipped_and_logged_once(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        client = redis_server.client()
        with (
            running_daemon(tmp_path, redis_server.url) as daemon,
            daemon.stream(subscribe(publisher)).opened() as stream,
        ):
            for payload in (b"", b"\xc1", b"\xa5hell", b"\x01", b"\x80", b"\x90", b"\xa1\xff"):
                client.publish("room:1", payload)
            client.publish("room:1", msgpack.packb("\n" * 1_000_000))  # 7 MB as a stream
            publisher.publish("room:1", "hello")
            assert stream.message() == Event("hello")
            assert daemon.log.count("skipped a payload") == 1
            assert "Traceback" not in daemon.log
        client.close()

    def test_redis_away_at_the_start_is_a_passing_trouble(self, tmp_path: Path) -> None:
        with running_redis(tmp_path) as server, Publisher(server.url) as publisher:
            server.stop()
            with running_daemon(tmp_path, server.url, ready=False) as daemon:
                assert daemon.get("/ready").status == 503
                refusal = daemon.get("/?access_token=x")
                assert refusal.status == 503
                assert int(refusal.headers["Retry-After"]) > 0
                with daemon.stream("x", {"Origin": "http://a.example"}) as stream:
                    assert stream.status == 200
                    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                    assert stream.headers["Access-Control-Allow-Origin"] == "http://a.example"
                    block = stream.block()
                    assert block.startswith(b"retry: ")
                    assert 1000 <= int(block.split()[1]) <= 5000
                    with pytest.raises(Ended):
                        stream.block()
                server.start()
                eventually(lambda: daemon.get("/ready").status == 200)
                with daemon.stream(subscribe(publisher)).opened() as stream:
                    publisher.publish("room:1", "hello")
                    assert stream.message() == Event("hello")
                states = [line for line in daemon.log.splitlines() if "Broker" in line]
                assert len(states) == 2, states

    def test_a_stream_stays_open_while_redis_restarts_and_what_changed_applies(
        self, tmp_path: Path
    ) -> None:
        options = ("--appendonly", "yes", "--appendfsync", "always")
        with (
            running_redis(tmp_path, *options) as server,
            Publisher(server.url) as publisher,
            running_daemon(tmp_path, server.url) as daemon,
        ):
            kept = subscribe(publisher, "room:1", "room:2", "room:3")
            revoked = subscribe(publisher, "room:1", subject="2")
            with daemon.stream(kept).opened() as stream, daemon.stream(revoked).opened() as ended:
                server.stop()
                eventually(lambda: daemon.get("/ready").status == 503)
                # What changes while the daemon cannot hear of it: it is stopped meanwhile.
                os.kill(daemon.pid, signal.SIGSTOP)
                server.start()
                publisher.channels.remove("1", "room:2")
                publisher.channels.add("1", "room:4")
                publisher.tokens.clear("2")
                os.kill(daemon.pid, signal.SIGCONT)
                eventually(lambda: daemon.get("/ready").status == 200)
                assert publisher.publish("room:2", "removed") == 0
                assert publisher.publish("room:3", "kept") == 1
                assert publisher.publish("room:4", "added") == 1
                assert stream.message() == Event("kept")
                assert stream.message() == Event("added")
                with pytest.raises(Ended):
                    ended.next()


class TestSlowConsumer:
    """A client that does not read costs at most the bound, and delays nobody."""

    def test_it_is_closed_and_the_others_get_everything(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        bound = 1024 * 1024
        with running_daemon(tmp_path, redis_server.url, "--max-pending", str(bound)) as daemon:
            token = subscribe(publisher)
            slow = daemon.stream(token).opened()
            with daemon.stream(token).opened() as reader:
                text = "x" * 100_000
                for number in range(200):  # 20 MB: more than the kernel's buffers and the bound
                    publisher.publish("room:1", f"{number} {text}")
                    assert reader.next().data.startswith(f"{number} ")
                # It is cut off, not ended in good order, and has lost what came after.
                with pytest.raises(Ended):
                    read_all(slow, 200)
                slow.close()
                publisher.publish("room:1", "still here")
                assert reader.message() == Event("still here")

    def test_one_that_reads_again_in_time_misses_nothing(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        bound = 64 * 1024 * 1024
        with (
            running_daemon(tmp_path, redis_server.url, "--max-pending", str(bound)) as daemon,
            daemon.stream(subscribe(publisher)).opened() as stream,
        ):
            text = "x" * 100_000
            for number in range(200):  # 20 MB: more than the kernel's buffers take
                publisher.publish("room:1", f"{number} {text}")
            assert read_all(stream, 200) == [f"{number} {text}" for number in range(200)]
            publisher.publish("room:1", "live again")
            assert stream.message() == Event("live again")


class TestOptions:
    """What the command line and the environment change."""

    def test_keep_alives_are_whole_blocks_for_quiet_streams(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with (
            running_daemon(tmp_path, redis_server.url, "-k", "0.2") as daemon,
            daemon.stream(subscribe(publisher)).opened() as stream,
        ):
            assert [stream.block() for _ in range(3)] == [b":\n\n"] * 3

    def test_the_reconnection_time_is_told_in_milliseconds(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with (
            running_daemon(
                tmp_path, redis_server.url, environment={"SINAPSE_RETRY": "2.5"}
            ) as daemon,
            daemon.stream(subscribe(publisher)) as stream,
        ):
            assert stream.next().retry == "2500"

    def test_without_retention_the_first_bytes_are_exactly_the_origins(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        environment = {"SINAPSE_RETAIN": "0"}
        with (
            running_daemon(tmp_path, redis_server.url, environment=environment) as daemon,
            daemon.stream(subscribe(publisher), after="0-0") as stream,
        ):
            assert stream.block() == OPENING
            publisher.publish("room:1", "hello", retain=0)
            assert stream.block() == b"data: hello\n\n"

    def test_the_channel_can_be_the_event_type(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with (
            running_daemon(tmp_path, redis_server.url, "--channel-event") as daemon,
            daemon.stream(subscribe(publisher)).opened() as stream,
        ):
            publisher.publish("room:1", "hello")
            publisher.publish("room:1", "hello", event="own")
            assert stream.message() == Event("hello", "room:1")
            assert stream.message() == Event("hello", "own")


class TestStop:
    """SIGTERM."""

    def test_streams_end_in_good_order_and_nothing_is_left(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with running_daemon(tmp_path, redis_server.url) as daemon:
            token = subscribe(publisher)
            streams = [daemon.stream(token).opened() for _ in range(10)]
            daemon.stop()
            for stream in streams:
                # IncompleteRead, were the end missing.
                assert re.fullmatch(COME_BACK, stream.response.read())
                stream.close()
            assert "Traceback" not in daemon.log
            assert "Unhandled" not in daemon.log

    def test_it_ends_while_redis_is_away_too(self, tmp_path: Path) -> None:
        with running_daemon(tmp_path, "redis://127.0.0.1:1/0", ready=False) as daemon:
            daemon.stop()
            assert "Traceback" not in daemon.log
