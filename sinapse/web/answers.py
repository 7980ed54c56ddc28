"""Short plain answers, and the resources that give only those: alive, ready, not found."""

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse import __version__
from sinapse.web.limits import REASONS

#: Our name in answers.
SERVER = f"Sinapse/{__version__}".encode()

#: Header fields of an answer.
Fields = Iterable[tuple[bytes, bytes]]

#: Header fields of every answer, so that no page can misuse it: the URL of a stream may carry a
#: token, and must not become a referrer. An answer has only the type that it names (Fetch §3.6),
#: loads nothing, cannot be framed (Content Security Policy Level 3), and cannot be an image or a
#: script in a page of a foreign site (Fetch §3.8). None of that concerns requests by CORS, which
#: EventSource and fetch make.
SAFETY = (
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)

PLAIN_TEXT = ((b"Content-Type", b"text/plain"),)


class Refusal(NamedTuple):
    """An answer that is sent without reading the rest of a request."""

    status: int
    body: bytes | None = None
    """None for the status in words."""
    fields: Fields = PLAIN_TEXT


def date() -> bytes:
    """Return the field Date of an answer of now (RFC 9110 §6.6.1)."""
    return _date(int(time.time()))


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    text: bytes = datetimeToString(second)
    return text


def refusal(status: int, body: bytes | None, fields: Fields) -> tuple[bytes, Fields]:
    """Return the body and the fields of a refusal; without `body` it is the status in words.

    `fields` has the type of the body.
    """
    body = b"%d %b\n" % (status, REASONS[status]) if body is None else body
    length = (b"Content-Length", b"%d" % len(body))
    return body, ((b"Date", date()), *fields, length, (b"Cache-Control", b"no-store"), *SAFETY)


def respond(request: Request, status: int, body: bytes = b"", headers: Fields = ()) -> int:
    """Send a short, complete answer; `headers` override those of every answer.

    If the client is gone, it does nothing.
    """
    channel: Any = request.channel
    if channel is None:
        return NOT_DONE_YET
    # Twisted has no reason phrases for the codes of RFC 6585.
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    if status != 204:  # It has no content, and so no length (RFC 9110 §8.6) and no type.
        headers = ((b"Content-Type", b"text/plain; charset=utf-8"), *headers)
        if request.method != b"HEAD":
            headers = (*headers, (b"Content-Length", b"%d" % len(body)))
    for name, value in (
        (b"Server", SERVER),
        (b"Date", date()),
        (b"Cache-Control", b"no-store"),
        *SAFETY,
        *headers,
    ):
        request.setHeader(name, value)
    if request.method != b"HEAD":
        request.write(body)
    request.finish()
    return NOT_DONE_YET


def tell_fault(request: Request, what: str, failure: Failure) -> None:
    """Log `what` failed with a request, and where, at a bounded rate."""
    site: Any = request.site
    site.faults(what, failure)


class Plain(Resource):
    """The base of all resources: their methods, and 404 for unknown paths."""

    methods: tuple[bytes, ...] = (b"GET", b"HEAD")

    def getChild(self, path: bytes, request: Request) -> Resource:  # noqa: ARG002, N802
        """Return the resource of an unknown path."""
        return NotFound()

    def render(self, request: Request) -> int:
        """Answer `request`, or refuse its method."""
        if request.method in self.methods:
            return self.answer(request)
        allow = (b"Allow", b", ".join(self.methods))
        return respond(request, 405, b"405 Method Not Allowed\n", [allow])

    def answer(self, request: Request) -> int:
        """Answer a request with an allowed method."""
        raise NotImplementedError


class NotFound(Plain):
    """Any other URL."""

    def render(self, request: Request) -> int:
        """Answer 404, whatever the method."""
        return respond(request, 404, b"404 Not Found\n")


class Status(Plain):
    """Alive: the process answers."""

    def answer(self, request: Request) -> int:
        """Answer 200, always."""
        return respond(request, 200, b"OK\n")


class Ready(Plain):
    """Ready: clients may come. `trouble` returns why they should not, or None."""

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        super().__init__()
        self._trouble = trouble

    def answer(self, request: Request) -> int:
        """Answer 200 or 503."""
        if (trouble := self._trouble()) is None:
            return respond(request, 200, b"OK\n")
        return respond(request, 503, f"503 {trouble}\n".encode())
