"""The bytes of an event stream: exactly these, and what clients make of them."""

from __future__ import annotations

import http.client
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import httpx
import httpx_sse
import pytest
import sseclient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sinapse.errors import CloseReason
from sinapse.framing.eventstream import (
    HEADERS,
    KEEP_ALIVE,
    OWN,
    EventStream,
    JSONEventStream,
    encode,
    reconnection_time,
)
from sinapse.listening.parser import Parser
from sinapse.protocol.ids import EventID
from sinapse.protocol.message import Message
from tests.support.eventsource import Event, EventSourceParser, parse

IDENTITY = EventStream(chunked=False)
CHUNKED = EventStream(chunked=True)
OPENING = IDENTITY.opening(5)

# The framing of one message


@pytest.mark.parametrize(
    ("data", "block"),
    [
        ("hello", b"data: hello\n\n"),
        ("", b"data: \n\n"),
        # Lines
        ("a\nb", b"data: a\ndata: b\n\n"),
        ("a\r\nb", b"data: a\ndata: b\n\n"),
        ("a\rb", b"data: a\ndata: b\n\n"),
        ("a\nb\rc\r\nd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ("a\n\nb", b"data: a\ndata: \ndata: b\n\n"),
        ("a\r\rb", b"data: a\ndata: \ndata: b\n\n"),
        ("a\n\rb", b"data: a\ndata: \ndata: b\n\n"),
        ("a\r\n\nb", b"data: a\ndata: \ndata: b\n\n"),
        ("a\r\r\nb", b"data: a\ndata: \ndata: b\n\n"),
        ("\n", b"data: \ndata: \n\n"),
        ("\r", b"data: \ndata: \n\n"),
        ("\r\n", b"data: \ndata: \n\n"),
        ("a\n", b"data: a\ndata: \n\n"),
        ("\na", b"data: \ndata: a\n\n"),
        # What looks like syntax and is not
        (" a", b"data:  a\n\n"),
        ("  a\n b", b"data:   a\ndata:  b\n\n"),
        (":", b"data: :\n\n"),
        (": comment", b"data: : comment\n\n"),
        ("data: a", b"data: data: a\n\n"),
        ("a\nevent: b", b"data: a\ndata: event: b\n\n"),
        # What str.splitlines takes for the end of a line, and the standard does not
        ("a\u2028b\u2029c", "data: a\u2028b\u2029c\n\n".encode()),
        ("a\x0bb\x0cc\x1cd\x1de\x1ef\x85g", "data: a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\n\n".encode()),
        # Any other character
        ("a\0b", b"data: a\0b\n\n"),
        ("\ufeff", b"data: \xef\xbb\xbf\n\n"),
        ("\N{GRINNING FACE}", b"data: \xf0\x9f\x98\x80\n\n"),
    ],
)
def test_data_is_written_line_by_line(data: str, block: bytes) -> None:
    assert encode(Message(data)) == block


@pytest.mark.parametrize(
    ("message", "default_event", "block"),
    [
        (Message("x", "typing"), None, b"event: typing\ndata: x\n\n"),
        (Message("x", "typing"), "room:1", b"event: typing\ndata: x\n\n"),
        (Message("x", "message"), "room:1", b"event: message\ndata: x\n\n"),
        (Message("x"), "room:1", b"event: room:1\ndata: x\n\n"),
        (Message("x"), None, b"data: x\n\n"),
        (Message("x", ""), None, b"data: x\n\n"),
        (Message("x", " a: b"), None, b"event:  a: b\ndata: x\n\n"),
        (Message("x\ny", "\N{SNOWMAN}"), None, b"event: \xe2\x98\x83\ndata: x\ndata: y\n\n"),
    ],
)
def test_the_event_type_stands_before_the_data(
    message: Message, default_event: str | None, block: bytes
) -> None:
    assert encode(message, default_event) == block


@pytest.mark.parametrize(
    ("message", "block"),
    [
        (Message("x", None, "1f-7"), b"data: x\nid: 1f-7\n\n"),
        (Message("x", "typing", "1f-7"), b"event: typing\ndata: x\nid: 1f-7\n\n"),
    ],
)
def test_the_id_stands_before_everything_else(message: Message, block: bytes) -> None:
    assert encode(message) == block


# The two framings


def test_identity_frames_are_the_blocks_one_after_another() -> None:
    frame = IDENTITY.encode(b"room:1", [Message("a"), Message("b", "typing")])
    assert frame == b"data: a\n\nevent: typing\ndata: b\n\n"


def test_all_messages_of_a_run_share_one_chunk() -> None:
    frame = CHUNKED.encode(b"room:1", [Message("a"), Message("b", "typing")])
    assert frame == b"20\r\ndata: a\n\nevent: typing\ndata: b\n\n\r\n"


def test_one_message_is_one_chunk_whose_size_is_in_bytes() -> None:
    assert CHUNKED.encode(b"room:1", [Message("\N{SNOWMAN}")]) == (
        b"b\r\ndata: \xe2\x98\x83\n\n\r\n"
    )


def test_channel_names_are_event_types_only_where_that_was_asked_for() -> None:
    messages = [Message("a"), Message("b", "typing")]
    assert EventStream(chunked=False, channel_event=True).encode(b"room:1", messages) == (
        b"event: room:1\ndata: a\n\nevent: typing\ndata: b\n\n"
    )
    assert IDENTITY.encode(b"room:1", messages) == b"data: a\n\nevent: typing\ndata: b\n\n"


def test_a_channel_name_that_is_not_utf8_is_an_event_type_all_the_same() -> None:
    framing = EventStream(chunked=False, channel_event=True)
    assert framing.encode(b"a\xff", [Message("x")]) == b"event: a\xef\xbf\xbd\ndata: x\n\n"


def test_the_keep_alive_is_a_whole_block_and_no_event() -> None:
    assert KEEP_ALIVE == b":\n\n"
    assert IDENTITY.keep_alive == b":\n\n"
    assert CHUNKED.keep_alive == b"3\r\n:\n\n\r\n"
    assert parse(KEEP_ALIVE) == []
    assert parse(b"data: a\n" + KEEP_ALIVE) == [Event("message", "a")]


def test_a_reset_is_an_event_that_says_why_and_where() -> None:
    assert IDENTITY.reset("not-retained", {b"room:2", b"room:1"}, None) == (
        b"by: server\nevent: reset\n"
        b'data: {"reason": "not-retained", "channels": ["room:1", "room:2"]}\n\n'
    )
    assert IDENTITY.reset("data-lost", [], "1f-7") == (
        b'by: server\nevent: reset\ndata: {"reason": "data-lost", "channels": []}\nid: 1f-7\n\n'
    )
    assert b"\xe2\x98\x83" in IDENTITY.reset("not-retained", ["\N{SNOWMAN}".encode()], None)


def test_a_reset_of_any_channel_is_one_line_of_json() -> None:
    (event,) = parse(IDENTITY.reset("not-retained", [b'a"\n\r\xff', "\N{SNOWMAN}".encode()], None))
    assert json.loads(event.data)["channels"] == ['a"\n\r\ufffd', "\N{SNOWMAN}"]


@pytest.mark.parametrize("framing", [CHUNKED, IDENTITY])
def test_a_reset_and_a_position_are_framed_like_messages(framing: EventStream) -> None:
    for frame, body in (
        (framing.reset("unknown-id", [b"a"], None), IDENTITY.reset("unknown-id", [b"a"], None)),
        (framing.position("1f-7"), b"by: server\nevent: position\ndata: ok\nid: 1f-7\n\n"),
    ):
        assert frame == framing.frame(body)


def test_a_position_is_kept_by_the_browser_and_is_no_message() -> None:
    parser = EventSourceParser()
    assert parser.feed(b"data: a\n\n") == [Event("message", "a")]
    assert [event.type for event in parser.feed(IDENTITY.position("1f-7"))] == ["position"]
    assert parser.last_event_id == "1f-7"


def test_the_end_of_a_body_is_the_last_chunk_or_nothing() -> None:
    assert CHUNKED.ending(CloseReason.SHUTDOWN) == b"0\r\n\r\n"
    assert IDENTITY.ending(CloseReason.SHUTDOWN) == b""


@pytest.mark.parametrize("name", [b"a\nb", b"a\rb", b"a\r\nb"])
def test_a_line_break_in_a_channel_name_adds_no_field(name: bytes) -> None:
    framing = EventStream(chunked=False, channel_event=True)
    assert parse(framing.encode(name, [Message("x")])) == [Event("ab", "x")]


# Events as JSON objects

JSON = JSONEventStream(chunked=False)


def test_an_event_that_is_json_says_all_but_the_id_and_has_no_type() -> None:
    messages = [Message("a\n\u2028b", "typing", "1f-7"), Message('"c"')]
    assert (
        JSON.encode("ca\u00f1a".encode(), messages)
        == (
            'data: {"event":"typing","data":"a\\n\u2028b","channel":"ca\u00f1a"}\nid: 1f-7\n\n'
            'data: {"data":"\\"c\\"","channel":"ca\u00f1a"}\n\n'
        ).encode()
    )


def test_what_is_the_servers_own_has_no_channel() -> None:
    assert JSON.opening(5, "1f-7") == (
        b'retry: 5000\nid: 1f-7\ndata: {"event":"authentication","data":"ok"}\n\n'
    )
    assert JSON.position("1f-7") == b"data: {}\nid: 1f-7\n\n"
    assert JSON.come_back(2) == b"retry: 2000\ndata: {}\n\n"
    assert JSON.notice("replaced", "x") == b'data: {"event":"replaced","data":"x"}\n\n'
    (event,) = parse(JSON.reset("data-lost", [b"room:1"], "1f-7"))
    told = json.loads(event.data)
    assert (event.type, event.last_event_id, told["event"]) == ("message", "1f-7", "reset")
    assert json.loads(told["data"]) == {"reason": "data-lost", "channels": ["room:1"]}


def test_json_is_chunked_compressed_and_typed_by_channel_as_any_stream_is() -> None:
    message = Message("x" * 100, None, "1f-7")
    assert JSONEventStream(chunked=True).encode(b"a", [message]) == CHUNKED.frame(
        JSON.encode(b"a", [message])
    )
    packed = JSONEventStream(chunked=False, compress=10)
    body = packed.opening(5) + packed.encode(b"a", [message]) + packed.ending(CloseReason.SHUTDOWN)
    assert zlib.decompressobj(31).decompress(body) == JSON.opening(5) + JSON.encode(b"a", [message])
    (event,) = parse(JSONEventStream(chunked=False, channel_event=True).encode(b"a", [message]))
    assert json.loads(event.data)["event"] == "a"


# The beginning


def test_the_first_bytes_are_those_of_the_origin() -> None:
    assert IDENTITY.opening(5) == b"retry: 5000\nevent: authentication\ndata: ok\n\n"


def test_the_first_event_has_the_id_to_resume_from() -> None:
    assert IDENTITY.opening(5, "1f-7") == (
        b"retry: 5000\nid: 1f-7\nevent: authentication\ndata: ok\n\n"
    )


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (5, b"retry: 5000\n"),
        (0, b"retry: 0\n"),
        (0.1, b"retry: 100\n"),
        (1.001, b"retry: 1001\n"),  # 1.001 * 1000 is less than 1001.
        (3600.0, b"retry: 3600000\n"),
    ],
)
def test_the_reconnection_time_is_in_whole_milliseconds(seconds: float, line: bytes) -> None:
    assert reconnection_time(seconds) == line


def test_the_head_of_a_chunked_stream() -> None:
    assert CHUNKED.head([(b"Server", b"Sinapse"), (b"Vary", b"Origin")]) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"Content-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-store, no-transform\r\n"
        b"X-Accel-Buffering: no\r\n"
        b"Server: Sinapse\r\n"
        b"Vary: Origin\r\n"
        b"\r\n"
    )


def test_the_head_of_an_identity_stream() -> None:
    assert IDENTITY.head([]) == (
        b"HTTP/1.0 200 OK\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-store, no-transform\r\n"
        b"X-Accel-Buffering: no\r\n"
        b"\r\n"
    )


# What clients make of it

#: Any character, and more often those that mean something somewhere.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("\r\n\0 :\t\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\x1f\ufeff\ufffd"),
)
DATA = st.text(CHARACTERS, max_size=20)
EVENT = st.text(CHARACTERS.filter(lambda each: each not in "\r\n\0"), min_size=1, max_size=10)
ID = st.builds(EventID, st.text("0123456789abcdef", min_size=1), st.integers(0, 10**9)).map(str)
PLAIN = st.builds(Message, DATA, st.none() | EVENT, st.none())
MESSAGE = st.builds(Message, DATA, st.none() | EVENT, st.none() | ID)
MESSAGES = st.lists(MESSAGE, max_size=6)


@given(message=MESSAGE, channel=st.text())
@example(message=Message("by: server\nx\rby: server", "reset"), channel="by: server\nreset")
@example(message=Message("x", None, "1f-7"), channel="reset")
def test_no_message_says_that_it_is_the_servers_own(message: Message, channel: str) -> None:
    framing = EventStream(chunked=False, channel_event=True)
    ours = (
        framing.reset("data-lost", (), None),
        framing.position("1f-7"),
        framing.notice("replaced", "x"),
    )
    assert all(OWN.encode() in frame.splitlines(keepends=True) for frame in ours)
    text = framing.encode(channel.encode(errors="replace"), [message]).decode()
    fields = {line.partition(":")[0] for line in re.split("\r\n|\r|\n", text)}
    assert fields <= {"event", "data", "id", ""}


#: Every kind of line end, twice and next to each other, and what an old splitlines breaks at.
EVERYTHING = [
    Message("a\r\n\r\nb\n\rc\n\n\r\r", " : "),
    Message(""),
    Message("\u2028\x85\x0b\x0c\x1c \0:\ufeff", "\x85\u2028", "0-0"),
    Message(" "),
]

Client = Callable[[Sequence[bytes]], list[Event]]


def strict(chunks: Sequence[bytes]) -> list[Event]:
    """Parse with the reference."""
    parser = EventSourceParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def by_listening(chunks: Sequence[bytes]) -> list[Event]:
    """Parse as our own library does."""
    parser = Parser("", 1_000_000)
    return [
        Event(message.event or "message", message.data, parser.last_event_id)
        for chunk in chunks
        for message in parser.feed(chunk)
    ]


def by_httpx_sse(chunks: Sequence[bytes]) -> list[Event]:
    """Parse with httpx-sse, as a response whose body arrives in `chunks`."""
    headers = {"content-type": "text/event-stream"}
    response = httpx.Response(200, headers=headers, content=iter(chunks))
    source = httpx_sse.EventSource(response)
    return [Event(event.event, event.data, event.id) for event in source.iter_sse()]


def by_sseclient(chunks: Sequence[bytes]) -> list[Event]:
    """Parse with sseclient-py, which gives an event no id but its own."""
    events = []
    last_event_id = ""
    for event in sseclient.SSEClient(iter(chunks)).events():
        last_event_id = event.id or last_event_id
        events.append(Event(event.event, event.data, last_event_id))
    return events


CLIENTS = pytest.mark.parametrize("client", [strict, by_listening, by_httpx_sse, by_sseclient])


def expected(messages: Iterable[Message]) -> list[Event]:
    """Return what has to arrive: the lines of the data, joined with LF, and the id since then."""
    events = []
    last_event_id = ""
    for data, event, identifier, *_ in messages:
        last_event_id = identifier or last_event_id
        lines = re.sub("\r\n|\r", "\n", data)
        events.append(Event(event or "message", lines, last_event_id))
    return events


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[index : index + 1] for index in range(len(stream))]


@CLIENTS
@given(messages=MESSAGES)
@example(messages=EVERYTHING)
@settings(deadline=None)
def test_what_was_published_arrives_whole(client: Client, messages: list[Message]) -> None:
    stream = OPENING + b"".join(map(encode, messages))
    assert client([stream]) == [Event("authentication", "ok"), *expected(messages)]


@CLIENTS
@given(messages=MESSAGES)
@example(messages=EVERYTHING)
@settings(deadline=None, max_examples=50)
def test_what_was_published_arrives_byte_by_byte(client: Client, messages: list[Message]) -> None:
    assert client(one_by_one(b"".join(map(encode, messages)))) == expected(messages)


# Without ids: after one, httpx-sse makes an event of every block, where the standard says that one
# without data is none.
@CLIENTS
@given(messages=st.lists(PLAIN, max_size=6), more=st.lists(st.integers(0, 5), max_size=10))
@settings(deadline=None, max_examples=50)
def test_keep_alives_between_messages_change_nothing(
    client: Client, messages: list[Message], more: list[int]
) -> None:
    blocks = [*map(encode, messages)]
    for place in more:
        blocks.insert(place, KEEP_ALIVE)
    assert client(blocks) == expected(messages)


# sseclient-py is not asked: at the end of a stream it dispatches what is incomplete, where the
# standard says to discard it.
@pytest.mark.parametrize("client", [strict, by_listening, by_httpx_sse])
@given(messages=MESSAGES, last=MESSAGE, missing=st.data())
@settings(deadline=None, max_examples=50)
def test_a_message_cut_off_by_the_end_of_the_stream_is_not_seen(
    client: Client, messages: list[Message], last: Message, missing: st.DataObject
) -> None:
    block = encode(last)
    cut = missing.draw(st.integers(0, len(block) - 1))
    chunks = [*map(encode, messages), block[:cut]]
    assert client([chunk for chunk in chunks if chunk]) == expected(messages)


# What HTTP makes of it


def body_of(response: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Read a response with the standard library's client."""

    class Socket:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(response)

    parsed = http.client.HTTPResponse(cast("Any", Socket()))
    parsed.begin()
    return parsed, parsed.read()


@given(runs=st.lists(st.lists(MESSAGE, min_size=1, max_size=3), max_size=4))
@settings(deadline=None, max_examples=50)
def test_both_framings_carry_the_same_body(runs: list[list[Message]]) -> None:
    bodies = []
    for framing in (CHUNKED, IDENTITY):
        frames = [framing.encode(b"room:1", run) for run in runs]
        parts = [framing.head([]), framing.opening(5), framing.keep_alive, *frames]
        response, body = body_of(b"".join([*parts, framing.ending(CloseReason.SHUTDOWN)]))
        assert response.status == 200
        assert all(
            response.headers.get_all(name.decode()) == [value.decode()] for name, value in HEADERS
        )
        bodies.append(body)
    assert bodies[0] == bodies[1]
    assert strict(bodies[:1])[1:] == expected(message for run in runs for message in run)


@given(
    runs=st.lists(st.lists(MESSAGE, min_size=1, max_size=3), max_size=4), least=st.integers(0, 99)
)
@settings(deadline=None, max_examples=50)
def test_so_do_those_that_compress_and_each_event_is_there_at_once(
    runs: list[list[Message]], least: int
) -> None:
    for chunked in (True, False):
        framing = EventStream(chunked=chunked, compress=least)
        head = framing.head([])
        assert b"\r\nContent-Encoding: gzip\r\n" in head
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)

        def read(frame: bytes, head: bytes = head) -> bytes:
            _, body = body_of(head + frame + framing.ending(CloseReason.SHUTDOWN))  # noqa: B023
            return reader.decompress(body)  # noqa: B023

        assert read(framing.opening(5)) == OPENING
        for run in runs:
            assert read(framing.encode(b"room:1", run)) == IDENTITY.encode(b"room:1", run)
            assert read(framing.keep_alive) == KEEP_ALIVE
        page = [IDENTITY.encode(b"room:1", run) for run in runs]
        assert framing.plain.encode(b"room:1", [Message("x")]) == b"data: x\n\n"
        if page:
            assert read(framing.frame(b"".join(page))) == b"".join(page)


# The reference parser itself: the examples of the standard (§9.2.6), and its edges


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third",
            [("message", "first event", "1"), ("message", "second event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
        (b"\xef\xbb\xbfdata: a\r\rdata: b\r\n\r\n", [("message", "a", ""), ("message", "b", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"event: a\n\ndata: b\n\n", [("message", "b", "")]),
        (b"Data: a\n data: b\nfoo: c\n\n", []),
        (
            b"id: 1\n\nid: 2\0\ndata: a\n\ndata: b\n\n",
            [("message", "a", "1"), ("message", "b", "1")],
        ),
        (b"data: \xff\n\n", [("message", "\ufffd", "")]),
    ],
)
def test_the_reference_parser_keeps_to_the_standard(
    stream: bytes, events: list[tuple[str, str, str]]
) -> None:
    assert parse(stream) == events
    assert strict(one_by_one(stream)) == events


@pytest.mark.parametrize(
    ("line", "time"),
    [(b"retry: 10\n", 10), (b"retry: 1s\n", None), (b"retry: -1\n", None), (b"retry:\n", None)],
)
def test_the_reference_parser_takes_digits_only_for_a_reconnection_time(
    line: bytes, time: int | None
) -> None:
    parser = EventSourceParser()
    assert parser.feed(line) == []
    assert parser.reconnection_time == time


@given(messages=st.lists(MESSAGE, max_size=6), channel=st.text(CHARACTERS, min_size=1))
@CLIENTS
def test_json_is_the_message_whatever_is_in_it(
    client: Client, messages: Sequence[Message], channel: str
) -> None:
    frame = JSON.encode(channel.encode(), messages)
    found = [(json.loads(event.data), event.last_event_id) for event in client([frame])]
    last_event_id = ""
    wanted = []
    for data, event, identifier, *_ in messages:
        last_event_id = identifier or last_event_id
        fields = {"data": data, "channel": channel} | ({} if event is None else {"event": event})
        wanted.append((fields, last_event_id))
    assert found == wanted
