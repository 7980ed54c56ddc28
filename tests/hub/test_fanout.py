"""Fan-outs in slices: everybody gets all frames once and in order, and nobody is kept waiting."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sinapse.counters import Histogram, Stopwatch
from sinapse.hub.fanout import MAX_WAITING, FanOuts
from sinapse.hub.subscribers import Subscriber
from tests.support.hubs import Lines, Stream

FRAMING = Lines()


class FanOutMachine(RuleBasedStateMachine):
    """Fan-outs of all sizes, the turns that they ask for, and streams that end in between."""

    def __init__(self) -> None:
        super().__init__()
        self.times = Histogram()
        self.stopwatch = Stopwatch(self.times, Histogram())
        self.turns = 0
        self.fan_outs = FanOuts(self.stopwatch, self.ask_for_a_turn)
        self.streams = [Stream(FRAMING, number=number) for number in range(8)]
        self.due: dict[Stream, list[bytes]] = {stream: [] for stream in self.streams}
        self.forgotten: set[Stream] = set()
        self.begun = self.number = 0

    @initialize(slice_size=st.integers(1, 4))
    def begin(self, slice_size: int) -> None:
        self.fan_outs.slice_size = slice_size

    def ask_for_a_turn(self) -> None:
        assert not self.turns, "asked for twice"
        self.turns += 1

    def sends(self) -> int:
        return sum(len(stream.sent) for stream in self.streams)

    @rule(numbers=st.lists(st.integers(0, 7), min_size=1, unique=True), frames=st.integers(1, 3))
    def publish(self, numbers: list[int], frames: int) -> None:
        outbox: dict[Subscriber, list[bytes]] = {}
        for stream in (self.streams[number] for number in numbers):
            if stream not in self.forgotten:
                self.number += 1
                made = [b"%d.%d " % (self.number, part) for part in range(frames)]
                outbox[stream] = made
                self.due[stream] += made
        if outbox:
            is_large = len(outbox) > self.fan_outs.slice_size
            lap = self.stopwatch.start()
            was_timed = sum(self.times.counts)
            self.begun += 1
            if self.fan_outs.begin(outbox, lap):
                # Who has begun it says when it is done.
                assert not is_large
                assert sum(self.times.counts) == was_timed
                self.stopwatch.stop(lap)

    @rule()
    @precondition(lambda self: self.turns)
    def take_a_turn(self) -> None:
        self.turns = 0
        before = self.sends()
        self.fan_outs.go_on()
        assert self.sends() - before <= self.fan_outs.slice_size

    @rule(number=st.integers(0, 7))
    def one_cannot_wait(self, number: int) -> None:
        stream = self.streams[number]
        self.fan_outs.finish(stream)
        if stream not in self.forgotten:
            assert b"".join(stream.sent) == b"".join(self.due[stream])

    @rule(number=st.integers(0, 7))
    def one_ends(self, number: int) -> None:
        stream = self.streams[number]
        self.fan_outs.forget(stream)
        self.forgotten.add(stream)
        self.due[stream] = list(stream.sent)

    @invariant()
    def what_has_come_is_what_was_due_in_order(self) -> None:
        for stream in self.streams:
            assert b"".join(self.due[stream]).startswith(b"".join(stream.sent))

    @invariant()
    def a_turn_is_asked_for_while_something_waits_and_only_then(self) -> None:
        assert bool(self.turns) == bool(self.fan_outs)
        if not self.fan_outs:
            for stream in self.streams:
                assert b"".join(stream.sent) == b"".join(self.due[stream])
            assert sum(self.times.counts) == self.begun

    def teardown(self) -> None:
        """Let all turns come: each fan-out ends, and is timed once."""
        while self.turns:
            self.take_a_turn()
        self.a_turn_is_asked_for_while_something_waits_and_only_then()


def test_whatever_happens_everybody_gets_all_frames_once_and_in_order() -> None:
    run_state_machine_as_test(FanOutMachine)


def test_with_some_waiting_nothing_more_should_be_begun() -> None:
    stopwatch = Stopwatch(Histogram(), Histogram())
    fan_outs = FanOuts(stopwatch, lambda: None, slice_size=1)
    for _ in range(MAX_WAITING):
        assert not fan_outs.is_full
        streams = [Stream(FRAMING, number=number) for number in range(3)]
        fan_outs.begin({stream: [b"x"] for stream in streams}, stopwatch.start())
    full = [fan_outs.is_full]
    for _ in range(2):
        fan_outs.go_on()
        full.append(fan_outs.is_full)
    assert full == [True, True, False]
