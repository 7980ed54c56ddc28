"""The URL of streams, ``/``: an event stream, or a WebSocket by upgrade.

Until the stream opens, a refusal is a plain answer. Only a passing failure is different: an
EventSource gives up for ever after any status but 200, so it gets a 200 with a reconnection time,
and the end; it comes back by itself.
"""

import random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from sinapse.broker.interface import Admission, Broker
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, LimitReached, Unauthorized
from sinapse.framing.eventstream import TROUBLE_RETRY, EventStream, JSONEventStream
from sinapse.framing.websocket import WebSocket
from sinapse.protocol.keys import presented_token
from sinapse.settings import Settings
from sinapse.sockets.forwarded import UNIX, TrustedProxies
from sinapse.streams import wishes
from sinapse.streams.admissions import Admissions
from sinapse.streams.handshake import compresses, is_requested, shake_hands
from sinapse.streams.limits import StreamLimits
from sinapse.streams.longpoll import LongPoll
from sinapse.streams.stream import Stream
from sinapse.streams.streams import Streams
from sinapse.web.answers import SAFETY, SERVER, Fields, Plain, date, respond, tell_fault
from sinapse.web.cors import preflight_headers, response_headers
from sinapse.web.encodings import accepts_gzip

#: Seconds after which to come back while a limit is reached: as long as many clients are refused,
#: they must cost little.
LIMIT_RETRY = (5.0, 15.0)


class StreamResource(Plain):
    """The event stream."""

    methods = (b"GET", b"HEAD", b"OPTIONS", b"POST")

    def __init__(
        self,
        broker: Broker[Stream],
        streams: Streams,
        counters: Counters,
        settings: Settings,
        *,
        limits: StreamLimits,
        proxies: TrustedProxies,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._broker = broker
        self._streams = streams
        self._counters = counters
        self._origins = settings.origins
        self._retry = settings.retry
        self._retains = settings.retains
        self._cookie = settings.cookie
        self._hash_tokens = settings.hash_tokens
        self._stop_status = settings.stop_status
        self._limits = limits
        self._proxies = proxies
        self._admitting = Admissions(reactor.callLater)
        #: Bytes from which a message is compressed, for a client that can read that.
        self._compress = settings.compress
        self._vary = b"Origin" if self._compress is None else b"Origin, Accept-Encoding"
        # One object for each framing: the hub encodes once for each.
        named = settings.channel_event
        self._event_streams = {
            (kind, chunked, least): kind(chunked=chunked, channel_event=named, compress=least)
            for kind in (EventStream, JSONEventStream)
            for chunked in (True, False)
            for least in {None, self._compress}
        }
        self._websockets = {
            least: WebSocket(channel_event=named, compress=least)
            for least in {None, self._compress}
        }

    def getChild(self, path: bytes, request: Request) -> Resource:  # noqa: N802
        """Return this resource for the root, 404 for all other paths."""
        return self if not path and not request.postpath else super().getChild(path, request)

    def answer(self, request: Request) -> int:
        """Answer a preflight, or begin to open a stream."""
        origin = request.getHeader(b"Origin") or request.getHeader(b"X-Origin")
        if request.method == b"OPTIONS":
            return self._options(request, origin)
        headers = response_headers(origin, self._origins, vary=self._vary)
        if (refusal := self._refuse_socket(request, headers)) is not None:
            return refusal
        if (trouble := wishes.read_form(request) or wishes.refused_name(request)) is not None:
            return self._refuse(request, *trouble, headers)
        token = wishes.token(request)
        if not token and self._cookie is not None:
            token = request.getCookie(self._cookie) or b""
            if token and self._is_foreign(request):
                return self._refuse(request, 403, "origin not allowed", headers)
        if not token:
            return self._refuse(request, 400, "access_token is missing", headers)
        stream = Deferred.fromCoroutine(self._open(request, token, headers))
        # A client may go away while its token is looked up.
        request.notifyFinish().addErrback(lambda _: stream.cancel())
        stream.addErrback(self._failed, request, headers)
        return NOT_DONE_YET

    def _refuse_socket(self, request: Request, headers: Fields) -> int | None:
        """Refuse an invalid WebSocket handshake, or one of a foreign page.

        CORS does not apply to WebSockets, and browsers send cookies with them: the origin must be
        checked here (RFC 6455 §10.2).
        """
        if not is_requested(request):
            return None
        handshake = shake_hands(request, compress=self._compress is not None)
        if handshake.status_code != 101:
            fields = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
            return self._refuse(
                request, handshake.status_code, "not a WebSocket handshake", (*headers, *fields)
            )
        if self._is_foreign(request):
            return self._refuse(request, 403, "origin not allowed", headers)
        return None

    def _is_foreign(self, request: Request) -> bool:
        """Whether the request is of a page that is neither of our host nor allowed.

        Browsers send the origin, but not for what a page embeds: there they send how near the site
        is (Fetch Metadata), except over plain HTTP, and in some old versions. A request without
        both is not of a page that could read an answer.
        """
        origin = request.getHeader(b"Origin")
        if origin is None:
            site = request.getHeader(b"Sec-Fetch-Site") or b"none"
            return site not in (b"none", b"same-origin")
        host = (request.getHeader(b"Host") or b"").lower()
        is_ours = origin.lower().partition(b"://")[2] == host
        return not is_ours and not self._origins.allows(origin)

    def _options(self, request: Request, origin: bytes | None) -> int:
        if origin is None or request.getHeader(b"Access-Control-Request-Method") is None:
            return respond(request, 204, headers=[(b"Allow", b", ".join(self.methods))])
        if not self._origins.allows(origin):
            return self._refuse(request, 400, "origin not allowed", [(b"Vary", b"Origin")])
        asked = request.getHeader(b"Access-Control-Request-Headers")
        headers = preflight_headers(origin, asked)
        return respond(request, 204, headers=headers)

    async def _open(self, request: Request, token: bytes, headers: Fields) -> None:
        try:
            address = self._address(request)
            with self._limits.opening(address):
                # From here on only the form of the token that Redis has is used.
                token = presented_token(token, hashed=self._hash_tokens)
                async with self._admitting:
                    admission = await self._broker.admit(token)
                if self._streams.is_draining:
                    self._broker.withdraw(admission)
                    self._send_away(request, headers, "draining")
                elif request.method == b"HEAD":
                    self._broker.withdraw(admission)
                    respond(request, 200, headers=(*self._event_stream(request).headers, *headers))
                else:
                    self._begin(request, admission, headers, address)
        except LimitReached as error:
            # The connection itself uses resources.
            _close_after(request)
            self._send_away(request, headers, str(error), error.status, LIMIT_RETRY)
        except Unauthorized as error:
            if self._stop_status == 204 and wishes.is_event_source(request):
                self._counters.requests_refused[str(error)] += 1
                respond(request, 204, headers=headers)
                return
            challenge = (b"WWW-Authenticate", b'Bearer realm="sinapse"')
            self._refuse(request, 401, str(error), (*headers, challenge))
        except BrokerUnavailable:
            self._send_away(request, headers)

    def _address(self, request: Request) -> str:
        """Return the address of the client, as far as the proxies are trusted."""
        peer = str(getattr(request.getClientAddress(), "host", UNIX))
        fields = request.requestHeaders.getRawHeaders(self._proxies.header, [])
        return self._proxies.client(peer, fields)

    def _begin(self, request: Request, admission: Admission, headers: Fields, address: str) -> None:
        """Begin a stream or a poll, which counts for `address`."""
        last_event_id = wishes.last_event_id(request) if self._retains else None
        if wishes.is_poll(request):
            self._poll(request, admission, headers, last_event_id, address)
            return
        # A stream that resumes keeps its own id until it has got the missed messages.
        position = None
        if self._retains and last_event_id is None:
            last_event_id = self._broker.place_before_past(admission)
            position = last_event_id or self._streams.here
        framing, first = self._first(request, headers, position)
        self._streams.open(
            request,
            admission,
            framing,
            first,
            name=wishes.name(request),
            last_event_id=last_event_id,
            address=address,
        )

    def _poll(
        self,
        request: Request,
        admission: Admission,
        headers: Fields,
        last_event_id: str | None,
        address: str,
    ) -> None:
        """Begin a long poll; a new client gets the id where it begins."""
        if last_event_id is not None:
            self._streams.poll(
                request,
                admission,
                headers,
                name=wishes.name(request),
                last_event_id=last_event_id,
                address=address,
                compress=self._least(request),
            )
            return
        position = self._broker.place_before_past(admission) or self._streams.here
        self._broker.withdraw(admission)
        if not self._retains:
            self._refuse(request, 406, "long polls need messages to be retained", headers)
            return
        framing = LongPoll.framing
        body = framing.whole([framing.opening(position)])
        respond(request, 200, body, (*headers, (b"Content-Type", b"application/json")))

    def _first(
        self, request: Request, headers: Fields, position: str | None
    ) -> tuple[EventStream | WebSocket, bytes]:
        """Return the framing of a stream, and its first bytes: the response head, the opening."""
        if is_requested(request):
            handshake = shake_hands(request, compress=self._compress is not None)
            handshake.headers["Server"] = SERVER.decode()
            websocket = self._websockets[self._compress if compresses(handshake) else None]
            return websocket, handshake.serialize() + websocket.opening(position)
        framing = self._event_stream(request)
        fields = ((b"Server", SERVER), (b"Date", date()), *SAFETY, *headers)
        first = framing.opening(self._retry, position, padded=wishes.is_padded(request))
        if request.clientproto == b"HTTP/2":
            exchange: Any = request.channel
            exchange.answer(200, (*framing.headers, *fields))  # Written with the first bytes.
            return framing, first
        return framing, framing.head(fields) + first

    def _event_stream(self, request: Request) -> EventStream:
        """Return the framing of an event stream for a client."""
        # Compressed, padding would be none.
        least = None if wishes.is_padded(request) else self._least(request)
        kind = JSONEventStream if wishes.wants_json(request) else EventStream
        return self._event_streams[kind, request.clientproto == b"HTTP/1.1", least]

    def _least(self, request: Request) -> int | None:
        """Return from how many bytes something is compressed for a client; None for never."""
        fields = request.requestHeaders.getRawHeaders(b"Accept-Encoding", [])
        return self._compress if accepts_gzip(fields) else None

    def _refuse(self, request: Request, status: int, reason: str, headers: Fields) -> int:
        self._counters.requests_refused[reason] += 1
        return respond(request, status, f"{status} {reason}\n".encode(), headers)

    def _send_away(
        self,
        request: Request,
        headers: Fields,
        reason: str = "unavailable",
        status: int = 503,
        retry: tuple[float, float] = TROUBLE_RETRY,
    ) -> None:
        """Tell a client to come back later; `status` is for clients other than EventSource."""
        seconds = random.uniform(*retry)  # noqa: S311
        if wishes.is_event_source(request):
            self._counters.requests_refused[reason] += 1
            plain = self._event_stream(request).plain
            respond(request, 200, plain.come_back(seconds), (*plain.headers, *headers))
        else:
            retry_after = (b"Retry-After", b"%d" % round(seconds))
            self._refuse(request, status, reason, (*headers, retry_after))

    def _failed(self, failure: Failure, request: Request, headers: Fields) -> None:
        if failure.check(CancelledError) is None:
            # An error of ours: for the client it is a passing failure, the log has the rest.
            tell_fault(request, "a stream could not be opened", failure)
            if request.channel is not None and not request.startedWriting:
                self._send_away(request, headers)


def _close_after(request: Request) -> None:
    """End the connection with the answer to `request`, if it carries only that."""
    if isinstance(request.channel, HTTPChannel):
        request.channel.persistent = False
        request.setHeader(b"Connection", b"close")
