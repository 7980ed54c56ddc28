"""OpenTelemetry, as far as Sinapse needs it: the extra ``otel``. See ``docs/howto-tracing.md``.

``caller``      whether the caller is in a span, without loading anything
``spans``       spans of messages; loaded only where there are some
``exporting``   a process that sends its spans somewhere, as its environment says
"""
