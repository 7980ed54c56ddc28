"""A process that sends its spans to a collector, as the ``OTEL_*`` of its environment say.

The library needs none of this: an application sets OpenTelemetry up itself, and what it publishes
is in its own traces.
"""

import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from threading import Thread
from typing import Any

#: What the extra brings, in the order in which one needs the other.
_PARTS = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

#: Where the collector is.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: A header field for the collector, as OpenTelemetry takes it. What it does not take it would quote
#: in the log: it may be a token.
_HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ \t]*[ !#-+\--:<-\[\]-~]*")

#: How spans are sent; gRPC is not in the extra.
_PROTOCOL = "http/protobuf"

#: Seconds for which a process that ends waits for its collector.
END_TIMEOUT = 3

#: The name of the service where the environment has none.
SERVICE = "sinapse"


def is_installed() -> bool:
    """Whether the extra is there."""
    try:
        return all(find_spec(part) is not None for part in _PARTS)
    except ModuleNotFoundError:  # Something around a part is missing.
        return False


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether spans are to be sent; raises ``ValueError`` for what the extra cannot do."""

    def value(name: str) -> str:
        return environment.get(name, "").strip()

    if value("OTEL_SDK_DISABLED").lower() == "true":
        return False
    exporter = value("OTEL_TRACES_EXPORTER")
    if exporter == "none":
        return False
    if not exporter and not any(map(value, _ENDPOINTS)):
        return False
    if exporter not in {"", "otlp"}:
        raise ValueError(f"OTEL_TRACES_EXPORTER must be otlp or none, not {exporter!r}")
    _check(value)
    return True


def _check(value: Callable[[str], str]) -> None:
    # What may have a password or a token is not quoted.
    for name in _ENDPOINTS:
        if value(name) and not value(name).lower().startswith(("http://", "https://")):
            raise ValueError(f"{name} must begin with http:// or https://")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := value(name):
            if protocol != _PROTOCOL:
                raise ValueError(f"{name} must be {_PROTOCOL}, not {protocol!r}")
            break
    for name in ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        fields = filter(None, map(str.strip, value(name).split(",")))
        if not all(map(_HEADER.fullmatch, fields)):
            raise ValueError(
                f"{name} must be name=value, several with commas between; what is not ASCII, and"
                ' any of ,;"\\ in a value, as %2C'
            )


class Exporting:
    """Collects the spans of this process, and sends them from a thread of its own.

    Make it once, after the last fork. A process that has set OpenTelemetry up by itself keeps that.
    Raises ``ValueError`` for a variable that cannot be used.
    """

    def __init__(self) -> None:
        try:
            self._provider = _set_up()
        except Exception as error:  # noqa: BLE001  # Of whatever the environment names.
            text = str(error) or type(error).__name__
            raise ValueError(f"OpenTelemetry cannot be set up: {text}") from None

    def end(self) -> None:
        """Send what waits, as far as the collector takes it soon, and nothing more."""
        if self._provider is not None:
            # It may be the end of the process, which no such thread keeps back.
            ending = Thread(target=self._provider.shutdown, daemon=True)
            ending.start()
            ending.join(END_TIMEOUT)


def begun(environment: Mapping[str, str]) -> Exporting | None:
    """Return what sends the spans of a process that may be an application's; None if nothing does.

    Where the application has set OpenTelemetry up, or the extra is missing, the variables are not
    meant for us. Raises ``ValueError`` for one that cannot be used.
    """
    if not is_installed() or _is_set_up() or not is_wanted(environment):
        return None
    return Exporting()


def _is_set_up() -> bool:
    trace: Any = sys.modules.get("opentelemetry.trace")
    return trace is not None and not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider
    )


def _set_up() -> Any:
    """Let what is traced here be sent; returns what ends that, None if it is not ours."""
    # Loaded by who sends spans, and nobody else: it is a part of a second.
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    # Who makes it ends it: at the exit of Python nothing would bound that.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
