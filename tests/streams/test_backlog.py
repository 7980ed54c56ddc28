"""What waits for all streams together: counted exactly, and bounded by ending the slowest ones."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import CloseReason
from sinapse.publisher import Publisher
from sinapse.streams.backlog import RELIEVED_SHARE, Backlog
from tests.support import RedisServer, eventually
from tests.support.connection import Peer
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe

LIMIT = 1000


class Slow:
    """A stream that is behind, with so many bytes."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self.bytes = 0
        self.reason: CloseReason | None = None

    def close(self, reason: CloseReason) -> None:
        self.reason = reason
        self.bytes = 0
        self._backlog.forget(self)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["add", "take", "end"]), st.integers(1, 400)),
        max_size=60,
    )
)
def test_the_sum_is_exact_and_never_over_the_limit(steps: list[tuple[int, str, int]]) -> None:
    backlog = Backlog(LIMIT)
    streams = [Slow(backlog) for _ in range(6)]
    for number, step, size in steps:
        stream = streams[number]
        if stream.reason is not None:
            continue
        if step == "add":
            stream.bytes += size
            backlog.add(stream, size)
        elif step == "take":
            taken = min(size, stream.bytes)
            stream.bytes -= taken
            backlog.take(stream, taken)
        else:
            stream.close(CloseReason.CLIENT_GONE)
        assert backlog.bytes == sum(each.bytes for each in streams) <= LIMIT


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30))
def test_those_that_end_are_the_slowest_and_no_more_than_need_be(sizes: list[int]) -> None:
    backlog = Backlog(LIMIT)
    streams = []
    for size in sizes:
        streams.append(Slow(backlog))
        streams[-1].bytes = size
        before = {each: each.bytes for each in streams if each.reason is None}
        backlog.add(streams[-1], size)
        ended = [each for each in before if each.reason is not None]
        if ended:
            assert sum(before.values()) > LIMIT
            left = [before[each] for each in before if each.reason is None]
            assert min(before[each] for each in ended) >= max(left, default=0)
            # Without the last one of them there would not have been room.
            assert sum(left) + min(before[each] for each in ended) > RELIEVED_SHARE * LIMIT


def test_without_a_limit_nobody_ends() -> None:
    backlog = Backlog(0)
    stream = Slow(backlog)
    backlog.add(stream, 10**12)
    assert stream.reason is None


class TestConnections:
    """Real sockets, whose clients do not read."""

    @pytest.fixture
    def peers(self) -> Iterator[list[Peer]]:
        backlog = Backlog(900_000)
        peers = [Peer() for _ in range(3)]
        for peer in peers:
            peer.backlog = backlog
        yield peers
        for peer in peers:
            peer.end()

    def test_the_slowest_goes_and_the_others_miss_nothing(self, peers: list[Peer]) -> None:
        one, other, fast = peers
        one.connection.send(b"x" * 600_000)
        other.connection.send(b"x" * 300_000)
        fast.connection.send(b"hello")
        other.connection.send(b"y" * 100_000)
        for peer in peers:
            peer.turn()
        assert one.ends == [CloseReason.TOO_MUCH_PENDING]
        assert fast.read() == b"hello"
        assert other.read_all() == b"x" * 300_000 + b"y" * 100_000
        assert other.backlog.bytes == other.backlog.streams == 0

    def test_what_is_left_of_a_large_frame_is_not_copied(self, peers: list[Peer]) -> None:
        frame = b"x" * 400_000
        for peer in peers[:2]:
            peer.connection.send(frame)
            peer.turn()
            assert peer.connection._pending is not None
            rest = peer.connection._pending.frames[-1]
            assert isinstance(rest, memoryview)
            assert rest.obj is frame


@pytest.fixture
def bounded(tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
    with running_daemon(tmp_path, redis_server.url, "--max-pending-total", "1000000") as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


def test_a_daemon_holds_no_more_and_who_reads_gets_everything(
    bounded: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, "news")
    slow = [Stream(bounded.address, f"/?access_token={token}") for _ in range(4)]
    for stream in slow:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.opened()
    reader = bounded.stream(token).opened()
    name = "sinapse_streams_closed_total too much waits for slow consumers"
    text = "x" * 50_000

    def is_relieved() -> bool:
        publisher.publish("news", text)
        assert reader.message().data == text
        metrics = bounded.metrics()
        assert metrics["sinapse_pending_bytes"] <= 1_000_000
        return metrics.get(name, 0) >= 1

    eventually(is_relieved)
    for stream in (*slow, reader):
        stream.close()
    eventually(lambda: bounded.metrics()["sinapse_streams"] == 0)
    assert bounded.metrics()["sinapse_pending_bytes"] == 0
    assert bounded.metrics()["sinapse_streams_behind"] == 0
