"""Limits: what is over them is refused in the right way, counted, and in nobody's way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from sinapse.errors import LimitReached
from sinapse.publisher import Publisher
from sinapse.streams.limits import StreamLimits
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.certificates import root
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import refused, subscribe


class TestStreamLimits:
    """Counting, without a daemon."""

    def test_streams_count_from_the_request_to_the_end(self) -> None:
        limits = StreamLimits(total=2)
        with limits.opening("192.0.2.1"):
            limits.opened("192.0.2.1")
        with limits.opening("192.0.2.1"), pytest.raises(LimitReached), limits.opening("192.0.2.1"):
            pass
        limits.closed("192.0.2.1")
        with limits.opening("192.0.2.1"), limits.opening("192.0.2.1"):
            pass

    def test_one_address_does_not_take_the_room_of_another(self) -> None:
        limits = StreamLimits(per_address=1)
        with limits.opening("192.0.2.1"), limits.opening("192.0.2.2"):
            with pytest.raises(LimitReached) as caught, limits.opening("192.0.2.1"):
                pass
            assert caught.value.status == 429
        with limits.opening("192.0.2.1"):
            pass

    def test_addresses_without_streams_are_forgotten(self) -> None:
        limits = StreamLimits(per_address=5)
        with limits.opening("192.0.2.1"):
            limits.opened("192.0.2.1")
        limits.closed("192.0.2.1")
        assert not limits._by_address

    def test_what_is_full_lets_nobody_in(self) -> None:
        with pytest.raises(LimitReached), StreamLimits(is_full=lambda: True).opening("192.0.2.1"):
            pass


TOTAL, PER_ADDRESS, PER_SUBJECT, CHANNELS = 8, 4, 2, 3
LIMITS = (
    *("--max-streams", str(TOTAL), "--max-streams-per-address", str(PER_ADDRESS)),
    *("--max-streams-per-subject", str(PER_SUBJECT), "--max-channels-per-subject", str(CHANNELS)),
    *("--trusted-proxies", "127.0.0.0/8"),
)


@pytest.fixture(scope="module")
def limited_process(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("limited")
    with running_daemon(folder, redis_process.url, *LIMITS) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def limited(limited_process: Daemon, redis_server: RedisServer) -> Daemon:
    """Return a daemon with small limits, on an empty Redis, without streams."""
    assert isinstance(limited_process.address, int)
    eventually(lambda: limited_process.metrics()["sinapse_streams"] == 0, "no stream is left")
    return limited_process


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(stack: ExitStack, daemon: Daemon, token: str, address: str = "") -> Stream:
    headers = {"X-Forwarded-For": address} if address else {}
    return stack.enter_context(daemon.stream(token, headers)).opened()


def refusals(daemon: Daemon) -> dict[str, float]:
    prefix = "sinapse_requests_refused_total "
    return {
        name.removeprefix(prefix): count
        for name, count in daemon.metrics().items()
        if name.startswith(prefix)
    }


def test_no_more_streams_than_there_may_be(
    limited: Daemon, publisher: Publisher, stack: ExitStack
) -> None:
    before = refusals(limited)
    token = subscribe(publisher, "news", subject="late")
    streams = [
        opened(
            stack,
            limited,
            subscribe(publisher, "news", subject=f"user-{number}"),
            f"192.0.2.{number}",
        )
        for number in range(TOTAL)
    ]
    assert refused(limited, token) == (503, "503 too many streams\n")
    assert refusals(limited)["too many streams"] == before.get("too many streams", 0) + 2
    assert limited.get("/ready").status == 200
    streams.pop().close()
    eventually(lambda: limited.metrics()["sinapse_streams"] < TOTAL)
    streams.append(opened(stack, limited, token))
    publisher.publish("news", "hello")
    assert [stream.message().data for stream in streams] == ["hello"] * TOTAL


class TestOfAnAddress:
    """--max-streams-per-address, behind a proxy that is trusted."""

    def test_one_more_is_refused_and_others_are_not(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        tokens = [
            subscribe(publisher, "news", subject=f"user-{number}")
            for number in range(PER_ADDRESS + 1)
        ]
        for token in tokens[:PER_ADDRESS]:
            last = opened(stack, limited, token, "192.0.2.1")
        made_up = "203.0.113.1, 192.0.2.1"
        expected = 429, "429 too many streams of this address\n"
        assert refused(limited, tokens[-1], made_up) == expected
        opened(stack, limited, tokens[-1], "192.0.2.2").close()
        last.close()
        eventually(lambda: limited.metrics()["sinapse_streams"] == PER_ADDRESS - 1)
        opened(stack, limited, tokens[-1], "192.0.2.1")

    def test_it_is_decided_before_redis_is_asked(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        for number in range(PER_ADDRESS):
            opened(
                stack, limited, subscribe(publisher, "news", subject=f"user-{number}"), "192.0.2.1"
            )
        # A token that nobody knows would be a 401.
        assert refused(limited, "unknown", "192.0.2.1")[0] == 429

    def test_a_proxy_that_names_nobody_is_not_limited(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        for number in range(PER_ADDRESS + 1):
            opened(stack, limited, subscribe(publisher, "news", subject=f"user-{number}"))


def test_who_is_no_trusted_proxy_speaks_for_itself_only(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
) -> None:
    options = ("--max-streams-per-address", "1", "--trusted-proxies", "192.0.2.0/24")
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        opened(stack, daemon, subscribe(publisher, "news"), "198.51.100.1")
        assert refused(daemon, subscribe(publisher, "news", subject="2"), "198.51.100.2")[0] == 429
        stack.close()


class TestOfASubject:
    """--max-streams-per-subject."""

    def test_the_newest_takes_the_place_of_the_oldest(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        token = subscribe(publisher, "news")
        streams = [opened(stack, limited, token) for _ in range(PER_SUBJECT + 1)]
        event = streams[0].next()
        assert (event.event, event.data) == ("replaced", "by a newer stream")
        # Not soon, since it would replace another one then.
        assert 30_000 <= int(streams[0].next().retry or "") <= 90_000
        streams[0].wait_for_end()
        publisher.publish("news", "hello")
        assert [stream.message().data for stream in streams[1:]] == ["hello"] * PER_SUBJECT
        closed = "sinapse_streams_closed_total replaced by a newer stream"
        assert limited.metrics()[closed] >= 1

    def test_other_subjects_keep_theirs(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        other = opened(stack, limited, subscribe(publisher, "news", subject="other"))
        token = subscribe(publisher, "news")
        for _ in range(PER_SUBJECT + 1):
            opened(stack, limited, token)
        publisher.publish("news", "hello")
        assert other.message().data == "hello"

    def test_a_client_with_a_token_that_is_none_replaces_nobody(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        streams = [opened(stack, limited, subscribe(publisher, "news"))]
        with limited.stream("unknown") as stranger:
            assert stranger.status == 401
        publisher.publish("news", "hello")
        assert streams[0].message().data == "hello"

    def test_a_long_poll_counts_and_is_told(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        token = subscribe(publisher, "news")
        position = opened(stack, limited, token).position
        path = f"/?access_token={token}&last_event_id={position}"
        poll = stack.enter_context(Stream(limited.address, path, {"Accept": "application/json"}))
        eventually(lambda: limited.metrics()["sinapse_streams"] == 2)
        for _ in range(PER_SUBJECT):
            opened(stack, limited, token)
        assert poll.status == 429

    def test_or_the_newest_is_refused(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, stack: ExitStack
    ) -> None:
        options = ("--max-streams-per-subject", "1", "--subject-overflow", "refuse")
        with running_daemon(tmp_path, redis_server.url, *options) as daemon:
            token = subscribe(publisher, "news")
            first = opened(stack, daemon, token)
            assert refused(daemon, token) == (429, "429 too many streams of this subject\n")
            publisher.publish("news", "hello")
            assert first.message().data == "hello"
            first.close()
            eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)
            opened(stack, daemon, token)
            # What was admitted and then refused holds no channel.
            stack.close()
            eventually(lambda: daemon.metrics()["sinapse_channels"] == 0)


class TestChannels:
    """--max-channels-per-subject: all of them or none, for to leave some out would be a loss."""

    def test_a_subject_with_too_many_has_no_stream_until_that_is_mended(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        token = subscribe(publisher, "news")
        for number in range(CHANNELS):
            publisher.channels.add("1", f"room:{number}")
        assert refused(limited, token) == (503, "503 too many channels\n")
        assert limited.log.count("subject '1' has 4 channels") == 1
        publisher.channels.remove("1", "room:0")
        opened(stack, limited, token)

    def test_a_channel_too_many_ends_its_streams_and_what_was_missed_comes_later(
        self, limited: Daemon, publisher: Publisher, stack: ExitStack
    ) -> None:
        token = subscribe(publisher, "news")
        stream = opened(stack, limited, token)
        for number in range(CHANNELS):
            publisher.channels.add("1", f"room:{number}")
        stream.wait_for_end()
        publisher.publish("news", "missed")
        publisher.channels.remove("1", "room:0")
        resumed = stack.enter_context(limited.stream(token, after=stream.position))
        assert resumed.status == 200
        resumed.wait_for_message("missed")


def test_with_several_redis_limits_are_the_same(
    tmp_path: Path, redis_server: RedisServer, stack: ExitStack
) -> None:
    other = stack.enter_context(running_redis(tmp_path))
    url = f"{redis_server.url} {other.url}"
    options = ("--max-streams-per-subject", "1", "--max-channels-per-subject", "2")
    daemon = stack.enter_context(running_daemon(tmp_path, url, *options))
    publisher = stack.enter_context(Publisher(url))
    token = subscribe(publisher, "news")
    first = opened(stack, daemon, token)
    second = opened(stack, daemon, token)
    assert first.next().event == "replaced"
    first.wait_for_end()
    # Each Redis has a part of the list, and one of them too much of it.
    for number in range(5):
        publisher.channels.add("1", f"room:{number}")
    second.wait_for_end()
    assert refused(daemon, token)[0] == 503
    publisher.channels.clear("1")
    publisher.channels.add("1", "news")
    opened(stack, daemon, token)
    assert "Traceback" not in daemon.log


URL, HEADER, BODY = 1024, 2048, 100
GET = b"GET /status HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def small(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, int]]:
    folder = tmp_path_factory.mktemp("small")
    issued = root().issue("127.0.0.1")
    certificate = folder / "server.pem"
    certificate.write_bytes(issued.key + issued.certificate)
    port = free_port()
    options = (
        *("--port", f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}"),
        *("--request-timeout", "1", "--max-url", str(URL), "--max-header", str(HEADER)),
        *("--max-body", str(BODY)),
    )
    with running_daemon(folder, redis_process.url, *options) as daemon:
        yield daemon, port
        assert "Traceback" not in daemon.log


class TestOfARequest:
    """--request-timeout, --max-url, --max-header and --max-body, over TCP and TLS."""

    @staticmethod
    def exchange(port: int | str, request: bytes) -> bytes:
        """Send `request`, and return everything until the daemon closes."""
        assert isinstance(port, int)
        received = b""
        with socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT) as client:
            with suppress(ConnectionError):  # Refused before it was read whole.
                client.sendall(request)
            with suppress(ConnectionError):
                while data := client.recv(65536):
                    received += data
        return received

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET /?" + b"x" * URL + b" HTTP/1.1\r\n", b"414 "),
            (b"GET /?" + b"x" * URL, b"414 "),
            (GET + b"A: " + b"x" * HEADER + b"\r\n\r\n", b"431 "),
            (GET + b"A: x\r\n" * (HEADER // 4), b"431 "),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", b"413 "),
            (GET, b"408 "),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 99, b"408 "),
        ],
    )
    def test_what_is_too_large_or_late_has_its_status(
        self, small: tuple[Daemon, int], request_: bytes, status: bytes
    ) -> None:
        daemon, _ = small
        assert self.exchange(daemon.address, request_).startswith(b"HTTP/1.1 " + status)

    def test_what_is_just_small_enough_is_served(self, small: tuple[Daemon, int]) -> None:
        daemon, _ = small
        close = b"Connection: close\r\n\r\n"
        line = b"GET /status?%b HTTP/1.1"
        request = line % (b"x" * (URL - len(line) + 2)) + b"\r\nHost: a\r\n" + close
        assert self.exchange(daemon.address, request).startswith(b"HTTP/1.1 200 ")
        request = b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % BODY
        answer = self.exchange(daemon.address, request + close + b"x" * BODY)
        assert answer.startswith(b"HTTP/1.1 405 ")

    @pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
    def test_a_tls_handshake_must_come_to_an_end(
        self, small: tuple[Daemon, int], hello: bytes
    ) -> None:
        _, port = small
        with socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT) as client:
            client.sendall(hello)
            with suppress(ConnectionError):
                assert client.recv(65536) == b""

    def test_a_request_over_tls_must_as_well(self, small: tuple[Daemon, int]) -> None:
        _, port = small
        context = root().client()
        with (
            socket.create_connection(("127.0.0.1", port), EVENT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(GET)
            assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
