"""Whether the caller is in a span: what OpenTelemetry says, and nothing where it is not loaded."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from sinapse.tracing.caller import is_loaded, is_recorded, within

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_it_is_recorded_if_the_span_of_the_caller_is_sampled() -> None:
    assert is_loaded()
    assert not is_recorded()
    for flags in (0, 1, 3):
        with use_span(NonRecordingSpan(SpanContext(1, 1, True, TraceFlags(flags)))):
            assert is_recorded() == bool(flags)
    assert not is_recorded()


@pytest.mark.parametrize("present", [None, sys], ids=["not loaded", "half loaded"])
def test_where_it_is_not_loaded_nothing_is_recorded(
    monkeypatch: pytest.MonkeyPatch, present: object
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", present)
    assert not is_loaded()
    assert not is_recorded()
    with within(PARENT, None):
        assert not is_recorded()


def test_a_block_is_in_the_span_that_is_named_and_in_none_otherwise() -> None:
    with within(PARENT, "a=1"):
        assert is_recorded()
        for other in (None, "nonsense", f"{PARENT[:-1]}0"):
            with within(other, None):
                assert not is_recorded()
        assert is_recorded()
    assert not is_recorded()
