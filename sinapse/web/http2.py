"""HTTP/2 (RFC 9113): one connection for all requests and streams of a browser, by ``h2``.

``h2`` knows the protocol and does no I/O. Twisted has a connection around it, which is private to
Twisted and does not fit streams: it ends those that are quiet, and turns in a circle while a client
makes no room. docs/tls.md says more.

What a client can cost is bounded. It may have a hundred exchanges at a time, and cancel so many; it
is read from in small parts, between which others have their turn, and no faster than it may speak;
while it does not read, it is not read from; and with no exchange open it has a deadline.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sinapse.ratelimit import TokenBucket
from sinapse.web.answers import Fields
from sinapse.web.exchange import Exchange
from sinapse.web.intake import Intake
from sinapse.web.limits import FRAMES_PER_SECOND, REQUESTS_PER_SECOND

#: Bytes of a body after which it is seen whether the transport takes more.
WRITE_SIZE = 64 * 1024

#: Exchanges that a client may cancel in a second, and at most at once: a page that closes cancels
#: all its streams, but each request of a flood (CVE-2023-44487) is a look-up.
CANCELS_PER_SECOND = 100

#: Frames that settings count as, which concern all exchanges. A request counts as several, too, so
#: that there are :data:`~sinapse.web.limits.REQUESTS_PER_SECOND`.
_SETTINGS = 10

#: Bytes of what has not come whole: four frames, or the largest header section that is decoded.
MAX_HELD = 64 * 1024

#: Bytes of header fields that we remember, so as not to say them again: the default of RFC 7541.
#: A client may allow more, and that would be our memory.
HEADER_TABLE_SIZE = 4096

_CONFIGURATION = H2Configuration(client_side=False, header_encoding=None)


#: Of a DATA frame (RFC 9113 §4.1): 24 bits of length, type and flags, which are 0, and the number.
_DATA = struct.Struct(">HBHL")


class _State(H2Connection):
    """The state of a connection; of those streams that were closed last it remembers how."""

    MAX_CLOSED_STREAMS = 1000

    @property
    def held(self) -> int:
        """Bytes of a frame, or a header section, that has not come whole.

        By itself ``h2`` waits for any frame to the end, be it of 16 MiB, before it finds that too
        long.
        """
        buffer = self.incoming_buffer
        sections = buffer._headers_buffer  # noqa: SLF001
        return len(buffer._data) + sum(len(frame.data) for frame in sections)  # noqa: SLF001

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        """Keep open exchanges when a client announces its end (RFC 9113 §6.8).

        ``h2`` would end everything, whatever the reason.
        """
        if frame.error_code != ErrorCodes.NO_ERROR:
            return super()._receive_goaway_frame(frame)
        event = ConnectionTerminated()
        event.error_code = ErrorCodes.NO_ERROR
        return [], [event]

    def data_frames(self, number: int, data: memoryview) -> bytes:
        """Return the frames of `data`, for which there must be room.

        A DATA frame that does not end its stream changes no state but the room. To have it made by
        `send_data` takes longer than everything else about a delivery.
        """
        self.outbound_flow_control_window -= len(data)
        self.streams[number].outbound_flow_control_window -= len(data)
        most = self.max_outbound_frame_size
        if len(data) <= most:
            return _DATA.pack(len(data) >> 8, len(data) & 0xFF, 0, number) + data
        parts = [data[start : start + most] for start in range(0, len(data), most)]
        return b"".join(
            _DATA.pack(len(part) >> 8, len(part) & 0xFF, 0, number) + part for part in parts
        )


@implementer(IProtocol, IPushProducer)
class HTTP2Channel(Protocol):
    """One connection of a client."""

    transport: Any  # No interface has all that is needed.
    _intake: Intake

    def __init__(self, site: Any) -> None:
        self.site = site
        self.call_later: Callable[..., IDelayedCall] = site.reactor.callLater
        self._state = _State(_CONFIGURATION)
        self._exchanges: dict[int, Exchange] = {}
        #: Those that wait for room, in turn.
        self._blocked: dict[Exchange, None] = {}
        #: The transport has enough.
        self._is_full = False
        #: No exchange more is to begin.
        self._is_going = False
        self._is_over = False
        self._deadline: IDelayedCall | None = None
        self._cancels = TokenBucket(CANCELS_PER_SECOND, site.reactor.seconds)

    # What the client sends

    def connectionMade(self) -> None:  # noqa: N802
        """Say what we allow, and wait for a request."""
        self._intake = Intake(self.transport, self._handle_part, self.site.reactor)
        self.transport.registerProducer(self, True)
        self._state.initiate_connection()
        self._flush()
        self._wait(self.site.limits.timeout, self._close, ErrorCodes.NO_ERROR)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take what the client sends."""
        self._intake.take(data)

    def _handle_part(self, data: bytes) -> None:
        try:
            events = self._state.receive_data(data)
        except ProtocolError:
            self._close()  # The state has said why.
            return
        except Exception:  # noqa: BLE001  # Whatever somebody has sent.
            self.site.faults("a frame could not be read", Failure())
            self._close(ErrorCodes.PROTOCOL_ERROR)
            return
        self._intake.charge(len(events))
        if any(_is_failure(event) for event in events):
            self._close()
            return
        # All of it has changed the state already, the last as well as the first: nothing may be
        # said any more on what is reset, and what is complete is not to be stopped.
        gone = {event.stream_id for event in events if isinstance(event, StreamReset)}
        complete = {event.stream_id for event in events if isinstance(event, StreamEnded)}
        for number in gone:
            self._cancelled(number)
        for number in complete & self._exchanges.keys():
            self._exchanges[number].is_all = True
        may_write = False
        for event in events:
            # What one event leads to may be the end of everything.
            if not self._is_over:
                may_write |= self._handle(event, gone, complete)
        if self._state.held > MAX_HELD and not self._is_over:
            self._close(ErrorCodes.ENHANCE_YOUR_CALM)
        if may_write and not self._is_over:
            self._go_on()
        self._watch_head()
        self._flush()

    def _handle(self, event: Event, gone: set[int], complete: set[int]) -> bool:
        """Return whether there may be room now for those that wait."""
        match event:
            case RequestReceived(stream_id=number) if number not in gone:
                self._begin(event, is_all=number in complete)
            case DataReceived(stream_id=number):
                self._state.acknowledge_received_data(event.flow_controlled_length, number)
                if (exchange := self._exchanges.get(number)) is not None:
                    with self._blamed(exchange):
                        exchange.take(event.data)
            case StreamEnded(stream_id=number):
                if (exchange := self._exchanges.get(number)) is not None:
                    with self._blamed(exchange):
                        exchange.complete()
            case WindowUpdated():
                return True
            case RemoteSettingsChanged(changed_settings=changed):
                self._intake.charge(_SETTINGS)
                encoder = self._state.encoder
                encoder.header_table_size = min(encoder.header_table_size, HEADER_TABLE_SIZE)
                return SettingCodes.INITIAL_WINDOW_SIZE in changed
            case ConnectionTerminated():
                self._is_going = True
                if not self._exchanges:
                    self._close()
        return False

    def _begin(self, event: RequestReceived, *, is_all: bool) -> None:
        number: int = event.stream_id
        if self._is_going:
            self.reset(number, ErrorCodes.REFUSED_STREAM)
            return
        self._stop_waiting()
        self.site.idle.pop(self, None)
        self._intake.charge(FRAMES_PER_SECOND / REQUESTS_PER_SECOND)
        exchange = self._exchanges[number] = Exchange(self, number)
        with self._blamed(exchange):
            exchange.begin(event.headers, is_all=is_all)

    @contextmanager
    def _blamed(self, exchange: Exchange) -> Iterator[None]:
        """Let an exception end one exchange, and no other."""
        try:
            yield
        except Exception:  # noqa: BLE001  # Whatever somebody has sent.
            self.site.faults("a request could not be read", Failure())
            try:
                exchange.abortConnection()
            except ProtocolError:
                self._close(ErrorCodes.INTERNAL_ERROR)

    def _watch_head(self) -> None:
        """See to it that a request that has begun on a quiet connection comes whole in time."""
        timeout = self.site.limits.timeout
        if self._exchanges or self._deadline is None or not self._state.held:
            return
        if self._deadline.getTime() > self.site.reactor.seconds() + timeout:
            self._wait(timeout, self._close, ErrorCodes.NO_ERROR)

    def _cancelled(self, number: int) -> None:
        exchange = self._exchanges.get(number)
        if exchange is not None:
            exchange.lost(Failure(ConnectionDone()))
        if self._cancels.available():
            self._cancels.take()
        elif not self._is_over:
            self._close(ErrorCodes.ENHANCE_YOUR_CALM)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Let go of everything."""
        self._is_over = True
        self.site.idle.pop(self, None)
        self._stop_waiting()
        self._intake.stop()
        for exchange in [*self._exchanges.values()]:
            exchange.lost(reason)

    # The carrier of exchanges

    def write_head(self, number: int, fields: Fields, *, is_all: bool) -> None:
        """Write status and header fields of an answer."""
        self._state.send_headers(number, fields, end_stream=is_all)
        if is_all:
            self._flush()

    def write_body(self, number: int, data: memoryview) -> int:
        """Write as much of `data` as there is room for; returns how many bytes."""
        state = self._state
        room = min(len(data), state.local_flow_control_window(number))
        done = 0
        while done < room and not self._is_full:
            part = data[done : min(room, done + WRITE_SIZE)]
            self.transport.write(state.data_to_send() + state.data_frames(number, part))
            done += len(part)
        self._flush()  # Perhaps a head.
        return done

    def end_body(self, number: int) -> None:
        """Write the end of an answer."""
        self._state.end_stream(number)
        self._flush()

    def reset(self, number: int, error: ErrorCodes) -> None:
        """Reset an exchange: nothing more is sent or read on it."""
        self._state.reset_stream(number, error)
        self._flush()

    def block(self, exchange: Exchange) -> None:
        """Let an exchange go on when there may be room, after all others that wait."""
        self._blocked[exchange] = None

    def forget(self, exchange: Exchange) -> None:
        """Take note that an exchange has ended."""
        self._exchanges.pop(exchange.number, None)
        self._blocked.pop(exchange, None)
        if self._is_over:
            return
        if self.site.is_closing and not self._is_going:
            self._go_away()
        if not self._exchanges:
            seconds = 0 if self._is_going else self.site.limits.idle
            self._wait(seconds, self.close_idle)
            self.site.idle[self] = None

    def _go_on(self) -> None:
        """Let those go on that wait for room, and have some."""
        state = self._state
        for exchange in [*self._blocked]:
            if self._is_full or state.outbound_flow_control_window <= 0:
                return
            stream = state.streams.get(exchange.number)
            if stream is not None and stream.outbound_flow_control_window > 0:
                self._blocked.pop(exchange, None)
                exchange.resume()

    def _flush(self) -> None:
        if data := self._state.data_to_send():
            self.transport.write(data)

    # The producer of the transport

    def pauseProducing(self) -> None:  # noqa: N802
        """Pause, and read nothing: every request that is read has to be answered."""
        self._is_full = True
        self._intake.hold()

    def resumeProducing(self) -> None:  # noqa: N802
        """Write on, and read."""
        self._is_full = False
        self._go_on()
        if not self._is_full:
            self._intake.go_on()

    def stopProducing(self) -> None:  # noqa: N802
        """Do nothing: the transport is closing, and calls :meth:`connectionLost` next."""

    # Ending

    def _go_away(self) -> None:
        """Make the client send new requests elsewhere; open exchanges stay (RFC 9113 §6.8).

        The state of ``h2`` would end everything, so it is not involved.
        """
        self._is_going = True
        frame = GoAwayFrame(last_stream_id=self._state.highest_inbound_stream_id)
        self.transport.write(frame.serialize())

    def close_idle(self) -> None:
        """Close an idle connection, after the bytes that are on their way."""
        self._close(ErrorCodes.NO_ERROR)

    def _close(self, error: ErrorCodes | None = None) -> None:
        """End the connection, after the bytes that are on their way: a client has to see why."""
        self._is_over = True
        if error is not None:
            self._state.close_connection(error)
        self._flush()
        for exchange in [*self._exchanges.values()]:
            exchange.lost(Failure(ConnectionDone()))
        self._stop_waiting()
        self._intake.stop()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _wait(self, seconds: float, then: Callable[..., object], *arguments: object) -> None:
        self._stop_waiting()
        self._deadline = self.call_later(seconds, then, *arguments)

    def _stop_waiting(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def _is_failure(event: Event) -> bool:
    """Whether a client says with `event` that it has failed, after which it hears nothing more."""
    return isinstance(event, ConnectionTerminated) and event.error_code != ErrorCodes.NO_ERROR
