"""What a request for a stream asks for, and how: its token, where it resumes, in which form.

A client that cannot set header fields says it in the query, or in a form.
"""

from twisted.web.http import parse_qs
from twisted.web.server import Request

from sinapse.protocol.message import is_stream_name
from sinapse.streams.handshake import is_requested
from sinapse.streams.handshake import token as offered_token
from sinapse.web.limits import MAX_FIELDS


def read_form(request: Request) -> tuple[int, str] | None:
    """Add the fields of a form to the arguments of `request`; returns what is wrong, or None.

    `twisted.web` does not do it: it would read Content-Type as the header section of a mail, and
    other kinds of bodies; both can take seconds.
    """
    if request.method != b"POST" or request.content is None or not (body := request.content.read()):
        return None
    kind = (request.getHeader(b"Content-Type") or b"").partition(b";")[0]
    if kind.strip().lower() != b"application/x-www-form-urlencoded":
        return 415, "the body must be a form"
    if body.count(b"&") + body.count(b";") >= MAX_FIELDS:
        return 400, "too many fields"
    request.args |= parse_qs(body, keep_blank_values=1)
    return None


def token(request: Request) -> bytes:
    """Return the token: from the query, the form, Authorization or the subprotocols."""
    tokens: list[bytes] = request.args.get(b"access_token", [])
    for each in filter(None, tokens):
        return each
    scheme, _, credentials = (request.getHeader(b"Authorization") or b"").partition(b" ")
    return credentials.strip() if scheme.lower() == b"bearer" else offered_token(request)


def name(request: Request) -> str | None:
    """Return what the client calls its stream: from the query, the form or a header field."""
    names: list[bytes] = request.args.get(b"stream", [])
    for each in (*names, request.getHeader(b"Sinapse-Stream")):
        if each:
            return each.decode(errors="replace")
    return None


def refused_name(request: Request) -> tuple[int, str] | None:
    """Return what is wrong with what the client calls its stream, or None."""
    asked = name(request)
    if asked is None or is_stream_name(asked):
        return None
    return 400, "stream is 1 to 64 of A-Z a-z 0-9 _ -"


def is_event_source(request: Request) -> bool:
    """Whether a client takes an event stream, as an EventSource does."""
    return b"text/event-stream" in (request.getHeader(b"Accept") or b"")


def is_padded(request: Request) -> bool:
    """Whether a client wants 2 KiB at the beginning."""
    return b"true" in request.args.get(b"padding", [])


def wants_json(request: Request) -> bool:
    """Whether a client wants the events of its stream as JSON objects."""
    return b"json" in request.args.get(b"format", [])


def is_poll(request: Request) -> bool:
    """Whether the request is a long poll: it accepts JSON and no event stream."""
    accepts_json = b"application/json" in (request.getHeader(b"Accept") or b"")
    return accepts_json and not is_event_source(request) and not is_requested(request)


def last_event_id(request: Request) -> str | None:
    """Return the last event ID: from the header field, or as polyfills send it; or None."""
    header = request.getHeader(b"Last-Event-ID")
    values = [] if header is None else [header]
    for name in (b"lastEventId", b"last_event_id"):
        values += request.args.get(name, [])
    for value in filter(None, values):
        return str(value, "utf-8", "replace")
    return None
