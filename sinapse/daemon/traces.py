"""Traces: the spans of this process go to a collector, if the environment names one.

A message that belongs to a trace has a span here, from the read of Redis that brought it to its
last write. It is sent from a thread that is OpenTelemetry's own: the reactor never waits for it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sinapse.errors import StartError
from sinapse.hub.journeys import Journey
from sinapse.ratelimit import LogLimit, TokenBucket
from sinapse.tracing.exporting import Exporting, is_installed, is_wanted

if TYPE_CHECKING:
    from sinapse.tracing.spans import Span

#: Spans a second, and as many at once. One takes 0.13 ms, ten times as long as its message does: if
#: a call publishes ten thousand, streams are not to wait for their spans.
MAX_RATE = 500


class Traces(Service):
    """Sends the spans of this process, while the service runs."""

    _log = Logger()

    def __init__(self, environment: Mapping[str, str], reactor: Any) -> None:
        """Read the environment; raises :class:`~sinapse.errors.StartError`."""
        self._reactor = reactor
        self._exporting: Exporting | None = None
        self._warn = LogLimit(lambda text: self._log.warn("{text}", text=text), reactor.seconds)
        self._rate = TokenBucket(MAX_RATE, reactor.seconds)
        try:
            #: Whether spans are to be made.
            self.is_wanted: bool = is_wanted(environment)
        except ValueError as error:
            # Who has not installed it has not set that for us.
            if is_installed():
                raise StartError(f"sinapse: {error}") from None
            self.is_wanted = True

    def startService(self) -> None:  # noqa: N802
        """Begin; twistd has gone to the background by now, where it does, and a fork has ended."""
        super().startService()
        if not self.is_wanted:
            return
        if not is_installed():
            self._log.warn(
                "the environment says where to send traces to, but sinapse-push[otel] is not"
                " installed: there are none"
            )
            self.is_wanted = False
            return
        # What the library says of a collector that is away goes where all else is said, bounded.
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(_Handler(self._told))
        logger.propagate = False
        try:
            self._exporting = Exporting()
        except ValueError as error:
            raise StartError(f"sinapse: {error}") from None

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Send what waits, as far as the collector takes it soon."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        exporting, self._exporting = self._exporting, None
        if exporting is None:
            return
        ended: Deferred[None] = Deferred()

        def end() -> None:
            exporting.end()
            self._reactor.callFromThread(ended.callback, None)

        Thread(target=end, name="sinapse-traces", daemon=True).start()
        await ended

    def delivered(self, journey: Journey) -> None:
        """Make the span of a message that has been written to its last stream here."""
        trace = journey.message.trace
        if self._exporting is None or trace is None:
            return
        if not self._rate.available():
            self._warn(f"a span was left out: they are {MAX_RATE} a second at most")
            return
        self._rate.take()
        end = time.time_ns()
        try:
            span = _span(journey, trace.fields(), end - round(journey.seconds * 1e9))
            if journey.message.id is not None:
                span.note_message_id(journey.message.id)
            span.end(at=end)
        except Exception as error:  # noqa: BLE001  # No stream is to notice.
            self._warn(f"a span could not be made: {error}")

    def _told(self, text: str) -> None:
        self._reactor.callFromThread(self._warn, f"traces: {text}")


def _span(journey: Journey, parent: Mapping[str, str], start: int) -> "Span":
    # Loaded by those that trace, and nobody else.
    from sinapse.tracing.spans import Operation, Span  # noqa: PLC0415

    return Span(
        Operation.DELIVER,
        [journey.channel.decode(errors="replace")],
        parent=parent,
        start=start,
        attributes={"sinapse.streams": journey.streams},
    )


class _Handler(logging.Handler):
    """Gives `tell` what is logged from a warning on, in any thread."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())
