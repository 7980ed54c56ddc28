"""A request that comes whole is answered as one that comes in pieces, to the last byte."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.web.head import read
from sinapse.web.limits import MAX_FIELDS, MAX_NAME, RequestLimits
from sinapse.web.site import Site
from tests.support import Turns

LIMITS = RequestLimits(url=60, header=1000)
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n"


class Echo(Resource):
    """Answers with all that it knows of a request."""

    isLeaf = True  # noqa: N815

    def render(self, request: Any) -> bytes:
        fields = sorted((name, [*each]) for name, each in request.requestHeaders.getAllRawHeaders())
        known = (request.method, request.uri, request.path, request.args, request.clientproto)
        return repr((known, fields, request.channel.persistent)).encode()


def answers(pieces: list[bytes]) -> bytes:
    """Return what is written to a client that sends some pieces."""
    clock: Any = Clock()
    channel: Any = Site(Echo(), clock, LIMITS).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    for each in pieces:
        channel.dataReceived(each)
    clock.advance(0)
    written: bytes = transport.value() + b"closed" * transport.disconnecting
    channel.connectionLost()
    return written


names = st.sampled_from(
    [
        b"Host",
        b"host",
        b"Cookie",
        b"Connection",
        b"Content-Length",
        b"CONTENT-LENGTH",
        b"Transfer-Encoding",
        b"Expect",
        b"A",
        b"a~!",
        b"A b",
        b" folded",
        b"\tfolded",
        b"",
        b"A\x00",
        b"\xc4",
        b"a" * MAX_NAME,
        b"a" * (MAX_NAME + 1),
    ]
)
values = st.sampled_from(
    [
        *(b"a", b" a", b"\ta \t", b"", b"0", b"5", b"chunked", b"close", b"Keep-Alive"),
        *(b"100-continue", b"a\nb", b"a\rb", b"a\x00b", b"\xe4", b"a: b", b"x" * 200),
    ]
)
fields = st.tuples(names, st.sampled_from([b":", b" :", b""]), values).map(b"".join)
lines = st.tuples(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"get", b"G(T", b""]),
    st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"]),
    st.sampled_from([b"/", b"/?a=b&c=%20", b"*", b"//a", b"http://b/c", b"", b"/\xe4", b"/" * 70]),
    st.sampled_from([b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"", b" HTTP/1.1 ", b" http/1.1"]),
).map(b"".join)
line_or_odd = st.sampled_from([b"GET /?access_token=a HTTP/1.1"]) | lines
ends = st.sampled_from([b"\r\n\r\n"] * 6 + [b"\n\n", b"\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n"])
# At most two fields that are odd, so that nothing hides what they do.
requests = st.builds(
    lambda line, fields, odd, break_, end: break_.join([line, *odd[:1], *fields, *odd[1:]]) + end,
    line_or_odd,
    st.permutations([b"Host: a", b"Accept: text/event-stream", b"Last-Event-ID: 1-2"]),
    st.lists(fields, max_size=2),
    st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n\r\n"]),
    ends,
)


@given(requests, st.data())
@example(GET + b"\r\n", None)
@example(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", None)
@example(GET + b"transfer-encoding: chunked\r\n\r\n", None)
@example(GET + b"Expect: 100-continue\r\n\r\n", None)
@example(GET + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", None)
@example(GET + b"A: " + b"b" * 1000 + b"\r\n\r\n", None)
@example(GET + b"a" * MAX_NAME + b": b\r\n\r\n", None)
@example(GET + b"a" * (MAX_NAME + 1) + b": b\r\n\r\n", None)
@example(GET + b"A: b\x00c\r\n\r\n", None)
@example(GET + b"A: b\nc\r\n\r\n", None)
@example(GET + b"A: \x0bb \t\r\n\r\n", None)
@example(GET + b"A: b\r\n c\r\n\r\n", None)
@example(GET + b"A : b\r\n\r\n", None)
@example(b"\r\n" + GET + b"\r\n", None)
@example(b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: a\r\n\r\n", None)
@example(b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", None)
def test_it_makes_no_difference_in_which_pieces_it_comes(request: bytes, data: Any) -> None:
    cut = 1 if data is None else data.draw(st.integers(0, len(request)))
    whole = answers([request])
    in_two = answers([request[:cut], request[cut:]])
    assert whole == in_two or _date_changed(whole, in_two)


def _date_changed(one: bytes, other: bytes) -> bool:
    """Whether two answers differ in no more than the second in which they were made."""
    return _undated(one) == _undated(other)


def _undated(answer: bytes) -> list[bytes]:
    return [line for line in answer.splitlines() if not line.startswith(b"Date:")]


class Late(Resource):
    """Answers when it is told to."""

    isLeaf = True  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Request] = []

    def render(self, request: Request) -> int:
        self.waiting.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        request = self.waiting.pop(0)
        request.write(b"<answer to %b>" % request.path)
        request.finish()


@pytest.mark.parametrize(
    "second",
    [
        b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /two HTTP/1.1\r\n\r\n",
        b"GET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /three HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    ],
    ids=["right", "wrong", "two", "body"],
)
@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["stays", "closes"])
def test_a_request_waits_until_the_one_before_it_is_answered(second: bytes, fields: bytes) -> None:
    """In a segment of its own or in the same, it is not begun, and not answered before."""

    def written(pieces: list[bytes]) -> list[bytes]:
        clock: Any = Turns()
        resource = Late()
        channel: Any = Site(resource, clock).buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        for each in pieces:
            channel.dataReceived(each)
        assert [each.path for each in resource.waiting] == [b"/one"]
        assert not transport.value()
        seen = []
        for _ in range(3):
            if resource.waiting:
                resource.answer()
            clock.turn()
            seen.append(b"\n".join(_undated(transport.value())))
        channel.connectionLost()
        return seen

    first = b"GET /one HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    assert written([first, second]) == written([first + second])


def test_what_nearly_every_client_sends_is_read_at_once() -> None:
    browser = (
        b"GET /?access_token=0f3a HTTP/1.1\r\nHost: push.example\r\nConnection: keep-alive\r\n"
        b"Accept: text/event-stream\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11)\r\n"
        b'sec-ch-ua: "Chromium";v="1", "Not;A=Brand";v="8"\r\nOrigin: https://example.com\r\n\r\n'
    )
    whole = read(browser, RequestLimits())
    assert whole is not None
    assert whole[:3] == (b"GET", b"/?access_token=0f3a", b"HTTP/1.1")
    assert whole.fields[0] == (b"Host", b"push.example")
    assert len(whole.fields) == 7


def test_hostile_data_take_no_longer_than_others() -> None:
    def seconds(data: bytes) -> float:
        began = time.perf_counter()
        for _ in range(20):
            assert read(data, RequestLimits()) is None
        return time.perf_counter() - began

    half = b"GET / HTTP/1.1\r\n" + (b"a:" + b" " * 30 + b"\r\n") * MAX_FIELDS + b"\x00\r\n\r\n"
    more = b"GET / HTTP/1.1\r\n" + (b"a:" + b" " * 150 + b"\r\n") * MAX_FIELDS + b"\x00\r\n\r\n"
    # Five times as long takes no more than some five times as much.
    assert min(seconds(more) for _ in range(5)) < 40 * min(seconds(half) for _ in range(5))


def test_a_request_is_handled_once() -> None:
    seen = []

    class Once(Resource):
        isLeaf = True  # noqa: N815

        def render(self, request: Request) -> bytes:
            seen.append(request)
            return b"ok"

    channel: Any = Site(Once(), Clock(), LIMITS).buildProtocol(None)
    channel.makeConnection(StringTransport())
    for _ in range(3):
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(seen) == 3
    channel.connectionLost()
