"""Keep-alive: never silent for longer than the interval, never more than that takes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from sinapse.streams.keepalive import BUCKETS, KeepAlive

#: Seconds, and such that a tick is a binary fraction: all sums of times here are exact.
INTERVAL = 15.0
TICK = INTERVAL / 2 / BUCKETS
TICKS = 2 * BUCKETS
"""Ticks an interval."""


class Stream:
    """A stream that notes when something was written to it: at the beginning, its head."""

    def __init__(self, clock: Clock) -> None:
        self.quiet = False
        self.written = [clock.seconds()]
        self.kept_alive: list[float] = []
        #: How many messages there were when one was written to all streams together.
        self.together = 0
        self._clock = clock

    def write(self) -> None:
        self.quiet = False
        self.written.append(self._clock.seconds())

    def keep_alive(self) -> None:
        self.kept_alive.append(self._clock.seconds())
        self.write()


class Broken(Stream):
    """A stream that cannot be written to, to the surprise of all."""

    def keep_alive(self) -> None:
        super().keep_alive()
        self.quiet = True
        raise RuntimeError("broken")


class Running:
    """A ring that runs on a clock of ours."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.messages = 0
        self.ring = KeepAlive(
            INTERVAL,
            self.clock,
            now=lambda: self.messages,
            has_written_to=lambda stream, since: bool(stream.together > since),
        )
        self.ring.start()

    def stream(self) -> Stream:
        stream = Stream(self.clock)
        self.ring.add(stream)
        return stream

    def write_together(self, stream: Stream) -> None:
        """Write a message past the stream itself."""
        self.messages += 1
        stream.together = self.messages
        stream.written.append(self.clock.seconds())

    def run(self, ticks: int) -> None:
        self.clock.pump([TICK] * ticks)


@pytest.fixture
def running() -> Running:
    return Running()


def test_an_idle_stream_gets_one_keep_alive_an_interval(running: Running) -> None:
    running.run(7)
    stream = running.stream()
    running.run(20 * TICKS)
    times = stream.kept_alive
    assert 19 <= len(times) <= 20
    assert {after - before for before, after in pairwise(times)} == {INTERVAL}


def test_a_busy_stream_gets_none(running: Running) -> None:
    stream = running.stream()
    for _ in range(10 * TICKS):
        running.run(1)
        stream.write()
    assert stream.kept_alive == []


def test_a_stream_that_writes_twice_an_interval_gets_none(running: Running) -> None:
    stream = running.stream()
    for _ in range(20):
        running.run(BUCKETS)
        stream.write()
    assert stream.kept_alive == []


@given(
    start=st.integers(0, TICKS),
    # Each write: so many ticks after the one before, and this part of a tick; of the stream itself,
    # or past it.
    writes=st.lists(
        st.tuples(st.integers(0, 3 * TICKS), st.sampled_from((0, 0.5)), st.booleans()),
        max_size=15,
    ),
)
@example(
    start=0,
    writes=[
        (BUCKETS - 1, 0.5, False),
        (0, 0.5, False),
        (BUCKETS, 0, False),
        (BUCKETS, 0.5, False),
    ],
)
@settings(deadline=None, max_examples=150)
def test_no_stream_is_silent_for_longer_than_the_interval(
    start: int, writes: list[tuple[int, float, bool]]
) -> None:
    running = Running()
    running.run(start)
    stream = running.stream()
    for ticks, part, is_past_it in writes:
        running.run(ticks)
        # In the middle of a tick the clock stands there, and then at the end of it.
        running.clock.advance(TICK * part)
        if is_past_it:
            running.write_together(stream)
        else:
            stream.write()
        running.clock.advance(TICK * part)
    running.run(2 * TICKS)
    times = stream.written
    pauses = [after - before for before, after in pairwise(times)]
    assert max(pauses) <= INTERVAL
    assert running.clock.seconds() - times[-1] <= INTERVAL
    # And no keep-alive while something was written in the half of the interval before.
    for time in stream.kept_alive:
        before = max(each for each in times if each < time)
        assert time - before >= INTERVAL / 2


def test_streams_that_open_at_once_are_not_all_visited_at_once(running: Running) -> None:
    streams = [running.stream() for _ in range(3000)]
    running.run(3 * TICKS)
    for interval in range(1, 3):
        times = Counter(
            time
            for stream in streams
            for time in stream.kept_alive
            if interval * INTERVAL < time <= (interval + 1) * INTERVAL
        )
        assert times.total() == 3000
        assert set(times.values()) == {3000 // BUCKETS}


def test_a_stream_that_raises_does_not_stop_the_ring(running: Running) -> None:
    broken = [Broken(running.clock) for _ in range(BUCKETS)]
    for each in broken:
        running.ring.add(each)
    streams = [running.stream() for _ in range(BUCKETS)]
    with capturedLogs() as events:
        running.run(4 * TICKS)
    assert all(len(stream.kept_alive) >= 3 for stream in streams)
    failures = [event for event in events if "log_failure" in event]
    assert len(failures) == sum(len(each.kept_alive) for each in broken)
    assert all(event["log_failure"].check(RuntimeError) for event in failures)


def test_a_stream_that_left_gets_nothing_more(running: Running) -> None:
    gone, stays = Stream(running.clock), Stream(running.clock)
    bucket = running.ring.add(gone)
    running.ring.add(stays)
    running.run(2 * TICKS)
    running.ring.discard(gone, bucket)
    running.ring.discard(gone, bucket)
    count = len(gone.kept_alive)
    running.run(4 * TICKS)
    assert len(gone.kept_alive) == count
    assert len(stays.kept_alive) > count + 2


def test_a_stream_that_leaves_in_the_middle_of_a_visit_disturbs_nobody(running: Running) -> None:
    class Leaving(Stream):
        """Its write fails, which ends it at once."""

        def keep_alive(self) -> None:
            super().keep_alive()
            running.ring.discard(self, bucket)

    leaving = Leaving(running.clock)
    bucket = running.ring.add(leaving)
    streams = [running.stream() for _ in range(3 * BUCKETS)]
    running.run(4 * TICKS)
    assert len(leaving.kept_alive) == 1
    assert all(len(stream.kept_alive) >= 3 for stream in streams)


def test_nothing_runs_before_the_start_nor_after_the_stop() -> None:
    clock = Clock()
    ring = KeepAlive(INTERVAL, clock)
    stream = Stream(clock)
    ring.add(stream)
    ring.stop()
    clock.pump([TICK] * 3 * TICKS)
    assert stream.kept_alive == []
    ring.start()
    ring.stop()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("life", [INTERVAL / 2, 10 * INTERVAL, 3600])
def test_every_stream_is_refreshed_once_a_life_and_not_all_at_once(life: float) -> None:
    clock = Clock()
    refreshed: dict[Stream, list[float]] = {}

    def refresh(stream: Stream) -> None:
        refreshed.setdefault(stream, []).append(clock.seconds())

    ring = KeepAlive(INTERVAL, clock, refresh, life)
    ring.start()
    streams = [Stream(clock) for _ in range(3 * BUCKETS)]
    for stream in streams:
        ring.add(stream)
    clock.pump([TICK] * round(3 * life / TICK))
    assert refreshed.keys() == set(streams)
    for times in refreshed.values():
        assert len(times) == 3
        assert {after - before for before, after in pairwise(times)} == {life}
    at_once = Counter(at for times in refreshed.values() for at in times)
    assert max(at_once.values()) == 3
    # Keep-alives go on beside it.
    assert all(stream.kept_alive for stream in streams) or life < INTERVAL
