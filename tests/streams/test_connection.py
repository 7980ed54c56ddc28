"""A stream as an I/O object, over real sockets; the reactor's turns are the test's."""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.sockets.direct import held, write_all, write_each
from sinapse.streams.connection import Connection
from sinapse.streams.takeover import take_over
from sinapse.streams.websocketpeer import ANSWER, MIN_FRAME_SIZE
from sinapse.web.intake import PART_SIZE
from sinapse.web.limits import FRAMES_PER_SECOND
from sinapse.web.site import Site
from tests.support.connection import LIMIT, PLAIN, Peer

CHUNKED = EventStream(chunked=True)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.end()


def is_live(connection: Connection) -> bool:
    return connection._pending is None


def test_what_fits_is_on_its_way_when_send_returns(peer: Peer) -> None:
    peer.connection.send(b"frame")
    assert peer.read() == b"frame"
    assert is_live(peer.connection)
    assert peer.transport not in peer.reactor.getWriters()


def test_what_does_not_fit_follows_whole_and_in_order(peer: Peer) -> None:
    frames = [bytes([65 + number]) * 100_000 for number in range(8)]
    for frame in frames:
        peer.connection.send(frame)
    assert not is_live(peer.connection)
    assert peer.read_all() == b"".join(frames)
    assert is_live(peer.connection)
    peer.connection.send(b"live again")
    assert peer.read() == b"live again"


def test_a_full_socket_takes_nothing_and_loses_nothing(peer: Peer) -> None:
    sent = 0
    while is_live(peer.connection):
        peer.connection.send(b"x" * 512)
        sent += 512
    peer.connection.send(b"y" * 512)
    assert peer.read_all() == b"x" * sent + b"y" * 512


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(1, 60_000).map(lambda size: ("send", size)),
            st.integers(1, 60_000).map(lambda size: ("read", size)),
            st.just(("turn", 0)),
        ),
        max_size=40,
    )
)
def test_in_any_interleaving_the_bytes_arrive_as_sent(steps: list[tuple[str, int]]) -> None:
    peer = Peer()
    sent, received = b"", b""
    for number, (step, size) in enumerate(steps):
        if step == "send":
            frame = bytes([number % 256]) * size
            peer.connection.send(frame)
            if not peer.ends and peer.connection._reason is None:
                sent += frame
        elif step == "read":
            received += peer.read(size)
        else:
            peer.turn()
        assert peer.connection.pending_bytes <= LIMIT
    received += peer.read_all()
    if peer.connection._reason is None:
        assert received == sent
        assert is_live(peer.connection)
    else:
        assert sent.startswith(received[: len(sent)])
    peer.end()


def test_the_bytes_that_wait_are_counted_until_they_are_written(peer: Peer) -> None:
    peer.connection.send(b"x" * 300_000)
    peer.connection.send(b"x" * 300_000)
    before = peer.connection.pending_bytes
    taken = 600_000 - before
    assert 0 <= taken < 300_000
    peer.turn()
    assert peer.connection.pending_bytes == before  # The transport holds the first frame still.


def test_over_the_limit_is_a_slow_consumer_and_is_cut_off(peer: Peer) -> None:
    for _ in range(12):
        peer.connection.send(b"x" * 100_000)
    assert peer.ends == []  # The hub is in its loop: nobody is told before the next turn.
    peer.turn()
    assert peer.ends == [CloseReason.SLOW_CONSUMER]
    assert peer.connection._pending is None
    peer.connection.send(b"late")
    peer.connection.keep_alive()
    peer.turn()
    assert peer.ends == [CloseReason.SLOW_CONSUMER]


def test_frames_that_wait_are_shared_not_copied() -> None:
    one, other = Peer(), Peer()
    frame = b"x" * 200_000
    for peer in (one, other):
        peer.connection.send(b"y" * 400_000)
        peer.connection.send(frame)
    assert one.connection._pending is not None
    assert other.connection._pending is not None
    assert one.connection._pending.frames[-1] is other.connection._pending.frames[-1] is frame
    one.end()
    other.end()


@pytest.mark.parametrize("size", [10, 500_000])
def test_a_peer_that_is_gone_ends_the_stream_once(size: int) -> None:
    peer = Peer()
    peer.theirs.close()
    peer.connection.send(b"x" * size)
    peer.connection.send(b"x" * size)
    assert peer.ends == []
    peer.turn()
    peer.turn()
    assert peer.ends == [CloseReason.CLIENT_GONE]


def test_a_descriptor_that_is_anothers_now_is_never_written_to() -> None:
    peer = Peer()
    number = peer.transport.fileno()
    peer.transport.connectionLost(Failure(ConnectionDone()))
    one, other = socket.socketpair()
    if one.fileno() != number:
        one, other = other, one
    assert number in (one.fileno(), other.fileno())
    peer.connection.send(b"not for you")
    peer.connection.keep_alive()
    peer.connection.close(CloseReason.SHUTDOWN)
    for end in (one, other):
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(100)
    one.close()
    other.close()
    peer.theirs.close()
    assert peer.ends == [CloseReason.CLIENT_GONE]


def test_a_live_stream_ends_in_good_order() -> None:
    peer = Peer(CHUNKED)
    peer.connection.send(CHUNKED.keep_alive)
    peer.connection.close(CloseReason.SHUTDOWN)
    peer.connection.send(b"late")
    peer.connection.keep_alive()
    peer.turn()
    assert peer.read() == CHUNKED.keep_alive + b"0\r\n\r\n"
    assert peer.theirs.recv(1) == b""
    assert peer.ends == [CloseReason.SHUTDOWN]
    peer.theirs.close()


def test_a_stream_that_is_behind_gets_no_keep_alive(peer: Peer) -> None:
    peer.connection.send(b"x" * 300_000)
    peer.connection.keep_alive()
    assert b":" not in peer.read_all()
    peer.connection.keep_alive()
    assert peer.read() == PLAIN.keep_alive


def test_what_a_client_sends_is_dropped(peer: Peer) -> None:
    peer.connection.dataReceived(b"junk" * 1000)
    peer.connection.send(b"frame")
    assert peer.read() == b"frame"


class TestWrittenStraight:
    """To its descriptor, past its object."""

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["send", "all", "each", "read", "turn"]), st.integers(1, 60_000)
            ),
            max_size=30,
        )
    )
    @settings(deadline=None, max_examples=60)
    def test_whatever_way_frames_take_they_come_whole_and_in_order(
        self, steps: list[tuple[str, int]]
    ) -> None:
        peer = Peer()
        streams = {peer.transport.fileno(): peer.connection}
        sent = received = b""
        for number, (step, size) in enumerate(steps):
            frame = bytes([number]) * size
            if step == "send":
                peer.connection.send(frame)
                sent += frame
            elif step == "all":
                write_all(frame, streams)
                sent += frame
            elif step == "each":
                write_each({peer.transport.fileno(): [frame, b"end"]}, [{}, streams])
                sent += frame + b"end"
            elif step == "read":
                received += peer.read(size)
            else:
                peer.turn()
        received += peer.read_all()
        assert received == sent
        assert peer.transport.fileno() not in held
        peer.end()

    def test_one_that_is_full_or_gone_is_no_hindrance_for_others(self) -> None:
        full, gone, fine = Peer(), Peer(), Peer()
        full.connection.send(b"x" * 300_000)
        gone.theirs.close()
        peers = (full, gone, fine)
        streams = {each.transport.fileno(): each.connection for each in peers}
        write_all(b"frame", streams)
        write_each({each: [b"fra", b"me"] for each in streams}, [streams])
        assert fine.read() == b"frameframe"
        gone.turn()
        assert gone.ends == [CloseReason.CLIENT_GONE]
        assert full.read_all() == b"x" * 300_000 + b"frameframe"
        full.end()
        fine.end()

    def test_one_that_ends_gets_nothing_after_its_end(self) -> None:
        peer = Peer(CHUNKED)
        streams = {peer.transport.fileno(): peer.connection}
        peer.connection.close(CloseReason.SHUTDOWN)
        write_all(b"late", streams)
        peer.turn()
        write_all(b"later", streams)
        assert peer.read() == b"0\r\n\r\n"
        assert peer.ends == [CloseReason.SHUTDOWN]
        peer.theirs.close()

    def test_the_next_one_with_the_descriptor_is_not_held(self) -> None:
        peer = Peer()
        number = peer.transport.fileno()
        peer.connection.send(b"x" * 300_000)
        assert number in held
        peer.transport.connectionLost(Failure(ConnectionDone()))
        assert number not in held
        peer.theirs.close()


class TestWebSocket:
    """What its client says."""

    QUESTION = b"\x81\x80abcd"
    PONG = b"\x8a\x80abcd"

    @pytest.fixture
    def socket(self) -> Iterator[Peer]:
        peer = Peer(WebSocket(), over_tcp=True)
        yield peer
        peer.end()

    @staticmethod
    def say(peer: Peer, data: bytes) -> None:
        peer.connection.dataReceived(data)
        for _ in range(len(data) // PART_SIZE):
            peer.turn()

    def test_is_handled_no_faster_than_it_may_come(self, socket: Peer) -> None:
        self.say(socket, self.QUESTION * 3 * FRAMES_PER_SECOND)
        answered = socket.read_all().count(ANSWER)
        assert FRAMES_PER_SECOND <= answered <= FRAMES_PER_SECOND + PART_SIZE / MIN_FRAME_SIZE
        assert socket.transport not in socket.reactor.getReaders()
        socket.reactor.pump([0.01] * 250)
        assert answered + socket.read_all().count(ANSWER) == 3 * FRAMES_PER_SECOND
        assert socket.transport in socket.reactor.getReaders()

    def test_goes_on_where_it_was_when_all_of_it_is_handled(self, socket: Peer) -> None:
        self.say(socket, self.QUESTION[:3])
        self.say(socket, self.QUESTION[3:])
        assert ANSWER in socket.read_all()

    def test_is_dropped_with_the_connection(self, socket: Peer) -> None:
        self.say(socket, self.QUESTION * 3 * FRAMES_PER_SECOND)
        socket.end()
        assert socket.ends == [CloseReason.CLIENT_GONE]
        assert socket.reactor.getDelayedCalls() == []

    def test_is_dropped_when_the_stream_has_ended(self, socket: Peer) -> None:
        self.say(socket, self.QUESTION * 3 * FRAMES_PER_SECOND)
        socket.read_all()
        socket.connection.close(CloseReason.REVOKED)
        socket.reactor.pump([0.01] * 100)
        assert ANSWER not in socket.read_all()
        assert socket.ends == [CloseReason.REVOKED]

    def test_costs_nothing_while_it_is_an_answer_to_a_ping(self, socket: Peer) -> None:
        socket.connection.keep_alive()
        self.say(socket, self.PONG)
        assert socket.connection._intake is None
        socket.connection.keep_alive()
        assert socket.ends == []

    def test_a_pong_that_nobody_asked_for_counts_as_well(self, socket: Peer) -> None:
        self.say(socket, self.PONG)
        self.say(socket, self.PONG * 3 * FRAMES_PER_SECOND)
        assert socket.transport not in socket.reactor.getReaders()


class TakingOver(Resource):
    """Takes the transport of its requests over, one turn later."""

    isLeaf = True  # noqa: N815

    def __init__(self, owner: Peer) -> None:
        super().__init__()
        self.owner = owner
        self.requests: list[weakref.ref[Request]] = []
        self.channels: list[weakref.ref[object]] = []
        self.connection: Connection | None = None

    def render(self, request: Request) -> int:
        self.requests.append(weakref.ref(request))
        self.channels.append(weakref.ref(request.channel))
        # As a look-up does: it answers when the request has been handled.
        self.owner.reactor.callLater(1, self.take, request)
        return NOT_DONE_YET

    def take(self, request: Request) -> None:
        self.connection = take_over(request, self.owner, PLAIN, b"token")


def test_the_request_and_its_channel_die_when_the_stream_opens() -> None:
    peer = Peer(over_tcp=True)
    resource = TakingOver(peer)
    channel = Site(resource, peer.reactor).buildProtocol(None)
    peer.transport.protocol = channel
    channel.makeConnection(peer.transport)
    peer.theirs.sendall(b"GET /?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n" + b"junk" * 10_000)
    gc.disable()  # Freed by reference counts alone: nothing is left for the collector.
    try:
        peer.transport.doRead()
        del channel
        assert resource.requests[0]() is not None
        peer.reactor.advance(1)
        assert resource.requests[0]() is None
        assert resource.channels[0]() is None
    finally:
        gc.enable()
    assert resource.connection is not None
    peer.connection = resource.connection  # type: ignore[assignment]
    assert peer.transport in peer.reactor.getReaders()
    peer.connection.send(b"frame")
    peer.theirs.setblocking(True)
    assert peer.theirs.recv(100) == b"frame"
    peer.reactor.advance(1000)  # No timer of the request is left.
    assert peer.ends == []
    peer.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.end()
    assert peer.ends == [CloseReason.CLIENT_GONE]
