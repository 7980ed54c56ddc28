"""Spans of what is published, where OpenTelemetry or what was added to it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from sinapse.publisher import Publisher, aio
from sinapse.publisher.operations import spans
from sinapse.ratelimit import LogLimit
from tests.support import RedisServer


class _Sampler(Sampler):
    """One of an application, which has a fault."""

    is_faulty = False

    def should_sample(self, *arguments: object, **more: object) -> SamplingResult:
        if self.is_faulty:
            raise RuntimeError("a fault of the sampler")
        return ALWAYS_ON.should_sample(*arguments, **more)  # type: ignore[arg-type]

    def get_description(self) -> str:
        return "faulty"


class _Processor(SpanProcessor):
    """The same of a processor: at the beginning of a span, or at its end."""

    faulty_at = ""

    def on_start(self, span: Span, parent_context: object = None) -> None:
        if self.faulty_at == "start":
            raise RuntimeError("a fault of the processor")

    def on_end(self, span: ReadableSpan) -> None:
        if self.faulty_at == "end":
            raise RuntimeError("a fault of the processor")


class _Span(NonRecordingSpan):
    """One of a library that has a fault."""

    def get_span_context(self) -> SpanContext:
        raise RuntimeError("a fault of the span")


@pytest.fixture(params=["span", "sampler", "start", "end"])
def _faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in a span that is sampled, while OpenTelemetry fails."""
    sampler, processor = _Sampler(), _Processor()
    sampler.is_faulty = request.param == "sampler"
    processor.faulty_at = request.param
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    warn = LogLimit(logging.getLogger(spans.__name__).warning, lambda: 0.0)
    monkeypatch.setattr(spans, "_warn", warn)
    context = SpanContext(1, 1, True, TraceFlags(1))
    with use_span((_Span if request.param == "span" else NonRecordingSpan)(context)):
        yield


@pytest.mark.usefixtures("_faulty")
def test_what_is_published_is_published_whatever_fails_around_it(
    publisher: Publisher, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def published() -> list[int]:
        async with aio.Publisher(str(publisher.url)) as other:
            alone = await other.publish("a", "4")
            return [alone, *await other.publish_many([("a", "5"), ("a", "6")])]

    with redis_server.client() as client, client.pubsub() as listening:
        listening.subscribe("a")
        assert listening.get_message(timeout=5) is not None
        results = [publisher.publish("a", "1"), *publisher.publish_many([("a", "2"), ("a", "3")])]
        assert [*results, *asyncio.run(published())] == [1] * 6
        for _ in range(6):
            assert listening.get_message(timeout=5) is not None
    [line] = caplog.messages
    assert "OpenTelemetry has failed" in line
