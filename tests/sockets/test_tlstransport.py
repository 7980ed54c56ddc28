"""TLS over real sockets, with a real client; the reactor's turns are the test's."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.sockets import tlstransport
from sinapse.sockets.certificates import TICKET_KEY_AGE, Certificates
from sinapse.sockets.ending import CLOSE_TIMEOUT, READ_TIMEOUT
from sinapse.sockets.tlstransport import TLSFactory
from tests.support.certificates import root

SERVER: Any = None  # The transport keeps the port that accepted it, and never looks at it.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    issued = root().issue("localhost")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(issued.key + issued.certificate)
    return Certificates("ssl", {"privateKey": str(path)})


@implementer(IPushProducer)
class Server(Protocol):
    """Notes what it is told, as a protocol and as a producer."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ends: list[Failure] = []
        self.told: list[str] = []
        self.answers = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += data
        if self.answers:
            self.transport.write(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: N802
        self.ends.append(reason)

    def pauseProducing(self) -> None:  # noqa: N802
        self.told.append("pause")

    def resumeProducing(self) -> None:  # noqa: N802
        self.told.append("resume")

    def stopProducing(self) -> None:  # noqa: N802
        self.told.append("stop")


class Pair:
    """One connection with both its ends, and a reactor that turns when told to."""

    def __init__(
        self,
        certificates: Certificates,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        ours, self.socket = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket.setblocking(False)
        self.reactor: Any = MemoryReactorClock()
        factory = Factory.forProtocol(Server)
        self.tls: Any = TLSFactory(certificates, factory, self.reactor).buildProtocol(None)
        self.below = tcp.Server(ours, self.tls, ("127.0.0.1", 1), SERVER, 0, self.reactor)
        ours.setblocking(False)
        context = context or root().client()
        context.minimum_version = context.maximum_version = version
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.client = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname="localhost", session=session
        )
        self.tls.makeConnection(self.below)

    @property
    def server(self) -> Server:
        server: Server = self.tls.wrappedProtocol
        return server

    def shake_hands(self) -> None:
        while not self._has_shaken_hands():
            self._exchange()
        self._exchange()

    def _has_shaken_hands(self) -> bool:
        try:
            self.client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _exchange(self) -> None:
        """Hand on what there is in both directions."""
        self.deliver()
        self.turn()
        self.fetch()

    def said(self) -> bytes:
        """Return what the client has said, encrypted."""
        return self._outgoing.read()

    def deliver(self) -> None:
        """Have the server read what the client has said."""
        if said := self.said():
            self.socket.sendall(said)
            self.below.doRead()

    def fetch(self, size: int = 1 << 20) -> int:
        """Take as much from the socket; returns how much there was."""
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return 0
        self._incoming.write(data)
        return len(data)

    def read(self) -> bytes:
        """Return what the client can read of what was taken from the socket."""
        text = b""
        while True:
            try:
                more = self.client.read(1 << 20)
            except ssl.SSLWantReadError:
                return text
            if not more:
                return text
            text += more

    def turn(self) -> None:
        """Let the reactor do what is due."""
        if self.below in self.reactor.getWriters():
            result = self.below.doWrite()
            if result is not None:
                self.reactor.removeWriter(self.below)
                self.below.connectionLost(Failure(result))
        self.reactor.advance(0)

    def read_all(self) -> bytes:
        """Turn and read until nothing comes any more."""
        text = b""
        quiet = 0
        while quiet < 3:
            self.turn()
            quiet = 0 if self.fetch() else quiet + 1
            text += self.read()
        return text

    def end(self) -> None:
        self.socket.close()
        if self.below.connected:
            self.below.connectionLost(Failure(ConnectionDone()))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def fresh(certificates: Certificates, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A connection on which nothing has been said."""
    pair = Pair(certificates, request.param)
    yield pair
    pair.end()


@pytest.fixture
def pair(fresh: Pair) -> Pair:
    fresh.shake_hands()
    return fresh


def test_what_fits_is_on_its_way_when_write_returns(pair: Pair) -> None:
    pair.tls.write(b"frame")
    assert pair.below not in pair.reactor.getWriters()
    pair.fetch()
    assert pair.read() == b"frame"


def test_what_does_not_fit_follows_whole_and_in_order(pair: Pair) -> None:
    frames = [bytes([65 + number]) * 100_000 for number in range(8)]
    for frame in frames:
        pair.tls.write(frame)
    assert pair.below in pair.reactor.getWriters()
    assert pair.read_all() == b"".join(frames)
    pair.tls.write(b"straight again")
    pair.fetch()
    assert pair.read() == b"straight again"


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.integers(1, 60_000).map(lambda size: ("write", size)),
            st.integers(1, 60_000).map(lambda size: ("fetch", size)),
            st.just(("say", 0)),
            st.just(("ask", 0)),
            st.just(("turn", 0)),
        ),
        max_size=40,
    ),
    version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
)
def test_in_any_interleaving_the_bytes_arrive_as_written(
    certificates: Certificates, steps: list[tuple[str, int]], version: ssl.TLSVersion
) -> None:
    pair = Pair(certificates, version)
    pair.shake_hands()
    sent, received, said = b"", b"", b""
    for number, (step, size) in enumerate(steps):
        if step == "write":
            data = bytes([number % 256]) * size
            pair.tls.write(data)
            sent += data
        elif step == "fetch":
            pair.fetch(size)
            received += pair.read()
        elif step in ("say", "ask"):
            pair.server.answers = step == "ask"
            for text in (b"one", b"other"):  # In one piece.
                pair.client.write(text)
                said += text
                sent += text if pair.server.answers else b""
            pair.deliver()
        else:
            pair.turn()
    assert received + pair.read_all() == sent
    assert pair.server.received == said
    pair.end()


def test_what_is_written_before_the_hands_are_shaken_waits(fresh: Pair) -> None:
    fresh.tls.write(b"early")
    assert fresh.fetch() == 0
    fresh.shake_hands()
    assert fresh.read() + fresh.read_all() == b"early"


def test_a_producer_is_paused_when_much_waits_and_resumed_when_nothing_does(pair: Pair) -> None:
    pair.tls.registerProducer(pair.server, True)
    pair.tls.write(b"x" * 1000)
    assert pair.server.told == []
    pair.tls.write(b"x" * 300_000)
    assert pair.server.told == ["pause"]
    assert pair.read_all() == b"x" * 301_000
    assert pair.server.told == ["pause", "resume"]


def test_the_end_is_told_to_the_client_after_what_waits(pair: Pair) -> None:
    pair.tls.write(b"x" * 300_000)
    pair.tls.loseConnection()
    pair.tls.write(b"late")
    assert pair.read_all() == b"x" * 300_000
    assert pair.client.read(1) == b""  # There was a close_notify.


def test_the_end_of_the_client_is_told_in_a_turn_of_its_own(pair: Pair) -> None:
    server = pair.server
    pair.socket.close()
    pair.tls.write(b"x")
    pair.tls.write(b"x" * 300_000)
    assert server.ends == []
    pair.turn()
    assert len(server.ends) == 1
    pair.tls.write(b"late")
    assert len(server.ends) == 1


def test_a_descriptor_that_is_anothers_now_is_never_written_to(pair: Pair) -> None:
    number = pair.below.fileno()
    pair.below.connectionLost(Failure(ConnectionDone()))
    ends = socket.socketpair()
    assert number in (ends[0].fileno(), ends[1].fileno())
    pair.tls.write(b"not for you")
    pair.tls.loseConnection()
    for end in ends:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(100)
    for end in ends:
        end.close()


def test_an_interrupted_answer_loses_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int, __: bytes) -> int:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    pair.server.answers = True
    pair.client.write(b"one ")
    with monkeypatch.context() as patch:
        patch.setattr(tlstransport, "_write", fail)
        pair.deliver()
    pair.tls.write(b"other")  # Behind what waits, although it could be written now.
    assert pair.read_all() == b"one other"


def test_openssl_writes_frames_itself(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tlstransport, "_write")
    for number in range(3):
        pair.tls.write(b"frame %d" % number)
        pair.fetch()
        assert pair.read() == b"frame %d" % number


def test_a_record_that_fits_in_part_goes_on_where_it_broke_off(pair: Pair) -> None:
    pair.tls.write(b"straight")
    frames = [bytes([65 + number]) * 10_000 for number in range(8)]  # The socket holds less.
    for frame in frames:
        pair.tls.write(frame)
    assert pair.below in pair.reactor.getWriters()
    assert pair.read_all() == b"straight" + b"".join(frames)


def test_what_is_answered_at_once_does_not_disturb_what_is_still_to_be_read(pair: Pair) -> None:
    pair.tls.write(b"straight")
    pair.server.answers = True
    for text in (b"one ", b"two ", b"three"):
        pair.client.write(text)
    pair.deliver()
    assert pair.server.received == b"one two three"
    assert pair.read_all() == b"straightone two three"


def test_half_a_record_of_the_client_waits_for_its_other_half(pair: Pair) -> None:
    pair.tls.write(b"before ")
    pair.client.write(b"question")
    said = pair.said()
    for part in (said[:3], said[3:20], said[20:]):
        pair.socket.sendall(part)
        pair.below.doRead()
        pair.tls.write(b"meanwhile ")
    assert pair.server.received == b"question"
    assert pair.read_all() == b"before " + b"meanwhile " * 3


def test_nothing_written_is_nothing_said(pair: Pair) -> None:
    for data in (b"", b"frame", b"", b"", b"other"):
        pair.tls.write(data)
    assert pair.read_all() == b"frameother"


def test_the_end_is_told_when_everything_is_written(pair: Pair) -> None:
    pair.tls.write(b"frame")
    pair.tls.loseConnection()
    pair.tls.write(b"late")
    pair.fetch()
    assert pair.read() == b"frame"
    assert pair.client.read(1) == b""  # There was a close_notify.


def test_who_is_aborted_hears_nothing_more(pair: Pair) -> None:
    ends = pair.server.ends
    pair.tls.write(b"frame")
    pair.tls.abortConnection()
    pair.tls.write(b"late")
    pair.reactor.advance(0)
    assert len(ends) == 1
    pair.fetch()
    assert pair.read() == b"frame"


class TestSessions:
    """What spares a client that comes back a part of its handshake."""

    @pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def version(self, request: pytest.FixtureRequest) -> ssl.TLSVersion:
        version: ssl.TLSVersion = request.param
        return version

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        issued = root().issue("localhost")
        path = tmp_path / "server.pem"
        path.write_bytes(issued.key + issued.certificate)
        return path

    @pytest.fixture
    def client(self, version: ssl.TLSVersion) -> Callable[[Certificates], bool]:
        """Return what shakes hands, and says whether a session from before was resumed."""
        context = root().client()
        sessions: list[ssl.SSLSession | None] = []

        def shake_hands(certificates: Certificates) -> bool:
            session = sessions[-1] if sessions else None
            pair = Pair(certificates, version, context, session)
            pair.shake_hands()
            pair.tls.write(b"frame")
            assert pair.read_all() == b"frame"
            pair.client.write(b"question")
            pair.deliver()
            assert pair.server.received == b"question"
            sessions.append(pair.client.session)
            resumed = pair.client.session_reused
            pair.end()
            return bool(resumed)

        return shake_hands

    def test_they_are_resumed_time_and_again(
        self, client: Callable[[Certificates], bool], path: Path
    ) -> None:
        certificates = Certificates("ssl", {"privateKey": str(path)})
        assert [client(certificates) for _ in range(4)] == [False, True, True, True]

    def test_no_key_of_tickets_grows_old(
        self, client: Callable[[Certificates], bool], path: Path, clock: Clock
    ) -> None:
        certificates = Certificates("ssl", {"privateKey": str(path)}, clock.seconds)
        path.unlink()  # Nothing is read again for that.
        assert not client(certificates)
        clock.advance(TICKET_KEY_AGE - 1)
        assert client(certificates)
        clock.advance(1)
        assert not client(certificates)
        assert client(certificates)

    def test_who_comes_to_another_process_shakes_hands_anew(
        self, client: Callable[[Certificates], bool], path: Path
    ) -> None:
        one, other = (Certificates("ssl", {"privateKey": str(path)}) for _ in range(2))
        assert [client(each) for each in (one, one, other, other)] == [False, True, False, True]

    def test_a_renewed_certificate_is_shown_to_all(
        self, client: Callable[[Certificates], bool], path: Path
    ) -> None:
        certificates = Certificates("ssl", {"privateKey": str(path)})
        assert [client(certificates) for _ in range(2)] == [False, True]
        certificates.renew()
        assert [client(certificates) for _ in range(2)] == [False, True]

    def test_a_folder_has_them_for_each_name(
        self, client: Callable[[Certificates], bool], path: Path
    ) -> None:
        first = root().issue("first.example")
        (path.parent / "a.pem").write_bytes(first.key + first.certificate)
        certificates = Certificates("tls", {"path": str(path.parent)})
        assert [client(certificates) for _ in range(3)] == [False, True, True]


class TestEnds:
    """A connection that is closed ends, whatever its client does."""

    @staticmethod
    def wait(pair: Pair, seconds: float) -> None:
        pair.reactor.pump([0.5] * int(2 * seconds))
        pair.turn()
        pair.reactor.advance(0)

    def test_who_does_not_agree_is_waited_for_no_longer(self, pair: Pair) -> None:
        ends = pair.server.ends
        pair.tls.write(b"goodbye")
        pair.tls.loseConnection()
        self.wait(pair, CLOSE_TIMEOUT - 1)
        assert not ends
        self.wait(pair, 1)
        assert len(ends) == 1
        pair.fetch()
        assert pair.read() == b"goodbye"

    def test_who_takes_what_was_said_bit_by_bit_gets_all_of_it(self, pair: Pair) -> None:
        ends = pair.server.ends
        text = b"x" * 1_000_000
        pair.tls.write(text)
        pair.tls.loseConnection()
        received = b""
        while not ends:
            for _ in range(2):
                pair.fetch(20_000)
                received += pair.read()
                pair.turn()
            self.wait(pair, READ_TIMEOUT - CLOSE_TIMEOUT)
        while pair.fetch():
            received += pair.read()
        assert received == text

    def test_who_takes_nothing_is_cut_off(self, pair: Pair) -> None:
        ends = pair.server.ends
        pair.tls.write(b"x" * 1_000_000)
        pair.tls.loseConnection()
        self.wait(pair, READ_TIMEOUT - CLOSE_TIMEOUT)
        assert not ends
        self.wait(pair, 2 * CLOSE_TIMEOUT)
        assert len(ends) == 1

    def test_nothing_is_left_to_be_done_afterwards(self, pair: Pair) -> None:
        ends = pair.server.ends
        pair.tls.loseConnection()
        pair.tls.loseConnection()
        pair.tls.abortConnection()
        pair.turn()
        pair.reactor.advance(0)
        assert len(ends) == 1
        assert pair.reactor.getDelayedCalls() == []
