"""Who is there: several streams count once, and a pause is no absence."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.presence import Presence

GRACE = 10

#: What happens: who opens or closes a stream, or how many seconds pass.
HAPPENING = st.one_of(
    st.tuples(st.sampled_from(("open", "close")), st.sampled_from((b"1", b"2", b"3"))),
    st.integers(1, 15),
)


def watched() -> tuple[Presence, list[tuple[bytes, bool]]]:
    presence, told = Presence(GRACE), []
    presence.watchers.append(lambda subject, is_here: told.append((subject, is_here)))
    return presence, told


def test_several_streams_count_once() -> None:
    presence, told = watched()
    presence.opened(b"1")
    presence.opened(b"1")
    presence.closed(b"1", 0)
    presence.look(100)
    assert told == [(b"1", True)]
    presence.closed(b"1", 100)
    presence.look(100 + GRACE)
    assert told == [(b"1", True), (b"1", False)]
    assert not presence.names


def test_who_comes_back_in_time_was_never_gone() -> None:
    presence, told = watched()
    presence.opened(b"1")
    presence.closed(b"1", 0)
    presence.look(GRACE - 1)
    presence.opened(b"1")
    presence.look(1000)
    assert told == [(b"1", True)]
    presence.closed(b"1", 1000)
    presence.look(1000 + GRACE - 1)
    assert list(presence.names) == [b"1"]


@given(st.lists(HAPPENING, max_size=60))
def test_it_is_told_as_the_rule_says(happenings: list[tuple[str, bytes] | int]) -> None:
    presence, told = watched()
    now, streams = 0, Counter[bytes]()
    seen: dict[bytes, int] = {}
    for happening in happenings:
        if isinstance(happening, int):
            now += happening
        elif happening[0] == "open":
            presence.opened(happening[1])
            streams[happening[1]] += 1
        elif streams[happening[1]]:
            presence.closed(happening[1], now)
            streams[happening[1]] -= 1
            seen[happening[1]] = now
        presence.look(now)
        there = {
            subject
            for subject in streams
            if streams[subject] or (subject in seen and now - seen[subject] < GRACE)
        }
        assert presence.names == there
        # Of each subject, it is told in turn that it has come and that it has gone.
        for subject in streams:
            events = [is_here for each, is_here in told if each == subject]
            assert events == [number % 2 == 0 for number in range(len(events))]
            assert (len(events) % 2 == 1) == (subject in there)
