"""What a client may send over a WebSocket, and what follows: RFC 6455, in the order of its cases.

The groups are those of the Autobahn test suite, as far as they concern a server: 1 framing, 2 pings
and pongs, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 limits, 12 and 13
compression. Messages mean nothing to Sinapse, so an echo stands in for their meaning.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from sinapse.errors import CloseReason
from sinapse.framing.websocket import frame
from sinapse.streams.websocketpeer import Received, WebSocketPeer

TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
CLOSE, PING, PONG = Opcode.CLOSE, Opcode.PING, Opcode.PONG

LIMIT = 1 << 20


class Echo(WebSocketPeer):
    """Says every message back, as one frame."""

    __slots__ = ("parts",)

    max_size = LIMIT

    def __init__(self, *, compresses: bool = False) -> None:
        super().__init__(compresses=compresses)
        self.parts: list[bytes] = []

    def handle(self, event: object) -> None:
        assert isinstance(event, Frame)
        if event.opcode in (TEXT, BINARY, CONT):
            self.parts.append(bytes(event.data))
            assert self._protocol is not None
            # What came with something wrong behind it need not be answered.
            if event.fin and self._protocol.state is State.OPEN:
                self._protocol.send_binary(b"".join(self.parts))
                self.parts.clear()


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Return a frame as a client sends it: masked."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | 126)) + struct.pack("!H", size)
    else:
        head = bytes((first, 0x80 | 127)) + struct.pack("!Q", size)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + masked


def close_code(reply: bytes) -> int:
    """Return the code of a reply that is a close frame and nothing else."""
    assert reply[0] == 0x80 | CLOSE
    assert reply[1] == len(reply) - 2
    return int.from_bytes(reply[2:4], "big")


def fed(*frames: bytes, by: int | None = None, peer: WebSocketPeer | None = None) -> Received:
    """Return what follows from `frames`, that come in pieces of `by` bytes or all at once."""
    peer = peer or Echo()
    data = b"".join(frames)
    reply = b""
    for start in range(0, len(data), by or len(data) or 1):
        received = peer.receive(data[start : start + (by or len(data))])
        reply += received.reply
        if received.reason is not None:
            return Received(reply, received.reason)
    return Received(reply)


def echoed(payload: bytes) -> Received:
    return Received(frame(BINARY, payload))


PIECES = pytest.mark.parametrize("by", [None, 1, 997], ids=["whole", "bytes", "pieces"])
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536)


@PIECES
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
def test_1_a_message_of_any_size_is_taken(opcode: int, size: int, by: int | None) -> None:
    payload = b"*" * size
    assert fed(sent(opcode, payload), by=by) == echoed(payload)


@PIECES
@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125)), b"\xfe" * 125])
def test_2_a_ping_is_answered_with_what_it_has(payload: bytes, by: int | None) -> None:
    assert fed(sent(PING, payload), by=by) == Received(frame(PONG, payload))


def test_2_a_ping_may_have_125_bytes_only() -> None:
    reply, reason = fed(sent(PING, b"x" * 126))
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


@pytest.mark.parametrize("payload", [b"", b"nobody asked"])
def test_2_a_pong_nobody_asked_for_is_nothing(payload: bytes) -> None:
    pings = b"".join(frame(PONG, b"%d" % number) for number in range(10))
    frames = [sent(PONG, payload), *(sent(PING, b"%d" % number) for number in range(10))]
    assert fed(*frames) == Received(pings)


@PIECES
@pytest.mark.parametrize("reserved", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_3_reserved_bits_are_an_error(opcode: int, reserved: int, by: int | None) -> None:
    reply, reason = fed(sent(TEXT, b"first"), sent(opcode, b"", reserved=reserved), by=by)
    assert close_code(reply.removeprefix(frame(BINARY, b"first"))) == 1002
    assert reason is CloseReason.PROTOCOL_ERROR


@PIECES
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_4_reserved_opcodes_are_an_error(opcode: int, by: int | None) -> None:
    reply, reason = fed(sent(opcode, b"x"), sent(PING), by=by)
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


@PIECES
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_5_a_message_in_fragments_is_one_with_pings_between(opcode: int, by: int | None) -> None:
    frames = [
        sent(opcode, b"one ", fin=False),
        sent(PING, b"between"),
        sent(CONT, b"two ", fin=False),
        sent(CONT, b"", fin=False),
        sent(PONG),
        sent(CONT, b"three"),
    ]
    answer = frame(PONG, b"between") + frame(BINARY, b"one two three")
    assert fed(*frames, by=by) == Received(answer)


@PIECES
@pytest.mark.parametrize(
    "frames",
    [
        [sent(PING, b"x", fin=False), sent(CONT, b"y")],
        [sent(PONG, b"x", fin=False), sent(CONT, b"y")],
        [sent(CLOSE, b"", fin=False)],
        [sent(CONT, b"nothing to continue")],
        [sent(CONT, b"nothing to continue", fin=False)],
        [sent(TEXT, b"one", fin=False), sent(TEXT, b"another")],
        [sent(TEXT, b"one", fin=False), sent(BINARY, b"another", fin=False)],
    ],
)
def test_5_fragments_that_make_no_sense_are_an_error(frames: list[bytes], by: int | None) -> None:
    reply, reason = fed(*frames, by=by)
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


VALID = ["κόσμε", "\0", "\ud7ff\ue000", "\U00010000\U0010ffff", "\ufffd\ufffe\uffff", "a😀b" * 40]
INVALID = [
    *(b"\x80", b"\xbf", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xfe", b"\xff"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"),
    *(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xc3(", b"cut \xe2\x82"),
]


@PIECES
@pytest.mark.parametrize("text", VALID)
def test_6_text_is_utf_8(text: str, by: int | None) -> None:
    assert fed(sent(TEXT, text.encode()), by=by) == echoed(text.encode())
    parts = [bytes([byte]) for byte in text.encode()]
    frames = [sent(TEXT, fin=False), *(sent(CONT, part, fin=False) for part in parts), sent(CONT)]
    assert fed(*frames, by=by) == echoed(text.encode())


@PIECES
@pytest.mark.parametrize("data", INVALID)
def test_6_text_that_is_not_is_an_error(data: bytes, by: int | None) -> None:
    for frames in (
        [sent(TEXT, data)],
        [sent(TEXT, data, fin=False), sent(CONT)],
        [
            sent(TEXT, fin=False),
            *(sent(CONT, data[at : at + 1], fin=False) for at in range(len(data))),
            sent(CONT),
        ],
    ):
        reply, reason = fed(*frames, by=by)
        assert (close_code(reply), reason) == (1007, CloseReason.INVALID_DATA)


def test_6_what_is_wrong_is_told_before_the_message_ends() -> None:
    reply, reason = fed(sent(TEXT, b"\xed\xa0\x80", fin=False))
    assert (close_code(reply), reason) == (1007, CloseReason.INVALID_DATA)


def test_6_binary_messages_may_be_anything() -> None:
    for data in INVALID:
        assert fed(sent(BINARY, data)) == echoed(data)


CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
NO_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535]


@PIECES
@pytest.mark.parametrize("payload", [b"", *(code.to_bytes(2, "big") for code in CODES)])
@pytest.mark.parametrize("text", ["", "bye", "é" * 61])
def test_7_a_close_is_agreed_to(payload: bytes, text: str, by: int | None) -> None:
    payload = payload and payload + text.encode()
    frames = [sent(CLOSE, payload), sent(PING), sent(TEXT, b"too late")]
    assert fed(*frames, by=by) == Received(frame(CLOSE, payload), CloseReason.CLIENT_GONE)


@PIECES
@pytest.mark.parametrize(
    "payload", [b"\x03", b"\x03\xe8" + b"x" * 124, *(code.to_bytes(2, "big") for code in NO_CODES)]
)
def test_7_a_close_that_is_none_is_an_error(payload: bytes, by: int | None) -> None:
    reply, reason = fed(sent(CLOSE, payload), by=by)
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


@PIECES
def test_7_a_close_within_a_message_ends_it_as_well(by: int | None) -> None:
    """To ``websockets`` it is an error, though RFC 6455 §5.4 allows it; it is over either way."""
    reply, reason = fed(sent(TEXT, b"half", fin=False), sent(CLOSE, b"\x03\xe8"), by=by)
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


def test_7_a_reason_that_is_no_utf_8_is_an_error() -> None:
    reply, reason = fed(sent(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80"))
    assert (close_code(reply), reason) == (1007, CloseReason.PROTOCOL_ERROR)


@pytest.mark.parametrize("data", [b"\x81\x05Hello", b"\x89\x00", b"\x88\x00"])
def test_a_client_that_does_not_mask_is_an_error(data: bytes) -> None:
    reply, reason = fed(data)
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


@PIECES
def test_9_a_message_may_have_a_kilobyte(by: int | None) -> None:
    half = b"x" * (WebSocketPeer.max_size // 2)
    whole = [sent(TEXT, half, fin=False), sent(CONT, half)]
    assert fed(sent(TEXT, half + half), *whole, by=by, peer=WebSocketPeer()) == Received()
    for frames in (
        [sent(TEXT, half + half + b"x")],
        [sent(TEXT, half, fin=False), sent(CONT, half, fin=False), sent(CONT, b"x")],
        [b"\x81\xff" + struct.pack("!Q", 1 << 62)],
    ):
        reply, reason = fed(*frames, by=by, peer=WebSocketPeer())
        assert (close_code(reply), reason) == (1009, CloseReason.PROTOCOL_ERROR)


def test_a_ping_is_to_be_answered_before_the_next() -> None:
    peer = WebSocketPeer()
    for answer in (b"\x8a\x80abcd", sent(PONG), sent(PONG, b"x"), sent(TEXT, b"alive")):
        assert peer.ping()
        assert peer.receive(answer) == Received()
    assert peer.ping()
    assert not peer.ping()


def test_a_pong_costs_no_parser() -> None:
    peer = WebSocketPeer()
    assert not peer.is_pong(sent(PONG))  # Nobody has asked.
    assert peer.ping()
    for other in (b"\x8a", sent(PONG) + sent(PING), sent(PONG, b"x"), sent(PING)):
        assert not peer.is_pong(other)
    assert peer.is_pong(sent(PONG))
    assert peer.ping()
    assert peer._protocol is None


def test_an_empty_text_is_answered_and_nothing_else_is() -> None:
    peer = WebSocketPeer()
    assert peer.receive(sent(TEXT)) == Received(frame(TEXT, b"{}"))
    assert peer.receive(sent(TEXT, b"x") + sent(BINARY)) == Received()
    assert peer.receive(sent(TEXT, fin=False) + sent(CONT)) == Received()
    twice = peer.receive(sent(TEXT) + sent(TEXT))
    assert twice == Received(2 * frame(TEXT, b"{}"))
    last = peer.receive(sent(TEXT) + sent(CLOSE))
    assert last.reason is CloseReason.CLIENT_GONE


@given(st.lists(st.binary(max_size=60), max_size=20))
@example([b"\x8a\x80abcd", b"\x88"])
def test_whatever_comes_is_no_surprise(pieces: list[bytes]) -> None:
    peer = WebSocketPeer()
    for piece in pieces:
        reply, reason = peer.receive(piece)
        if reason is not None:
            assert reply[0] in {0x80 | CLOSE, 0x80 | PONG, 0x80 | TEXT}
            break


@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=125)), max_size=8
    ),
    st.integers(1, 50),
)
def test_how_it_is_cut_on_the_way_makes_no_difference(
    frames: list[tuple[Opcode, bytes]], by: int
) -> None:
    data = [sent(opcode, payload) for opcode, payload in frames]
    whole, cut = fed(*data), fed(*data, by=by)
    assert whole.reason == cut.reason
    # Pongs overtake echoes; and what has something wrong behind it need not be answered.
    assert sorted(whole.reply) == sorted(cut.reply) or whole.reason is not None


# Compression (RFC 7692): RSV1 says that a message is.

RSV1 = 4


def compressed(payload: bytes, *, window: int = 15) -> bytes:
    """Return the payload of a compressed message."""
    compressor = zlib.compressobj(wbits=-window)
    made = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return made.removesuffix(b"\0\0\xff\xff")


@PIECES
@pytest.mark.parametrize("window", [9, 15])
@pytest.mark.parametrize("size", SIZES)
def test_12_a_compressed_message_of_any_size_is_taken(
    size: int, window: int, by: int | None
) -> None:
    payload = b"*" * size
    peer = Echo(compresses=True)
    packed = compressed(payload, window=window)
    for _ in range(2):  # Nothing of the first is needed for the second.
        whole = fed(sent(TEXT, packed, reserved=RSV1), by=by, peer=peer)
        assert whole == echoed(payload)
    first, rest = packed[: len(packed) // 2], packed[len(packed) // 2 :]
    parts = [
        sent(BINARY, first, fin=False, reserved=RSV1),
        sent(PING),
        sent(CONT, b"", fin=False),
        sent(CONT, rest),
    ]
    assert fed(*parts, by=by, peer=peer).reply.endswith(echoed(payload).reply)
    assert fed(sent(TEXT, b"plain"), by=by, peer=peer) == echoed(b"plain")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        # What has not the right form, or refers to the message before.
        ([sent(TEXT, b"\xff" * 9, reserved=RSV1)], 1002),
        (
            [
                sent(TEXT, compressed(b"once"), reserved=RSV1),
                sent(TEXT, b"\x02\x13\0", reserved=RSV1),
            ],
            1002,
        ),
        # A control frame, a part that is not the first, a bit without a meaning.
        ([sent(PING, compressed(b""), reserved=RSV1)], 1002),
        ([sent(TEXT, b"a", fin=False), sent(CONT, b"b", reserved=RSV1)], 1002),
        ([sent(TEXT, compressed(b""), reserved=RSV1 | 2)], 1002),
        # Text that is none, when it is inflated.
        ([sent(TEXT, compressed(b"\xff"), reserved=RSV1)], 1007),
    ],
)
def test_12_what_is_wrong_ends_it(frames: list[bytes], code: int) -> None:
    peer = Echo(compresses=True)
    *before, last = frames
    assert fed(*before, peer=peer).reason is None
    reply, reason = fed(last, peer=peer)
    assert reason is not None
    assert close_code(reply) == code


def test_13_without_an_agreement_nothing_may_be_compressed() -> None:
    reply, reason = fed(sent(TEXT, compressed(b"hello"), reserved=RSV1))
    assert (close_code(reply), reason) == (1002, CloseReason.PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 1 << 26])
def test_13_a_message_may_not_become_larger_than_others(size: int) -> None:
    bomb = compressed(bytes(size))
    peer = Echo(compresses=True)
    tracemalloc.start()
    try:
        reply, reason = fed(sent(BINARY, bomb, reserved=RSV1), peer=peer)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if size == LIMIT:
        assert (reply, reason) == echoed(bytes(size))
    else:
        assert close_code(reply) == 1009
        assert most < 10 * LIMIT


@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY, CONT, PING]), st.binary(max_size=60)), max_size=5
    )
)
def test_13_whatever_is_sent_as_compressed_is_survived(frames: list[tuple[int, bytes]]) -> None:
    peer = WebSocketPeer(compresses=True)
    for opcode, payload in frames:
        if peer.receive(sent(opcode, payload, reserved=RSV1)).reason is not None:
            return
