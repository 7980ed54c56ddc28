"""Outboxes: each stream gets all of its frames, in their order, wherever it stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.audience import Audience
from sinapse.hub.outbox import Outbox
from sinapse.hub.subscribers import Subscriber
from tests.support.hubs import Lines, Stream

STREAMS = [Stream(Lines(), number=number) for number in range(9)]

audiences = st.sets(st.integers(0, 8), max_size=9)


@given(st.lists(st.tuples(st.booleans(), audiences), max_size=12))
def test_each_gets_its_frames_in_order(steps: list[tuple[bool, set[int]]]) -> None:
    outbox = Outbox()
    expected: dict[int, list[bytes]] = {}
    for number, (is_together, places) in enumerate(steps):
        frame = b"%d " % number
        audience: Audience[Subscriber] = Audience()
        for place in places:
            expected.setdefault(place, []).append(frame)
            if is_together:
                audience.add(STREAMS[place])
            else:
                outbox.put(STREAMS[place], frame)
        if is_together:
            outbox.add(audience, frame)
    assert len(outbox) == len(expected)
    assert outbox.by_stream() == {STREAMS[place]: frames for place, frames in expected.items()}
    for descriptor in outbox.direct:
        assert any(descriptor in each for each in outbox.streams)
