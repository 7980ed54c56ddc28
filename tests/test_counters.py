"""How long things take, counted: buckets as Prometheus has them, and what a lap is."""

from __future__ import annotations

import bisect

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sinapse.counters import Counters, Histogram, Stopwatch
from sinapse.errors import CloseReason
from sinapse.framing.eventstream import EventStream
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Subject
from sinapse.protocol.message import Message
from tests.support.hubs import Keeper, a_descriptor, kept


@given(st.lists(st.floats(0, 10)))
def test_a_bucket_has_all_values_up_to_its_bound(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 5.0))
    for value in values:
        histogram.observe(value)
    ordered = sorted(values)
    assert histogram.buckets() == {
        **{str(bound): bisect.bisect_right(ordered, bound) for bound in (0.5, 1.0, 5.0)},
        "+Inf": len(values),
    }
    assert histogram.sum == sum(values)


class Stream:
    """A subscriber for which a second passes with each write."""

    token = b"token"
    name: str | None = None
    subject: Subject | None = None

    def __init__(self, clock: Clock, framing: EventStream) -> None:
        self.framing = framing
        self.descriptor = a_descriptor()
        self._clock = clock

    def send(self, frame: bytes) -> None:
        self._clock.advance(1)

    def close(self, reason: CloseReason) -> None:
        raise AssertionError(reason)


def crowded(count: int, slice_size: int) -> tuple[Counters, Hub, Clock]:
    """Return a hub with streams to one channel, whose time is told by the clock."""
    clock, counters = Clock(), Counters()
    keeper = Keeper()
    hub = kept(keeper, counters, Hub)
    hub.stopwatch = Stopwatch(counters.fan_out_seconds, counters.delivery_seconds, clock.seconds)
    hub.fan_outs = type(hub.fan_outs)(hub.stopwatch, keeper.turn_needed, slice_size)
    framing = EventStream(chunked=True)
    for number in range(count):
        joining = hub.join()
        hub.expect(joining, b"%d" % number, b"token", {b"room": 0})
        hub.open(joining, lambda: Stream(clock, framing))
    return counters, hub, clock


def test_a_fan_out_is_timed_from_its_beginning_and_a_delivery_from_the_read() -> None:
    counters, hub, clock = crowded(3, slice_size=100)
    hub.stopwatch.has_read()
    clock.advance(10)
    hub.dispatch(b"room", Message("hello"))
    hub.flush()
    assert counters.fan_out_seconds.sum == 3
    assert counters.delivery_seconds.sum == 13
    assert counters.delivered_bytes == 3 * len(b"d\r\ndata: hello\n\n\r\n")


def test_nothing_to_send_is_no_fan_out() -> None:
    counters, hub, _ = crowded(1, slice_size=100)
    hub.flush()
    hub.dispatch(b"nobody", Message("hello"))
    hub.flush()
    assert sum(counters.fan_out_seconds.counts) == 0


def test_a_large_fan_out_ends_with_its_last_slice() -> None:
    counters, hub, clock = crowded(5, slice_size=2)
    hub.stopwatch.has_read()
    hub.dispatch(b"room", Message("hello"))
    hub.flush()
    hub.stopwatch.has_read()  # The next read is none of its.
    assert sum(counters.fan_out_seconds.counts) == 0
    while hub.fan_outs:
        clock.advance(100)  # Others have their turn.
        hub.fan_outs.go_on()
    assert sum(counters.fan_out_seconds.counts) == 1
    assert counters.fan_out_seconds.sum == counters.delivery_seconds.sum == 205
