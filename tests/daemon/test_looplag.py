"""The lag of the loop, measured by a timer that is late."""

from __future__ import annotations

from twisted.internet.task import Clock

from sinapse.counters import Histogram
from sinapse.daemon.looplag import LOOK_INTERVAL, LoopLag


def test_the_lag_of_the_loop_is_what_it_was_late() -> None:
    reactor, clock, lags = Clock(), Clock(), Histogram((0.1, 1.0))
    service = LoopLag(lags, reactor, clock.seconds)
    service.startService()
    for late in (0, 0.25, 0):
        clock.advance(LOOK_INTERVAL + late)
        reactor.advance(LOOK_INTERVAL)
    service.stopService()
    assert lags.buckets() == {"0.1": 2, "1.0": 3, "+Inf": 3}
    assert lags.sum == 0.25
    assert not reactor.getDelayedCalls()
