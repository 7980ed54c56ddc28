"""The opening handshake of a WebSocket (RFC 6455 §4.2), by ``websockets``, on a Twisted request."""

from collections.abc import Sequence

from twisted.web.http import Request
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.http11 import Request as HandshakeRequest
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

#: Our subprotocol; a client need not ask for it.
SUBPROTOCOL = Subprotocol("sinapse.v1")

#: The fields that decide (RFC 6455 §4.2.1). The origin was checked before.
_FIELDS = (
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
)

#: Elements of a field: clients have two or three, and each takes some time to read.
_MAX_ELEMENTS = 20

#: A client may offer its token as a subprotocol, since a page can set no other header field.
_OFFERED = "sinapse.token."


def is_requested(request: Request) -> bool:
    """Whether `request` wants a WebSocket."""
    return b"websocket" in (request.getHeader(b"Upgrade") or b"").lower()


def token(request: Request) -> bytes:
    """Return the token among the offered subprotocols; empty if there is none."""
    offered = (request.getHeader(b"Sec-WebSocket-Protocol") or b"").split(b",")
    for name in offered:
        prefix, found, value = name.strip().partition(_OFFERED.encode())
        if found and not prefix:
            return value
    return b""


def shake_hands(request: Request) -> Response:
    """Return the answer: with status 101 if the handshake is right, else a refusal."""
    headers = Headers()
    protocol = ServerProtocol(subprotocols=[SUBPROTOCOL], select_subprotocol=_select)
    try:
        for name in _FIELDS:
            for value in request.requestHeaders.getRawHeaders(name.encode(), []):
                if value.count(b",") + value.count(b";") > _MAX_ELEMENTS:
                    return protocol.reject(400, "not a WebSocket handshake")
                headers[name] = value.decode("latin-1")
    except InvalidHeader:  # A control character.
        return protocol.reject(400, "not a WebSocket handshake")
    return protocol.accept(
        HandshakeRequest(
            request.path.decode("latin-1"),
            headers,
            request.method.decode("latin-1"),
            request.clientproto.decode("latin-1"),
        )
    )


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # The answer never has the token: proxies would log it.
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
