"""Short answers: nothing is said to who has gone."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.web.answers import respond


def begun() -> tuple[Request, StringTransport]:
    transport = StringTransport()
    channel = HTTPChannel()
    channel.makeConnection(transport)
    request = Request(channel, parsePOSTFormSubmission=False)
    channel.requests = [request]
    request.gotLength(0)
    request.clientproto = b"HTTP/1.1"
    request.method = b"GET"
    return request, transport


def test_an_answer_is_whole() -> None:
    request, transport = begun()
    assert respond(request, 404, b"no\n") == NOT_DONE_YET
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 Not Found")
    assert body == b"no\n"


def test_who_has_gone_while_something_was_looked_up_is_told_nothing() -> None:
    request, transport = begun()
    request.notifyFinish().addErrback(lambda _: None)
    request.connectionLost(ConnectionError())
    assert respond(request, 503, b"come back\n") == NOT_DONE_YET
    assert transport.value() == b""
