"""Who is there: several streams count once, and a pause is no absence."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.presence import Attendance

GRACE = 10

#: What happens: who opens or closes a stream, or how many seconds pass.
HAPPENING = st.one_of(
    st.tuples(st.sampled_from(("open", "close")), st.sampled_from((b"1", b"2", b"3"))),
    st.integers(1, 15),
)


def watched() -> tuple[Attendance, list[tuple[bytes, bool]]]:
    attendance, told = Attendance(GRACE), []
    attendance.watchers.append(lambda subject, is_here: told.append((subject, is_here)))
    return attendance, told


def test_several_streams_count_once() -> None:
    attendance, told = watched()
    attendance.opened(b"1")
    attendance.opened(b"1")
    attendance.closed(b"1", 0)
    attendance.look(100)
    assert told == [(b"1", True)]
    attendance.closed(b"1", 100)
    attendance.look(100 + GRACE)
    assert told == [(b"1", True), (b"1", False)]
    assert not attendance.subjects


def test_who_comes_back_in_time_was_never_gone() -> None:
    attendance, told = watched()
    attendance.opened(b"1")
    attendance.closed(b"1", 0)
    attendance.look(GRACE - 1)
    attendance.opened(b"1")
    attendance.look(1000)
    assert told == [(b"1", True)]
    attendance.closed(b"1", 1000)
    attendance.look(1000 + GRACE - 1)
    assert list(attendance.subjects) == [b"1"]


@given(st.lists(HAPPENING, max_size=60))
def test_it_is_told_as_the_rule_says(happenings: list[tuple[str, bytes] | int]) -> None:
    attendance, told = watched()
    now, streams = 0, Counter[bytes]()
    seen: dict[bytes, int] = {}
    for happening in happenings:
        if isinstance(happening, int):
            now += happening
        elif happening[0] == "open":
            attendance.opened(happening[1])
            streams[happening[1]] += 1
        elif streams[happening[1]]:
            attendance.closed(happening[1], now)
            streams[happening[1]] -= 1
            seen[happening[1]] = now
        attendance.look(now)
        there = {
            subject
            for subject in streams
            if streams[subject] or (subject in seen and now - seen[subject] < GRACE)
        }
        assert attendance.subjects == there
        # Of each subject, it is told in turn that it has come and that it has gone.
        for subject in streams:
            events = [is_here for each, is_here in told if each == subject]
            assert events == [number % 2 == 0 for number in range(len(events))]
            assert (len(events) % 2 == 1) == (subject in there)
