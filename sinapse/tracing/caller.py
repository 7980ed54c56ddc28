"""Whether the caller is in a span that is recorded.

An application that traces has loaded OpenTelemetry. In others nothing is loaded for it here: what
is asked then is whether Python knows the module.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The flag of a span that is sampled (W3C Trace Context §3.2.2.5.1).
_SAMPLED = 1

#: The module, and what is asked of it; another thread may be in the midst of loading it.
_API = "opentelemetry.trace"
_FIND = "get_current_span"


def is_loaded() -> bool:
    """Whether this process has loaded OpenTelemetry."""
    return hasattr(sys.modules.get(_API), _FIND)


def is_recorded() -> bool:
    """Whether the caller is in a span that is sampled: what it does then is worth spans."""
    find: Any = getattr(sys.modules.get(_API), _FIND, None)
    return find is not None and bool(find().get_span_context().trace_flags & _SAMPLED)


@contextmanager
def within(parent: str | None, state: str | None) -> Iterator[None]:
    """Let the block be in the span of a ``traceparent`` and a ``tracestate``, if they are valid.

    Without a `parent` it is in no span. Where OpenTelemetry is not loaded this does nothing.
    """
    if not is_loaded():
        yield
        return
    # Loaded as late as what it needs.
    from sinapse.tracing.spans import entered  # noqa: PLC0415

    with entered(parent, state):
        yield
