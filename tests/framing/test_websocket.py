"""The framing of a WebSocket: what a client makes of the bytes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from sinapse.errors import CloseReason
from sinapse.framing.deflate import TAIL, stored
from sinapse.framing.websocket import WebSocket, frame
from sinapse.protocol.message import Message

PLAIN = WebSocket()
TEXT = st.text(max_size=200)


def parsed(data: bytes, *, compressed: bool = False) -> list[dict[str, Any]]:
    """Return what a client makes of frames: JSON objects."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    if compressed:  # Without context takeover.
        client.extensions = [PerMessageDeflate(True, True, 15, 15)]
    client.receive_data(data)
    assert client.parser_exc is None
    frames = client.events_received()
    assert all(isinstance(each, Frame) and each.fin for each in frames)
    return [json.loads(bytes(each.data)) for each in frames if isinstance(each, Frame)]


@given(
    st.lists(st.builds(Message, TEXT, st.none() | TEXT, st.none() | st.just("1f-7")), max_size=5)
)
def test_messages_come_out_as_they_went_in(messages: list[Message]) -> None:
    assert parsed(PLAIN.encode(b"room:1", messages)) == [
        {
            **({} if message.event is None else {"event": message.event}),
            "data": message.data,
            **({} if message.id is None else {"id": message.id}),
            "channel": "room:1",
        }
        for message in messages
    ]


@given(
    st.lists(st.builds(Message, TEXT, st.none() | TEXT, st.none() | st.just("1f-7")), max_size=5),
    st.integers(0, 300),
)
def test_compressed_ones_do_too(messages: list[Message], least: int) -> None:
    framing = WebSocket(compress=least)
    data = framing.opening("1f-1") + framing.encode(b"room:1", messages)
    plain = PLAIN.opening("1f-1") + PLAIN.encode(b"room:1", messages)
    assert parsed(data, compressed=True) == parsed(plain)
    assert len(data) <= len(plain)


def test_only_what_is_large_and_gets_smaller_is_compressed() -> None:
    framing = WebSocket(compress=100)
    for text in (b"x" * 99, random.Random(1).randbytes(2000)):
        assert framing.text(text) == PLAIN.text(text)
    assert len(framing.text(b"x" * 100)) < 30
    assert framing.keep_alive == PLAIN.keep_alive
    assert framing.ending(CloseReason.DRAIN) == PLAIN.ending(CloseReason.DRAIN)


def test_the_examples_of_rfc_7692_are_understood() -> None:
    """§7.2.3.1 and 7.2.3.3; ours has the same form, whatever blocks there are in it."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.extensions = [PerMessageDeflate(True, True, 15, 15)]
    client.receive_data(bytes.fromhex("c107f248cdc9c90700"))
    client.receive_data(bytes.fromhex("c10b000500faff48656c6c6f00"))
    client.receive_data(WebSocket(compress=0).text(b"Hello" * 9))
    client.receive_data(frame(0x41, stored(b"Hello").removesuffix(TAIL)))
    texts = [bytes(each.data) for each in client.events_received() if isinstance(each, Frame)]
    assert texts == [b"Hello", b"Hello", b"Hello" * 9, b"Hello"]
    assert stored(b"Hello").removesuffix(TAIL) == bytes.fromhex("000500faff48656c6c6f00")


@pytest.mark.parametrize("size", [0, 80, 125, 126, 65_400, 65_600, 1 << 20])
def test_a_message_of_any_size_is_one_frame(size: int) -> None:
    (message,) = parsed(PLAIN.encode(b"room:1", [Message("x" * size)]))
    assert message == {"data": "x" * size, "channel": "room:1"}


def test_text_is_not_escaped_without_need() -> None:
    assert "é☃😀".encode() in PLAIN.encode(b"room:1", [Message("é☃😀")])


def test_the_channel_can_be_the_event() -> None:
    framing = WebSocket(channel_event=True)
    messages = [Message("a"), Message("b", "named")]
    events = [each["event"] for each in parsed(framing.encode(b"room:1", messages))]
    assert events == ["room:1", "named"]


def test_what_the_server_says_itself_has_no_channel() -> None:
    assert parsed(PLAIN.opening("1f-7") + PLAIN.opening()) == [
        {"event": "authentication", "data": "ok", "id": "1f-7"},
        {"event": "authentication", "data": "ok"},
    ]
    (reset,) = parsed(PLAIN.reset("data-lost", [b"room:2", b"room:1"], "1f-7"))
    assert json.loads(reset.pop("data")) == {
        "reason": "data-lost",
        "channels": ["room:1", "room:2"],
    }
    assert reset == {"event": "reset", "id": "1f-7"}
    assert parsed(PLAIN.position("1f-7")) == [{"id": "1f-7"}]


@pytest.mark.parametrize("reason", CloseReason)
def test_it_ends_with_code_and_reason(reason: CloseReason) -> None:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(PLAIN.ending(reason))
    if reason is CloseReason.CLIENT_GONE:
        return  # Nobody is there to be told.
    assert client.parser_exc is None
    assert client.close_rcvd == Close(reason.code, reason.text)
