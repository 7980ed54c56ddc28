"""Spans of messages, by the conventions of OpenTelemetry for messaging.

A channel's name may be one of very many, so the name of a span has a template in its place:
``publish room:{id}`` for all rooms. The name itself is an attribute.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TypeAlias

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span as AnySpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sinapse import __version__

_propagator = TraceContextTextMapPropagator()

#: What a channel's name begins with that is one of many: ``room:``, ``inbox@``.
_KIND = re.compile("[^:@]*[:@]")

Value: TypeAlias = str | int


class Operation(Enum):
    """What is done with messages: a name of ours, the type of the conventions, a kind of span."""

    PUBLISH = ("publish", "send", SpanKind.PRODUCER)
    DELIVER = ("deliver", "process", SpanKind.CONSUMER)


class Span:
    """One that is under way, in the trace of `parent`, or else in that of the caller.

    It is of `count` messages to `channels`. `start` is in nanoseconds since 1970; now, if it is not
    given.
    """

    def __init__(
        self,
        operation: Operation,
        channels: Collection[str],
        count: int = 1,
        *,
        parent: Mapping[str, str] | None = None,
        start: int | None = None,
        attributes: Mapping[str, Value] | None = None,
    ) -> None:
        name, kind_of_operation, kind = operation.value
        known: dict[str, Value] = {
            "messaging.system": "sinapse",
            "messaging.operation.name": name,
            "messaging.operation.type": kind_of_operation,
        }
        if len(channels) == 1:
            [channel] = channels
            known["messaging.destination.name"] = channel
            name = f"{name} {template_of(channel)}"
            if template_of(channel) != channel:
                known["messaging.destination.template"] = template_of(channel)
        if count > 1:
            known["messaging.batch.message_count"] = count
        self._around: Context = contexts.get_current() if parent is None else context_of(parent)
        self._span: AnySpan = trace.get_tracer("sinapse", __version__).start_span(
            name,
            context=self._around,
            kind=kind,
            attributes=known | (dict(attributes) if attributes else {}),
            start_time=start,
        )

    @property
    def fields(self) -> dict[str, str]:
        """What travels with its messages: ``traceparent``, and ``tracestate`` if there is one."""
        # Where nobody has set OpenTelemetry up, it may be none: then the trace goes on around it.
        is_one = self._span.get_span_context().is_valid
        return _fields(trace.set_span_in_context(self._span) if is_one else self._around)

    def note_message_id(self, identifier: str) -> None:
        """Note the id of its only message."""
        self._span.set_attribute("messaging.message.id", identifier)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """End it, for an `error` if there was one; `at` is as the start."""
        if error is not None:
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end(at)


def template_of(channel: str) -> str:
    """Return what stands for all channels of its kind; itself if it is the only one."""
    kind = _KIND.match(channel)
    return channel if kind is None else f"{kind[0]}{{id}}"


def fields_of_caller() -> dict[str, str]:
    """Return the ``traceparent`` of the current span, and its ``tracestate`` if it has one."""
    return _fields(contexts.get_current())


def _fields(context: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return carrier


def context_of(fields: Mapping[str, str]) -> Context:
    """Return the context that a ``traceparent`` and a ``tracestate`` name; empty if invalid."""
    return _propagator.extract(fields, Context())


@contextmanager
def entered(parent: str | None, state: str | None) -> Iterator[None]:
    """Let the block be in the span of these; in none if they name none."""
    fields = {"traceparent": parent, "tracestate": state}
    given = {name: value for name, value in fields.items() if value is not None}
    token = contexts.attach(context_of(given))
    try:
        yield
    finally:
        contexts.detach(token)
