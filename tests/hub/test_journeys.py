"""What is told of messages: how old they are, and that they belong to a trace.

Of each once, when its last stream has it.
"""

from __future__ import annotations

from twisted.internet.task import Clock

from sinapse.counters import Stopwatch
from sinapse.hub.fanout import FanOuts
from sinapse.hub.journeys import Journey
from sinapse.protocol.message import Message
from sinapse.protocol.trace import Trace
from tests.support.hubs import Lines, Table

TRACE = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def aged(data: str, at: float) -> Message:
    return Message(data, at=at)


def traced(data: str, but: str | None = None) -> Message:
    return Message(data, but=but, trace=TRACE)


def told(table: Table, *published: tuple[bytes, Message]) -> list[tuple[bytes, str, int]]:
    """Dispatch messages in one read; returns channel, data and streams of what is told of."""
    journeys: list[Journey] = []
    table.hub.journeys.trace = journeys.append
    for channel, message in published:
        table.hub.dispatch(channel, message)
    table.hub.flush()
    assert all(journey.seconds >= 0 for journey in journeys)
    return [(journey.channel, journey.message.data, journey.streams) for journey in journeys]


def test_each_message_of_a_trace_is_told_with_the_number_of_its_streams(table: Table) -> None:
    table.open(b"a", b"b")
    table.open(b"a", subject=b"2", framing=Lines("other"))
    assert told(table, (b"a", traced("1"))) == [(b"a", "1", 2)]
    read = [(b"a", traced("2")), (b"a", Message("3")), (b"b", traced("4")), (b"c", traced("5"))]
    assert told(table, *read) == [(b"a", "2", 2), (b"b", "4", 1)]


def test_who_does_not_get_it_is_not_counted(table: Table) -> None:
    table.open(b"a", name="mine")
    assert told(table, (b"a", traced("1", but="mine"))) == []
    table.open(b"a", subject=b"2")
    assert told(table, (b"a", traced("2", but="mine"))) == [(b"a", "2", 1)]
    both = [(b"a", traced("3", but="mine")), (b"a", traced("4"))]
    assert told(table, *both) == [(b"a", "3", 1), (b"a", "4", 2)]


def test_a_large_fan_out_is_told_once_with_its_last_slice_whatever_its_framings(
    table: Table,
) -> None:
    table.hub.fan_outs = FanOuts(table.hub.stopwatch, lambda: None, slice_size=2)
    for number in range(6):
        framing = table.framing if number < 3 else Lines("other")
        table.open(b"a", subject=b"%d" % number, framing=framing)
    other = Lines("another")
    for number in range(6, 9):
        table.open(b"a", subject=b"%d" % number, framing=other)
    journeys: list[Journey] = []
    table.hub.journeys.trace = journeys.append
    table.hub.dispatch(b"a", traced("1"))
    table.hub.flush()
    while table.hub.fan_outs:
        assert journeys == []
        table.hub.fan_outs.go_on()
    assert [journey.streams for journey in journeys] == [9]
    assert sum(table.counters.fan_out_seconds.counts) == 1


class Clocked:
    """A table whose laps are of a clock, behind which that of Redis is ahead by 1,000 seconds."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.hub = table.hub
        self.clock = Clock()
        counters = table.counters
        self.hub.stopwatch = Stopwatch(
            counters.fan_out_seconds, counters.delivery_seconds, self.clock.seconds
        )
        self.hub.stopwatch.stopped = self.hub.journeys.ended
        self.hub.fan_outs = FanOuts(self.hub.stopwatch, lambda: None, slice_size=2)
        self.hub.journeys.note_clock(1000.0)

    @property
    def ages(self) -> tuple[int, float]:
        """How many ages were counted, and their sum."""
        ages = self.table.counters.message_age_seconds
        return sum(ages.counts), ages.sum

    def publish(self, *messages: Message) -> None:
        for message in messages:
            self.hub.dispatch(b"a", message)
        self.hub.flush()


def test_a_message_is_as_old_as_the_clock_of_redis_says_when_its_last_stream_has_it(
    table: Table,
) -> None:
    it = Clocked(table)
    for number in range(3):
        table.open(b"a", subject=b"%d" % number)
    it.clock.advance(10)
    it.publish(aged("1", 1009.5), Message("2"), aged("3", 1009.75))
    assert it.ages == (0, 0.0)
    it.clock.advance(2)
    while it.hub.fan_outs:
        it.hub.fan_outs.go_on()
    assert it.ages == (2, 2.5 + 2.25)


def test_an_age_is_not_below_zero_and_none_where_the_clock_or_a_stream_is_missing(
    table: Table,
) -> None:
    it = Clocked(table)
    it.publish(aged("1", 999.0))
    assert it.ages == (0, 0.0)
    stream = table.open(b"a")
    it.publish(aged("2", 1000.25))
    assert it.ages == (1, 0.0)
    it.hub.journeys.redis_ahead = None
    it.publish(aged("3", 999.0))
    assert it.ages == (1, 0.0)
    assert stream.data == ["2", "3"]


def test_an_age_that_cannot_be_is_not_counted(table: Table) -> None:
    it = Clocked(table)
    stream = table.open(b"a")
    # The clock of Redis was set by hours, there and back; and who says the time is no script.
    for at in (1000.0 - 7200, 1000.0 + 7200, 0.0, 9_999_999_999.0):
        it.publish(aged("x", at))
    assert it.ages == (0, 0.0)
    it.publish(aged("y", 998.0))
    assert it.ages == (1, 2.0)
    assert len(stream.data) == 5
