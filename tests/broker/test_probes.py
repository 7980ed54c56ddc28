"""When a Redis that does not answer is left, and when it is this node that was busy."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from sinapse.broker.clock import RedisClock
from sinapse.broker.probes import PROBE_GRACE, PROBE_INTERVAL, PROBE_TURNS, Probes
from sinapse.counters import Histogram


class Answering:
    """A connection to a Redis that answers at once, and publishes to who listens or to nobody."""

    def __init__(self) -> None:
        self.published = 0
        self.is_master = True

    async def check(self, epoch: str) -> int:
        assert epoch == "1f"
        if not self.is_master:
            raise ConnectionError("it is no master any more")
        return 7

    async def tell_time(self, clock: RedisClock) -> None:
        clock.answered(1000.0, 1.0, 3.0)

    async def mark(self, _channel: bytes) -> None:
        self.published += 1


class Probed:
    """Probes on a clock, and why Redis was given up."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lookup = Answering()
        self.reasons: list[str] = []
        self.ahead: list[float] = []
        self.probes = Probes(self.clock, Histogram(), RedisClock(self.ahead.append))
        lookups: list[Any] = [self.lookup]
        self.sinces: list[int] = []
        self.probes.start(lookups, "1f", self.reasons.append, self.sinces.append)

    def turns(self, count: int, seconds: float = PROBE_INTERVAL / PROBE_TURNS) -> None:
        """Let so many turns of the reactor take so many seconds each."""
        for _ in range(count):
            self.clock.advance(seconds)


def test_what_is_heard_is_asked_again_after_the_interval() -> None:
    it = Probed()
    for number in range(1, 4):
        it.turns(PROBE_TURNS)
        assert it.lookup.published == number
        it.probes.heard()
    assert it.reasons == []
    assert it.sinces == [7] * 3
    assert it.ahead == [998.0] * 3


def test_what_is_not_heard_is_given_up() -> None:
    it = Probed()
    it.turns(PROBE_TURNS)
    assert it.lookup.published == 1
    it.turns(PROBE_TURNS + PROBE_GRACE - 1)
    assert it.reasons == []
    it.turns(1)
    assert it.reasons == ["connected, but it does not deliver"]
    assert it.lookup.published == 1


def test_a_node_that_was_busy_has_turns_to_hear_it() -> None:
    it = Probed()
    it.turns(PROBE_TURNS)
    it.turns(PROBE_TURNS, seconds=5)
    assert it.reasons == []
    it.probes.heard()
    it.turns(PROBE_TURNS)
    assert it.reasons == []
    assert it.lookup.published > 1


def test_a_probe_that_fails_says_why() -> None:
    it = Probed()
    it.lookup.is_master = False
    it.turns(PROBE_TURNS)
    assert it.reasons == ["it is no master any more"]
