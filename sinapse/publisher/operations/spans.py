"""Spans of what is published, in the trace of the caller, and in that of who has stored a message.

One call is one span, whether of one message or of many: each carries its context to the nodes. Who
is in no span that is recorded pays for one look, and sends what it would send otherwise.
"""

from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from sinapse.protocol.trace import PARENT, STATE, Trace, parse_trace
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.published import Published
from sinapse.tracing.caller import is_loaded, is_recorded


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
            if isinstance(result, Exception) and operation in self._messages:
                self._error = result
        if len(self._messages) == 1:
            result = results[self._operations.index(self._messages[0])]
            if isinstance(result, Published) and result.id is not None:
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
        self._span.end(error or self._error)


def sending(operations: Sequence[Operation[Any]]) -> Sending | None:
    """Return the span of the messages among `operations`; None if there is to be none."""
    if not is_recorded():
        return None
    # Of several Redis each comes here again, with its part.
    messages = [each for each in operations if type(each) is Publish and not each.message.trace]
    return Sending(messages, operations) if messages else None


def resumed(operation: Publish, trace: Trace | None) -> Sending | None:
    """Return the span of a message in the trace that it was stored with, if it was with one.

    Where OpenTelemetry is not loaded there is no span, and the message keeps that trace.
    """
    if trace is None:
        return None
    if is_loaded():
        return Sending([operation], [operation], trace.fields())
    operation.message = operation.message._replace(trace=trace)
    return None


def caller() -> Trace | None:
    """Return the trace that the caller is in, to store it with a message; None if in none."""
    if not is_recorded():
        return None
    from sinapse.tracing.spans import fields_of_caller  # noqa: PLC0415  # As below.

    return _trace(fields_of_caller())


def _span(channels: set[str], count: int, parent: Mapping[str, str] | None) -> Any:
    # It loads OpenTelemetry, which is there already.
    from sinapse.tracing.spans import Operation as Kind  # noqa: PLC0415
    from sinapse.tracing.spans import Span  # noqa: PLC0415

    return Span(Kind.PUBLISH, channels, count, parent=parent)


def _trace(fields: Mapping[str, str]) -> Trace | None:
    return parse_trace(fields.get(PARENT), fields.get(STATE))
