"""What waits for a worker that does not read: whole, in order, and bounded."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.ear import wire as wires
from sinapse.ear.wire import Wire


class Transport:
    """One end of a pair of sockets, written to when the test says so, as Twisted's transports."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        for each in (self.near, self.far):
            each.setblocking(False)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.buffer = b""
        self.producer: Any = None
        self.is_closing = self.is_aborted = False

    def fileno(self) -> int:
        return self.near.fileno()

    def write(self, data: bytes) -> None:
        self.buffer += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        assert not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:  # noqa: N802
        self.producer = None

    def loseConnection(self) -> None:  # noqa: N802
        self.is_closing = True

    def abortConnection(self) -> None:  # noqa: N802
        self.is_aborted = True

    def turn(self) -> bytes:
        """Write what fits, and return what the other end reads."""
        with contextlib.suppress(BlockingIOError):
            self.buffer = self.buffer[self.near.send(self.buffer) if self.buffer else 0 :]
        if not self.buffer and self.producer is not None:
            self.producer.resumeProducing()
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Nobody:
    """Commands are none of these tests."""

    def command(self, wire: Wire, words: Sequence[bytes]) -> None:
        raise AssertionError


def connected() -> tuple[Wire, Transport]:
    wire, transport = Wire(Nobody()), Transport()
    wire.makeConnection(transport)
    return wire, transport


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Transport]]:
    """Return a connection for which little may wait."""
    monkeypatch.setattr(wires, "MOST_PENDING", 100_000)
    wire, transport = connected()
    yield wire, transport
    transport.close()


@given(
    st.lists(
        st.one_of(st.just(0), st.lists(st.integers(1, 30_000), min_size=1, max_size=4)), max_size=40
    ),
    st.booleans(),
)
def test_everything_arrives_in_order(steps: list[Any], closes: bool) -> None:
    wire, transport = connected()
    sent = received = b""
    for number, step in enumerate(steps):
        if step == 0:
            received += transport.turn()
        else:
            parts = [bytes([number % 256]) * size for size in step]
            sent += b"".join(parts)
            wire.send(parts)
    if closes:
        wire.close()
    while len(received) < len(sent):
        received += transport.turn()
    transport.turn()
    assert received == sent
    assert transport.is_closing == closes
    assert not transport.is_aborted
    # Nothing is left that would delay what comes next.
    if not closes:
        wire.send([b"next"])
        assert transport.far.recv(10) == b"next"
    transport.close()


def test_who_does_not_read_is_cut_off(small: tuple[Wire, Transport]) -> None:
    wire, transport = small
    wire.send([b"x" * 100_000])
    count = 0
    aborted: list[bool] = []
    while not any(aborted):
        wire.send([b"x" * 1000])
        count += 1
        aborted.append(transport.is_aborted)
    assert 1 < count <= wires.PIECE // 1000 + 101


def test_who_reads_is_not_cut_off_however_much_there_is(small: tuple[Wire, Transport]) -> None:
    wire, transport = small
    sent = received = 0
    while sent < 1_000_000:
        wire.send([b"x" * 10_000])
        sent += 10_000
        while sent - received > 50_000:
            received += len(transport.turn())
        assert not transport.is_aborted
