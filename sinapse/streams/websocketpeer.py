"""The client's side of a WebSocket: what it sends has almost no meaning, but must be valid.

``websockets`` parses the frames. Its parser is made when it is needed, since clients send almost
only answers to pings: an idle connection does without these 1.4 KiB.
"""

import codecs
import logging
from typing import NamedTuple

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from sinapse.errors import CloseReason
from sinapse.framing.websocket import frame

#: Bytes of the smallest frame of a client: a head of two, and the mask (RFC 6455 §5.2).
MIN_FRAME_SIZE = 6

#: The head of a pong without a payload.
_PONG = b"\x8a\x80"

#: An empty object: no message.
ANSWER = b"{}"

# Errors of a client are not logged.
_SILENT = logging.getLogger(__name__)
_SILENT.disabled = True

_Decoder = codecs.getincrementaldecoder("utf-8")


class Received(NamedTuple):
    """What to do after data from a client."""

    reply: bytes = b""
    """Bytes to send."""
    reason: CloseReason | None = None
    """Why the connection ends, if it does; `reply` ends with our close frame then."""


class _Inflate(PerMessageDeflate):
    """permessage-deflate of what a client sends; our few answers to it are not worth it.

    A window of 32 KiB is enough for any: the client may use a smaller one.
    """

    def __init__(self) -> None:
        super().__init__(
            remote_no_context_takeover=True,
            local_no_context_takeover=True,
            remote_max_window_bits=15,
            local_max_window_bits=15,
        )

    def encode(self, frame: Frame) -> Frame:
        """Return `frame`."""
        return frame


class WebSocketPeer:
    """One client; it may send compressed messages if `compresses`."""

    __slots__ = ("_awaits_pong", "_compresses", "_decoder", "_protocol")

    #: Bytes of a message of a client.
    max_size = 1024

    def __init__(self, *, compresses: bool = False) -> None:
        self._compresses = compresses
        self._protocol: ServerProtocol | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._awaits_pong = False

    def ping(self) -> bool:
        """Note that a ping is sent; returns whether the one before was answered."""
        was_answered = not self._awaits_pong
        self._awaits_pong = True
        return was_answered

    def is_pong(self, data: bytes) -> bool:
        """Return whether `data` is exactly the answer to our ping, and note that it has come.

        Call it only while nothing else has come yet.
        """
        if not self._awaits_pong or len(data) != MIN_FRAME_SIZE or not data.startswith(_PONG):
            return False
        self._awaits_pong = False
        return True

    def receive(self, data: bytes) -> Received:
        """Handle data from the client."""
        self._awaits_pong = False
        if self._protocol is None:
            self._protocol = ServerProtocol(
                state=State.OPEN, max_size=self.max_size, logger=_SILENT
            )
            if self._compresses:
                self._protocol.extensions = [_Inflate()]
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and not self._is_text_right(event):
                invalid = CloseReason.INVALID_DATA
                return Received(frame(Opcode.CLOSE, invalid.code.to_bytes(2, "big")), invalid)
            self.handle(event)
        reply = b"".join(protocol.data_to_send())
        if protocol.state is State.OPEN:
            return Received(reply)
        failed = protocol.parser_exc is not None
        return Received(reply, CloseReason.PROTOCOL_ERROR if failed else CloseReason.CLIENT_GONE)

    def handle(self, event: Event) -> None:
        """Answer an empty text: a page, which sees no pings, sends it to check the connection.

        Nothing else from a client has a meaning: clients never publish.
        """
        if not isinstance(event, Frame) or self._protocol is None:
            return
        is_question = event.opcode is Opcode.TEXT and event.fin and not event.data
        if is_question and self._protocol.state is State.OPEN:
            self._protocol.send_text(ANSWER)

    def _is_text_right(self, received: Frame) -> bool:
        """Whether a text message is valid UTF-8 so far (RFC 6455 §8.1)."""
        if received.opcode not in DATA_OPCODES:
            return True
        if received.opcode is Opcode.TEXT:
            self._decoder = _Decoder()
        if self._decoder is None:
            return True
        try:
            self._decoder.decode(bytes(received.data), received.fin)
        except UnicodeDecodeError:
            return False
        if received.fin:
            self._decoder = None
        return True
