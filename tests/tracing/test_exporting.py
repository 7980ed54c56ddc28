"""Whether spans are to be sent: what the environment says. That they are: test_tracing.py."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.re import parse_env_headers

from sinapse.tracing import exporting
from sinapse.tracing.exporting import Exporting, begun, is_installed, is_wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environment",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": " otlp "},
        ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        ENDPOINT
        | {
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
    ],
)
def test_who_names_a_collector_gets_spans(environment: dict[str, str]) -> None:
    assert is_installed()
    assert is_wanted(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "push", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "True"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_who_names_none_or_wants_none_gets_none(environment: dict[str, str]) -> None:
    assert not is_wanted(environment)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER must be otlp or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, "not 'otlp,console'"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTLP_PROTOCOL must be http/protobuf"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
            "OTLP_ENDPOINT must begin with http://",
        ),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "me:pw@c"}, "begin with [^@]*$"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_HEADERS": "key"}, "OTLP_HEADERS must be name=value"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=b,c"}, "TRACES_HEADERS must be name="),
    ],
)
def test_what_the_extra_cannot_do_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        is_wanted(environment)


class _Said(logging.Handler):
    """Whether anything was logged."""

    anything = False

    def emit(self, record: logging.LogRecord) -> None:
        self.anything = True


def is_taken(text: str) -> bool:
    """Whether OpenTelemetry takes the text of header fields, and so quotes nothing of it."""
    said = _Said()
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(said)
    try:
        parse_env_headers(text, liberal=True)
    finally:
        logger.removeHandler(said)
    return not said.anything


characters = st.characters(max_codepoint=300, exclude_categories=["C", "Z"])


@given(st.lists(st.text(characters | st.sampled_from("=, \t")), max_size=3))
def test_a_field_for_the_collector_is_either_taken_or_refused_without_a_word_of_it(
    parts: list[str],
) -> None:
    text = ",".join(["authorization=Bearer SECRET", *parts])
    environment = ENDPOINT | {"OTEL_EXPORTER_OTLP_HEADERS": text}
    if is_taken(text):
        assert is_wanted(environment)
        return
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_HEADERS must be") as refusal:
        is_wanted(environment)
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    ["OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER"],
)
def test_what_it_cannot_be_set_up_with_is_one_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "nonsense")
    with pytest.raises(ValueError, match="OpenTelemetry cannot be set up"):
        Exporting()


@pytest.mark.parametrize("environment", [ENDPOINT, ENDPOINT | {"OTEL_TRACES_EXPORTER": "console"}])
def test_the_relay_of_an_application_that_has_its_own_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    own = TracerProvider(shutdown_on_exit=False)
    with monkeypatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: own)
        assert begun(environment) is None
    monkeypatch.setattr(exporting, "is_installed", lambda: False)
    assert begun(environment) is None


def test_a_relay_begins_with_nothing_where_nobody_names_a_collector() -> None:
    assert begun({}) is None
    with pytest.raises(ValueError, match="must be otlp or none"):
        begun({"OTEL_TRACES_EXPORTER": "console"})
