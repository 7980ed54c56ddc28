"""The trace that a message belongs to, as it travels with it: W3C Trace Context, level 1.

``traceparent`` is 55 characters: a version, the id of the trace, the id of the span in which the
message was published, and flags. ``tracestate`` is what tracing systems add for themselves.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

#: What they are called, in the map of a payload and as fields of HTTP.
PARENT = "traceparent"
STATE = "tracestate"

#: Characters of a tracestate that goes along: with the name of a stream and all else, what follows
#: the id of a message is then at most 255 bytes, which is what a script of Redis can be told of it.
MAX_STATE = 96

#: The only version that there is. Ids of zeros only are none.
_PARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")

#: The flag of a trace that is sampled.
_SAMPLED = 1


class Trace(NamedTuple):
    """The place of a message in a trace that is recorded; others are not sent."""

    parent: str
    state: str | None = None

    def fields(self) -> dict[str, str]:
        """Return what goes into the map of a payload, or into the head of a request."""
        return {PARENT: self.parent} | ({} if self.state is None else {STATE: self.state})


def parse_trace(parent: object, state: object = None) -> Trace | None:
    """Return the trace that two values name; None if they are foreign, or it is not sampled.

    A `state` that is too long, or no text, is left out: a trace is whole without it.
    """
    match = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
    if match is None or not int(match[1], 16) & _SAMPLED:
        return None
    is_good = isinstance(state, str) and 0 < len(state) <= MAX_STATE and _is_visible(state)
    return Trace(match[0], str(state) if is_good else None)


def trace_in(extras: Mapping[Any, Any]) -> Trace | None:
    """Return the trace that is in the map of a payload, if there is one."""
    parent = extras.get(PARENT)
    return None if parent is None else parse_trace(parent, extras.get(STATE))


def _is_visible(text: str) -> bool:
    return text.isascii() and text.isprintable()
