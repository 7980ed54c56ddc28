"""What traces cost a publisher: off, on and not sampled, on and sampled, beside no look at all.

Usage: python bench/tracing.py [MESSAGES ROUNDS]

As in bench/publish.py, with a publisher alone, one message after the other. *No look* is a
publisher that never asks for the span of its caller; *off* is one whose process has not loaded
OpenTelemetry. A message that is sampled has a span, whose export is left out here: it is in a
thread of its own. The rounds are interleaved and the figures are medians: compare the ratios, which
are to *no look*. Goals: off 1.00, not sampled 0.95 or more.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span  # noqa: E402
from publish import CHANNELS, DATA, Way, compare, one_by_one  # noqa: E402

from sinapse.protocol.names import PLAIN  # noqa: E402
from sinapse.publisher import Publisher  # noqa: E402
from sinapse.publisher.operations import spans  # noqa: E402
from tests.support import running_redis  # noqa: E402

DEFAULTS = 5000, 15

Around = Callable[[], AbstractContextManager[object]]


@contextlib.contextmanager
def no_look() -> Iterator[None]:
    """Let publishers not ask for a span."""
    look = spans.sending
    spans.sending = lambda _operations: None
    try:
        yield
    finally:
        spans.sending = look


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Let it seem as if OpenTelemetry were not loaded."""
    loaded = sys.modules.pop("opentelemetry.trace")
    try:
        yield
    finally:
        sys.modules["opentelemetry.trace"] = loaded


def in_a_span(flags: int) -> Around:
    """Return what is in a span with these flags."""
    context = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(flags))
    return lambda: use_span(NonRecordingSpan(context))


def around(block: Around, publish: Way) -> Way:
    """Publish in a block."""

    def run(messages: int) -> None:
        with block():
            publish(messages)

    return run


def main() -> None:
    """Print the tables."""
    messages, rounds = DEFAULTS if len(sys.argv) < 3 else map(int, sys.argv[1:3])
    print(f"{rounds} rounds of {messages} messages of {len(DATA)} bytes, {len(CHANNELS)} channels")
    print("ratios: messages a second, messages a second of processor time")
    trace.set_tracer_provider(TracerProvider(sampler=ParentBased(TraceIdRatioBased(0))))
    blocks: dict[str, Around] = {
        "no look": no_look,
        "off": off,
        "on, in no span": contextlib.nullcontext,
        "on, not sampled": in_a_span(0),
        "on, sampled": in_a_span(1),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(Path(folder)) as server,
        server.client() as client,
        client.pubsub() as node,
        Publisher(server.url) as publisher,
    ):
        node.subscribe(PLAIN.nodes)
        node.get_message(timeout=10)
        for retain in (0, 300):

            def publish(channel: str, retain: int = retain) -> object:
                return publisher.publish(channel, DATA, retain=retain)

            ways = {
                f"{name}, retain={retain}": around(block, one_by_one(publish))
                for name, block in blocks.items()
            }
            compare(client, ways, messages, rounds)


if __name__ == "__main__":
    main()
