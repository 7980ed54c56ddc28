"""Spans of messages: their names, and where they belong. Those that are sent: test_tracing.py."""

from __future__ import annotations

import pytest

from sinapse.tracing.spans import (
    Operation,
    Span,
    context_of,
    entered,
    fields_of_caller,
    template_of,
)

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("channel", "template"),
    [
        ("room:12", "room:{id}"),
        ("tenant:1:room:2", "tenant:{id}"),
        ("inbox@42", "inbox@{id}"),
        ("inbox@a:b", "inbox@{id}"),
        ("news", "news"),
        ("", ""),
    ],
)
def test_a_template_stands_for_all_channels_of_a_kind(channel: str, template: str) -> None:
    assert template_of(channel) == template


def test_without_anybody_who_records_the_trace_goes_on_unchanged() -> None:
    span = Span(Operation.PUBLISH, ["room:1"], parent={"traceparent": PARENT, "tracestate": "a=1"})
    assert span.fields == {"traceparent": PARENT, "tracestate": "a=1"}
    span.end(ValueError("no"))


def test_the_caller_is_in_the_span_that_was_entered() -> None:
    assert fields_of_caller() == {}
    with entered(PARENT, None):
        assert fields_of_caller() == {"traceparent": PARENT}
    assert fields_of_caller() == {}


@pytest.mark.parametrize("parent", ["", "x", PARENT[:-1], "00-" + "0" * 32 + PARENT[35:]])
def test_what_names_no_span_is_the_context_of_nobody(parent: str) -> None:
    assert context_of({"traceparent": parent}) == {}
