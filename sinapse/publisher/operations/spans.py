"""Spans of what is published, in the trace of the caller, and in that of who has stored a message.

One call is one span, whether of one message or of many: each carries its context to the nodes. Who
is in no span that is recorded pays for one look, and sends what it would send otherwise. Where
OpenTelemetry fails, or what an application has added to it, the log says so: what is published is
published all the same.
"""

import logging
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sinapse.protocol.trace import PARENT, STATE, Trace, parse_trace
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.published import Published
from sinapse.ratelimit import LogLimit
from sinapse.tracing.caller import is_loaded, is_recorded

_log = logging.getLogger(__name__)
_warn = LogLimit(_log.warning, time.monotonic)


class Sending:
    """The span of `messages`, which are among `operations`, for the length of a block.

    It is in the trace of `parent`, or else in that of the caller.
    """

    def __init__(
        self,
        messages: Sequence[Publish],
        operations: Sequence[Operation[Any]],
        parent: Mapping[str, str] | None = None,
    ) -> None:
        self._operations = operations
        self._messages = messages
        self._span = _span({each.channel for each in messages}, len(messages), parent)
        if (trace := _trace(self._span.fields)) is not None:
            for each in messages:
                each.message = each.message._replace(trace=trace)
        self._error: BaseException | None = None

    def ended(self, results: list[Any]) -> list[Any]:
        """Take note of the results of the operations, and return them."""
        for operation, result in zip(self._operations, results, strict=True):
            if type(operation) is Publish and isinstance(result, Exception):
                self._error = result
                break
        if len(self._messages) == 1:
            result = results[self._operations.index(self._messages[0])]
            if isinstance(result, Published) and result.id is not None:
                with _apart():
                    self._span.note_message_id(result.id)
        return results

    async def awaited(self, carrying: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        """Carry the operations out, and return their results."""
        with self:
            return self.ended(await carrying)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _apart():
            self._span.end(error or self._error)


def sending(operations: Sequence[Operation[Any]]) -> Sending | None:
    """Return the span of the messages among `operations`; None if there is to be none."""
    if not _is_recorded():
        return None
    # Of several Redis each comes here again, with its part.
    messages = [each for each in operations if type(each) is Publish and not each.message.trace]
    return _begun(messages, operations) if messages else None


def resumed(operation: Publish, trace: Trace | None) -> Sending | None:
    """Return the span of a message in the trace that it was stored with, if it was with one.

    Where there can be no span the message keeps that trace.
    """
    if trace is None:
        return None
    span = _begun([operation], [operation], trace.fields()) if is_loaded() else None
    if span is None:
        operation.message = operation.message._replace(trace=trace)
    return span


def caller() -> Trace | None:
    """Return the trace that the caller is in, to store it with a message; None if in none."""
    if not _is_recorded():
        return None
    from sinapse.tracing.spans import fields_of_caller  # noqa: PLC0415  # As below.

    fields: dict[str, str] = {}
    with _apart():
        fields = fields_of_caller()
    return _trace(fields)


def _is_recorded() -> bool:
    try:
        return is_recorded()
    except Exception as error:  # noqa: BLE001  # As below: spans too.
        _failed(error)
        return False


def _begun(
    messages: Sequence[Publish],
    operations: Sequence[Operation[Any]],
    parent: Mapping[str, str] | None = None,
) -> Sending | None:
    try:
        return Sending(messages, operations, parent)
    except Exception as error:  # noqa: BLE001  # As below.
        _failed(error)
        return None


@contextmanager
def _apart() -> Iterator[None]:
    """Let a fault of those who trace be no fault of what is published."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # Samplers and processors may be anybody's.
        _failed(error)


def _failed(error: Exception) -> None:
    _warn(f"OpenTelemetry has failed: {error!r}")


def _span(channels: set[str], count: int, parent: Mapping[str, str] | None) -> Any:
    # It loads OpenTelemetry, which is there already.
    from sinapse.tracing.spans import Operation as Kind  # noqa: PLC0415
    from sinapse.tracing.spans import Span  # noqa: PLC0415

    return Span(Kind.PUBLISH, channels, count, parent=parent)


def _trace(fields: Mapping[str, str]) -> Trace | None:
    return parse_trace(fields.get(PARENT), fields.get(STATE))
