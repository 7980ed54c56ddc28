"""Fair turns: everything that is ready has its turn soon, and what is preferred at once."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs

from sinapse.sockets.turns import SLICE, FairPoller, be_fair, prefer


class Sockets:
    """Many that are ready, and a poller that looks at them."""

    def __init__(self) -> None:
        self.poller = FairPoller(select.epoll())
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def add(self, count: int, *, is_ready: bool = True) -> list[int]:
        new = [socket.socketpair() for _ in range(count)]
        self.pairs += new
        for ours, theirs in new:
            self.poller.register(ours.fileno(), select.EPOLLIN)
            if is_ready:
                theirs.send(b"x")
        return [ours.fileno() for ours, _ in new]

    def write_to(self, number: int) -> None:
        for ours, theirs in self.pairs:
            if ours.fileno() == number:
                theirs.send(b"x")

    def turn(self) -> list[int]:
        return [number for number, _ in self.poller.poll(0, len(self.pairs))]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    sockets.poller.close()
    for pair in sockets.pairs:
        for each in pair:
            each.close()


def test_a_turn_has_a_slice_and_all_have_their_turn(sockets: Sockets) -> None:
    numbers = sockets.add(5 * SLICE)
    turns = [sockets.turn() for _ in range(5)]
    assert {len(each) for each in turns} == {SLICE}
    assert sorted(each for turn in turns for each in turn) == sorted(numbers)


def test_what_is_preferred_is_first_in_each_turn_in_which_it_is_ready(sockets: Sockets) -> None:
    sockets.add(5 * SLICE)
    [preferred] = sockets.add(1, is_ready=False)
    sockets.poller.prefer(preferred)
    assert preferred not in sockets.turn()
    sockets.write_to(preferred)
    for _ in range(3):
        numbers = sockets.turn()
        assert numbers[0] == preferred
        assert len(numbers) == len(set(numbers)) >= SLICE


def test_what_is_preferred_and_not_read_from_does_not_come(sockets: Sockets) -> None:
    """A connection is paused while large fan-outs wait."""
    sockets.add(SLICE)
    [preferred] = sockets.add(1)
    sockets.poller.prefer(preferred)
    sockets.poller.modify(preferred, 0)
    assert preferred not in sockets.turn()
    sockets.poller.modify(preferred, select.EPOLLIN)
    assert sockets.turn()[0] == preferred
    sockets.poller.unregister(preferred)
    assert preferred not in sockets.turn()
    sockets.poller.register(preferred, select.EPOLLIN)
    assert sockets.turn()[0] == preferred


def test_a_descriptor_that_is_anothers_now_is_not_preferred(sockets: Sockets) -> None:
    [former] = sockets.add(1)
    sockets.poller.prefer(former)
    sockets.poller.unregister(former)
    sockets.poller.forget(former)
    sockets.poller.register(former, select.EPOLLIN)
    sockets.add(2 * SLICE)
    assert sum(former in sockets.turn() for _ in range(4)) < 4
    assert sockets.poller._preferred.poll(0) == []


def test_it_takes_the_place_of_epoll_and_of_nothing_else() -> None:
    for kind, is_fair in ((EPollReactor, True), (SelectReactor, False)):
        reactor = kind()
        ours, theirs = socket.socketpair()
        be_fair(reactor)
        be_fair(reactor)
        assert isinstance(getattr(reactor, "_poller", None), FairPoller) is is_fair
        prefer(ours, reactor)()
        ran: list[str] = []
        reactor.callLater(0, ran.append, "timer")
        reactor.callLater(0, reactor.crash)
        reactor.run(installSignalHandlers=False)
        assert ran == ["timer"]
        for each in (ours, theirs):
            each.close()
        for reader in reactor.removeAll():
            reader.connectionLost(None)


class Reading:
    """What reads one byte, and ends or fails as its socket says."""

    def __init__(self, ours: socket.socket) -> None:
        self.fileno = ours.fileno
        self._ours = ours
        self.read: list[bytes] = []
        self.lost: list[object] = []

    def doRead(self) -> object:  # noqa: N802
        data = self._ours.recv(1)
        self.read.append(data)
        if data == b"!":
            raise RuntimeError("broken")
        return None if data else CONNECTION_DONE

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self.lost.append(reason)

    def logPrefix(self) -> str:  # noqa: N802
        return ""


def test_what_fails_in_a_turn_ends_and_takes_nothing_else_with_it() -> None:
    reactor = EPollReactor()
    be_fair(reactor)
    pairs = [socket.socketpair() for _ in range(3)]
    broken, closed, alive = (Reading(ours) for ours, _ in pairs)
    for each in (broken, closed, alive):
        reactor.addReader(each)
    pairs[0][1].send(b"!")
    pairs[1][1].shutdown(socket.SHUT_WR)
    pairs[2][1].send(b"ab")
    with capturedLogs() as events:
        reactor.doIteration(0)
        reactor.doIteration(0)
    assert [each["failure"].type for each in events] == [RuntimeError]
    assert alive.read == [b"a", b"b"]
    assert (broken.read, len(broken.lost), closed.read, len(closed.lost)) == ([b"!"], 1, [b""], 1)
    assert set(reactor.getReaders()) >= {alive}
    assert not {broken, closed} & set(reactor.getReaders())
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
