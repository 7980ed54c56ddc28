"""The API on the wire: routing, keys, JSON, and what each failure is answered with."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.api.actions import failed
from sinapse.api.bodies import Failed
from sinapse.api.call import Call
from sinapse.api.endpoints import ENDPOINTS, Endpoint
from sinapse.api.keys import Keys
from sinapse.api.openapi import document
from sinapse.errors import (
    BrokerUnavailable,
    ListFull,
    MessageTooLarge,
    TokenIsHashed,
    UnknownID,
)
from sinapse.protocol.trace import PARENT, STATE
from sinapse.publisher.tx import Publisher
from sinapse.tracing.caller import within
from sinapse.web.answers import Fields, Refusal, respond, tell_fault

#: Where the OpenAPI document is, for anybody: it tells nothing of anybody.
DOCUMENT = b"/v1/openapi.json"

#: Seconds after which to come back while Redis is away.
RETRY_AFTER = 2

_JSON = (b"Content-Type", b"application/json")
_CHALLENGE = (b"WWW-Authenticate", b'Bearer realm="sinapse-api"')
_NO_KEY = "a key is needed"
_PARAMETER = re.compile(r"\{(\w+)\}")


class _Route(NamedTuple):
    """A path, and what can be done there by method."""

    pattern: re.Pattern[str]
    endpoints: dict[str, Endpoint]


def _routes(endpoints: Sequence[Endpoint]) -> list[_Route]:
    routes: dict[str, _Route] = {}
    for endpoint in endpoints:
        if endpoint.path not in routes:
            pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", endpoint.path))
            routes[endpoint.path] = _Route(pattern, {})
        routes[endpoint.path].endpoints[endpoint.method] = endpoint
    return list(routes.values())


class _Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


class APIResource(Resource):
    """Everything below the API's endpoint."""

    isLeaf = True  # noqa: N815

    def __init__(self, publisher: Publisher, keys: Keys) -> None:
        super().__init__()
        self._publisher = publisher
        self._keys = keys
        self._routes = _routes(ENDPOINTS)
        self._document = document(ENDPOINTS)

    def screen(self, request: Request) -> Refusal | None:
        """Refuse a request without a valid key before its body is read."""
        if self._has_key(request):
            return None
        return Refusal(401, _encoded(Failed(_NO_KEY)), (_JSON, _CHALLENGE))

    def _has_key(self, request: Request) -> bool:
        return self._keys.allow(request.getHeader(b"Authorization") or b"")

    def render(self, request: Request) -> int:
        """Answer a request, now or later."""
        if request.path == DOCUMENT and request.method in (b"GET", b"HEAD"):
            return respond(request, 200, self._document, [_JSON])
        try:
            endpoint, call = self._call(request)
        except _Refusal as refusal:
            return _answer(request, refusal.status, Failed(str(refusal)), refusal.headers)
        doing = Deferred.fromCoroutine(self._do(request, endpoint, call))
        request.notifyFinish().addErrback(lambda _: doing.cancel())
        doing.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _call(self, request: Request) -> tuple[Endpoint, Call]:
        """Read a request; raises :class:`_Refusal`."""
        if not self._has_key(request):
            raise _Refusal(401, _NO_KEY, _CHALLENGE)
        endpoint, path = self._route(request)
        body = None
        content = request.content.read() if request.content is not None else b""
        if endpoint.body is not None:
            is_none = endpoint.may_have_none and not content
            body = endpoint.body() if is_none else _read(request, content, endpoint.body)
        elif content:
            # What it says would be passed over: to end all sessions, in place of all but one.
            raise _Refusal(400, "there is no body here: parameters are in the query")
        key = request.getHeader(b"Idempotency-Key")
        if key is not None and endpoint.method == "POST" and not endpoint.takes_key:
            raise _Refusal(422, "an Idempotency-Key is of one message: give each a message_id")
        try:
            query = _query(request, endpoint)
            call = Call(
                self._publisher, path, body, query, None if key is None else key.decode("ascii")
            )
        except UnicodeDecodeError:
            raise _Refusal(400, "text that is not UTF-8") from None
        return endpoint, call

    def _route(self, request: Request) -> tuple[Endpoint, dict[str, str]]:
        raw = request.path.decode("ascii", "replace")
        for route in self._routes:
            if (match := route.pattern.fullmatch(raw)) is None:
                continue
            method = request.method.decode("ascii", "replace")
            endpoint = route.endpoints.get("GET" if method == "HEAD" else method)
            if endpoint is None:
                allowed = ", ".join(sorted(route.endpoints)).encode()
                raise _Refusal(405, "method not allowed", (b"Allow", allowed))
            try:
                return endpoint, {
                    name: unquote(value, errors="strict")
                    for name, value in match.groupdict().items()
                }
            except UnicodeDecodeError:
                raise _Refusal(400, "a path that is not UTF-8") from None
        raise _Refusal(404, "there is nothing here")

    async def _do(self, request: Request, endpoint: Endpoint, call: Call) -> None:
        try:
            # In the trace of the caller, as its fields say.
            with within(_text(request, PARENT), _text(request, STATE)):
                result = await endpoint.act(call)
        except BrokerUnavailable as error:
            retry = (b"Retry-After", b"%d" % RETRY_AFTER)
            _answer(request, 503, failed(error), [retry])
        except MessageTooLarge as error:
            _answer(request, 413, failed(error))
        except (ListFull, TokenIsHashed) as error:
            _answer(request, 409, failed(error))
        except UnknownID as error:
            _answer(request, 410, failed(error))
        except ValueError as error:
            _answer(request, 422, failed(error))
        else:
            if result is None:
                _answer(request, 404, Failed(endpoint.missing))
            else:
                _answer(request, 200, result)

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError) is None:
            tell_fault(request, "a request of the API failed", failure)
            if request.channel is not None and not request.startedWriting:
                _answer(request, 500, Failed("a fault of the server's"))


def _text(request: Request, name: str) -> str | None:
    """Return a field of the head; bytes that are not ASCII are in none that is valid."""
    value = request.getHeader(name.encode())
    return None if value is None else value.decode("ascii", "replace")


def _query(request: Request, endpoint: Endpoint) -> dict[str, str]:
    """Return the parameters of the query; raises :class:`_Refusal` for one too many."""
    query = {}
    known = {each.name for each in endpoint.query}
    for name, values in request.args.items():
        text = name.decode()
        if text not in known:
            raise _Refusal(422, f"there is no parameter {text!r:.80} here")
        if len(values) > 1:
            raise _Refusal(422, f"the parameter {text} is there more than once")
        query[text] = values[0].decode()
    return query


def _read(request: Request, content: bytes, kind: type[msgspec.Struct]) -> Any:
    content_type = (request.getHeader(b"Content-Type") or b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise _Refusal(415, "the body must be application/json")
    if not content:
        raise _Refusal(400, "the body is empty")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _Refusal(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Refusal(400, f"not JSON: {error}") from None


def _answer(request: Request, status: int, body: msgspec.Struct, headers: Fields = ()) -> int:
    return respond(request, status, _encoded(body), [_JSON, *headers])


def _encoded(body: msgspec.Struct) -> bytes:
    return msgspec.json.encode(body) + b"\n"
