"""The opening handshake of a WebSocket (RFC 6455 §4.2), by ``websockets``, on a Twisted request."""

from collections.abc import Sequence

from twisted.web.http import Request
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request as HandshakeRequest
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import ExtensionParameter, Subprotocol

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

#: The window of what is compressed for all, as a power of two: that of RFC 7692 without a limit.
_WINDOW = 15


class _Shared(ServerPerMessageDeflateFactory):
    """The extension permessage-deflate, as far as its messages are the same for all streams.

    Each stands for itself, and may need the whole window: an offer with a smaller one is passed
    over.
    """

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Return the answer to an offer."""
        answer, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits < _WINDOW:
            raise NegotiationError("the window is too small")
        return answer, extension


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


def shake_hands(request: Request, *, compress: bool) -> Response:
    """Return the answer: with status 101 if the handshake is right, else a refusal.

    With `compress`, messages may be compressed: see :func:`compresses`.
    """
    headers = Headers()
    protocol = ServerProtocol(
        subprotocols=[SUBPROTOCOL],
        select_subprotocol=_select,
        extensions=[_Shared()] if compress else None,
    )
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


def compresses(answer: Response) -> bool:
    """Whether it was agreed upon that messages may be compressed."""
    return "Sec-WebSocket-Extensions" in answer.headers


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # The answer never has the token: proxies would log it.
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
