"""The end of a node: whose turn it is, and what clients see of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.publisher import Publisher
from sinapse.streams.drain import Drain
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.daemon import COME_BACK, Daemon, Ended, Stream, running_daemon, wait_for_end
from tests.support.longpoll import JSON, waiting
from tests.support.longpoll import position as poll_position
from tests.support.subscribing import subscribe
from tests.support.websocket import HANDSHAKE, ending, opened

#: Seconds for which no test waits: the second stream of two is ended after half of them. Meanwhile
#: open connections are not closed for being idle.
LONG_DRAIN = ("--drain", "3600", "--request-timeout", "60")


class TestTurns:
    """Whose turn it is."""

    @given(
        st.integers(0, 100),
        st.integers(0, 100),
        st.lists(st.integers(0, 200), max_size=20).map(sorted),
    )
    def test_each_has_its_turn_once_and_all_are_an_equal_time_apart(
        self, count: int, seconds: int, moments: list[int]
    ) -> None:
        drain = Drain(range(count), seconds, now=5)
        ended: list[int] = []
        for moment in moments:
            ended += drain.due(5 + moment)
            if not drain.is_over(5 + moment):
                assert abs(len(ended) - count * moment / seconds) <= 1.001
        ended += drain.due(5 + seconds)
        assert drain.is_over(5 + seconds)
        assert Counter(ended) == Counter(range(count))

    def test_the_order_is_another_each_time(self) -> None:
        def order() -> list[int]:
            return Drain(range(20), 0, now=0).due(0)

        assert len({tuple(order()) for _ in range(20)}) > 1

    def test_the_first_one_goes_at_once(self) -> None:
        assert Drain(["only"], 3600, now=0).due(0) == ["only"]

    def test_one_that_is_postponed_is_looked_at_again_and_delays_no_other(self) -> None:
        drain = Drain("abcd", 4, now=0)
        (slow,) = drain.due(0)
        drain.postpone(slow)
        first, second = drain.due(1)
        assert first == slow
        assert second != slow
        assert len(drain.due(4)) == 2


def terminate(daemon: Daemon, number: int = signal.SIGTERM) -> None:
    os.kill(daemon.pid, number)


def begin(daemon: Daemon) -> None:
    """Have a drain begin, and return when it has."""
    terminate(daemon)
    eventually(lambda: daemon.admin("/ready").status == 503)


def told(stream: Stream) -> tuple[list[str], int]:
    """Read to the end, and return the messages that came, and when to come back: milliseconds."""
    messages: list[str] = []
    for block in stream.response.read().split(b"\n\n")[:-1]:
        if block.startswith(b"retry: "):
            return messages, int(block.removeprefix(b"retry: ").split(b"\n")[0])
        if block.startswith(b"data: "):
            messages.append(block.removeprefix(b"data: ").split(b"\n")[0].decode())
    raise AssertionError(f"it was not told when to come back: {messages}")


class Connection:
    """A connection to a daemon that stays open after an answer."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", daemon.port, timeout=EVENT_TIMEOUT
        )
        self.get("/status")

    def get(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Make a request without connecting anew."""
        self._connection.request("GET", path, headers=headers or {})
        self._connection.auto_open = False
        response = self._connection.getresponse()
        return response, response.read()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def slow(tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
    """A daemon whose drain is never over by itself."""
    with running_daemon(tmp_path, redis_server.url, *LONG_DRAIN) as daemon:
        yield daemon
        assert daemon.process is not None
        if daemon.process.poll() is None:  # One that drains still, after a test that has failed.
            daemon.process.kill()


def test_streams_end_one_after_the_other_and_hear_everything_until_then(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with running_daemon(tmp_path, redis_server.url, "--drain", "2") as daemon:
        streams = [daemon.stream(token).opened() for _ in range(8)]
        assert daemon.process is not None
        terminate(daemon)
        published = 0
        while daemon.process.poll() is None:
            publisher.publish("room:1", str(published))
            published += 1
        wait_for_end(daemon)
    retries = set()
    for stream in streams:
        messages, retry = told(stream)
        assert messages == [str(number) for number in range(len(messages))]
        assert 1000 <= retry <= 5000
        retries.add(retry)
        stream.close()
    assert len(retries) > 1


def test_nobody_may_come_any_more(slow: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    streams = [slow.stream(token).opened() for _ in range(2)]
    connections = [Connection(slow) for _ in range(5)]
    assert connections[0].get("/ready")[0].status == 200
    begin(slow)

    with pytest.raises(ConnectionRefusedError):
        slow.get("/status")
    ready, status, source, poll, socket = connections
    for connection, path in ((ready, "/ready"), (status, "/status")):
        response, body = connection.get(path)
        assert response.headers["Connection"] == "close"
        assert (response.status, body) == {
            "/ready": (503, b"503 draining\n"),
            "/status": (200, b"OK\n"),
        }[path]

    # An EventSource would give up on anything but a 200.
    response, body = source.get(f"/?access_token={token}", {"Accept": "text/event-stream"})
    assert response.status == 200
    assert response.headers["Connection"] == "close"
    assert (told := re.fullmatch(COME_BACK, body))
    assert 1000 <= int(told[1]) <= 5000
    for connection, headers in ((poll, JSON), (socket, HANDSHAKE)):
        response, body = connection.get(f"/?access_token={token}", headers)
        assert (response.status, body) == (503, b"503 draining\n")
        assert 1 <= int(response.headers["Retry-After"]) <= 5
        assert response.headers["Connection"] == "close"
    assert slow.metrics()["sinapse_requests_refused_total draining"] == 3

    for connection in connections:
        connection.close()
    for stream in streams:
        stream.close()
    wait_for_end(slow)


def test_it_is_over_when_no_stream_is_left(slow: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    streams = [slow.stream(token).opened() for _ in range(3)]
    begin(slow)
    for stream in streams:
        stream.close()
    wait_for_end(slow)


def test_without_streams_it_is_over_at_once(slow: Daemon) -> None:
    terminate(slow)
    wait_for_end(slow)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_everything_at_once(
    slow: Daemon, publisher: Publisher, second: signal.Signals
) -> None:
    token = subscribe(publisher)
    streams = [slow.stream(token).opened() for _ in range(5)]
    begin(slow)
    publisher.publish("room:1", "last")
    eventually(lambda: slow.metrics()["sinapse_deliveries_total"] >= 4)
    terminate(slow, second)
    wait_for_end(slow)
    heard = [told(stream)[0] for stream in streams]
    assert sorted(heard) == [[], *[["last"]] * 4]
    for stream in streams:
        stream.close()


def test_any_number_of_signals_is_no_trouble(slow: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    streams = [slow.stream(token).opened() for _ in range(3)]
    assert slow.process is not None
    begin(slow)  # Signals that come before the first one is seen are one with it.
    for _ in range(50):
        if slow.process.poll() is None:
            terminate(slow)
    wait_for_end(slow)
    for stream in streams:
        told(stream)
        stream.close()


def test_ctrl_c_ends_everything_at_once(slow: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    streams = [slow.stream(token).opened() for _ in range(3)]
    terminate(slow, signal.SIGINT)
    wait_for_end(slow, signal.SIGINT)
    for stream in streams:
        told(stream)
        stream.close()


def test_websockets_are_told_that_the_node_is_going(slow: Daemon, publisher: Publisher) -> None:
    with opened(slow, subscribe(publisher)) as client:
        terminate(slow)
        assert ending(client) == (1001, "server draining")
    wait_for_end(slow)


def test_long_polls_are_answered(slow: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with waiting(slow, token, poll_position(slow, token)) as poll:
        terminate(slow)
        response = poll.connection.getresponse()
        assert response.status == 204
        assert response.headers["Connection"] == "close"
    wait_for_end(slow)


def test_one_that_is_behind_gets_what_waits_for_it(slow: Daemon, publisher: Publisher) -> None:
    text = "x" * 100_000
    with slow.stream(subscribe(publisher)).opened() as stream:
        for number in range(30):
            publisher.publish("room:1", f"{number} {text}", retain=0)
        eventually(lambda: slow.metrics()["sinapse_deliveries_total"] == 30)
        begin(slow)
        assert told(stream)[0] == [f"{number} {text}" for number in range(30)]
    wait_for_end(slow)


def test_one_that_never_reads_is_cut_in_the_end(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    with (
        running_daemon(tmp_path, redis_server.url, "--drain", "0.5") as daemon,
        daemon.stream(subscribe(publisher)).opened(),
    ):
        for number in range(30):
            publisher.publish("room:1", f"{number} {'x' * 100_000}")
        eventually(lambda: daemon.metrics()["sinapse_deliveries_total"] == 30)
        terminate(daemon)
        wait_for_end(daemon)


def test_who_is_being_looked_up_is_sent_away(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path))
        daemon = stack.enter_context(running_daemon(tmp_path, redis.url, *LONG_DRAIN))
        with Publisher(redis.url) as publisher:
            token = subscribe(publisher)
        streams = [stack.enter_context(daemon.stream(token).opened()) for _ in range(2)]
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        try:
            late = stack.enter_context(daemon.stream(token))
            # What was sent before the signal has been read when this is answered.
            assert daemon.get("/status").status == 200
            begin(daemon)
        finally:
            redis.process.send_signal(signal.SIGCONT)
        assert late.status == 200
        assert late.response.read().startswith(b"retry: ")
        for stream in streams:
            stream.close()
        wait_for_end(daemon)


class TestLifetime:
    """--max-lifetime."""

    def test_event_streams_come_back_and_miss_nothing(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with running_daemon(tmp_path, redis_server.url, "--max-lifetime", "0.3") as daemon:
            stream, published = daemon.stream(token).opened(), 0
            last = stream.position
            heard: list[str] = []
            for _ in range(3):
                with stream, contextlib.suppress(Ended):
                    while True:
                        publisher.publish("room:1", str(published))
                        published += 1
                        event = stream.next()
                        if event.retry is not None:
                            assert 100 <= int(event.retry) <= 1000
                            stream.wait_for_end()
                            break
                        heard.append(event.data)
                        last = event.id
                stream = daemon.stream(token, after=last).opened()
            with stream, contextlib.suppress(Ended):
                while len(heard) < published:
                    heard.append(stream.next().data)
            assert heard == [str(number) for number in range(published)]
            eventually(lambda: daemon.metrics()["sinapse_streams_closed_total moved on"] >= 3)

    def test_websockets_are_told_why(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with (
            running_daemon(tmp_path, redis_server.url, "--max-lifetime", "0.3") as daemon,
            opened(daemon, token) as client,
        ):
            assert ending(client) == (4006, "moved on")

    def test_one_that_is_behind_goes_on_until_it_is_not(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        text = "x" * 100_000
        with (
            running_daemon(tmp_path, redis_server.url, "--max-lifetime", "1.5") as daemon,
            daemon.stream(subscribe(publisher)).opened() as stream,
        ):
            for number in range(30):
                publisher.publish("room:1", f"{number} {text}", retain=0)
            # All of them, unless the publisher was slow.
            messages, _ = told(stream)
            assert messages == [f"{number} {text}" for number in range(len(messages))]
