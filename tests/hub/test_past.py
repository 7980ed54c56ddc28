"""What a stream is to get of channels that are new to it, and how far its id says that it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.past import Pasts, Reading
from sinapse.hub.subscribers import Subject
from sinapse.protocol.ids import EventID, Past


def reading(
    place: EventID, grants: dict[bytes, int], starts: dict[bytes, int], *channels: bytes
) -> Reading:
    """Return what a stream at `place` gets of channels, some of which have counters of grants."""
    subject = Subject(b"1")
    subject.channels = {*grants, *channels}
    subject.since = dict(grants)
    pasts = Pasts()
    pasts.learn(pasts.unknown(subject, place), starts)
    assert not pasts.unknown(subject, place)
    return pasts.reading(subject, place)


NEW = Past(0, of_all=True)


def test_a_new_stream_gets_the_past_of_all_its_channels_first() -> None:
    grants = {b"a": 50, b"b": 60}
    read = reading(EventID("1f", 100, NEW), grants, {b"a": 7}, b"c")
    assert read == Reading({b"a": 7}, {b"a": 50}, EventID("1f", 100, NEW), 100)
    assert read.place(20) == EventID("1f", 100, Past(20, of_all=True))
    assert read.place(100) == EventID("1f", 100)
    read = reading(read.place(100), grants, {b"a": 7}, b"c")
    assert read == Reading(dict.fromkeys([b"a", b"b", b"c"], 100), {}, EventID("1f", 100), None)


def test_a_new_stream_without_a_past_is_one_that_resumes() -> None:
    read = reading(EventID("1f", 100, NEW), {b"a": 50}, {})
    assert read == Reading({b"a": 100}, {}, EventID("1f", 100), None)


def test_one_that_was_granted_channels_gets_the_past_of_each_after_what_came_before_it() -> None:
    grants, starts = {b"a": 50, b"b": 120, b"c": 130}, {b"a": 7, b"b": 8, b"c": 9}
    read = reading(EventID("1f", 100), grants, starts)
    assert read == Reading({b"a": 100, b"b": 120, b"c": 130}, {}, EventID("1f", 100), 119)
    read = reading(read.place(119), grants, starts)
    assert read == Reading({b"b": 8}, {b"b": 120}, EventID("1f", 119), 120)
    assert read.place(20) == EventID("1f", 119, Past(20))
    read = reading(read.place(120), grants, starts)
    assert read == Reading({b"a": 119, b"b": 120, b"c": 130}, {}, EventID("1f", 119), 129)
    read = reading(read.place(129), grants, starts)
    assert read == Reading({b"c": 9}, {b"c": 130}, EventID("1f", 129), 130)
    read = reading(read.place(130), grants, starts)
    assert read == Reading({b"a": 129, b"b": 129, b"c": 130}, {}, EventID("1f", 129), None)


def test_without_a_past_reading_begins_at_the_grant() -> None:
    read = reading(EventID("1f", 100), {b"a": 50, b"b": 120}, {}, b"c")
    assert read == Reading({b"a": 100, b"b": 120, b"c": 100}, {}, EventID("1f", 100), None)
    assert read.place(101) == EventID("1f", 101)


def test_a_channel_that_is_granted_anew_is_asked_for_anew() -> None:
    place = EventID("1f", 100)
    subject = Subject(b"1")
    subject.channels, subject.since = {b"a"}, {b"a": 110}
    pasts = Pasts()
    pasts.learn(pasts.unknown(subject, place), {b"a": 3})
    subject.since = {b"a": 130}
    assert pasts.unknown(subject, place) == {b"a": 130}


def rank(place: EventID) -> tuple[int, int]:
    """Return what ids are ordered by: see the client's ``item.ts``."""
    if place.past is None:
        return place.counter, 0
    upto, of_all = place.past
    return place.counter, upto - 10**15 if of_all else upto + 1


NAMES = [b"a", b"b", b"c", b"d"]
COUNTERS = range(1, 41)


@given(
    is_new=st.booleans(),
    after=st.sampled_from(COUNTERS),
    grants=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(COUNTERS), min_size=1),
    starts=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(COUNTERS)),
    messages=st.dictionaries(st.sampled_from(COUNTERS), st.sampled_from(NAMES)),
    page=st.integers(1, 5),
)
def test_wherever_a_stream_breaks_the_rest_comes_once(
    *,
    is_new: bool,
    after: int,
    grants: dict[bytes, int],
    starts: dict[bytes, int],
    messages: dict[int, bytes],
    page: int,
) -> None:
    """Its id goes up with each message, and says what it has got."""

    def rest(place: EventID) -> list[tuple[EventID, int]]:
        """Return the messages that come, each with the id of the stream after it."""
        found: list[tuple[EventID, int]] = []
        while True:
            read = reading(place, grants, starts)
            end = 99 if read.limit is None else read.limit
            due = [
                at
                for at, name in sorted(messages.items())
                if name in read.wants and read.wants[name] < at <= end
            ]
            ids = [read.place(at) for at in due[:page]]
            found += zip(ids, due, strict=False)
            if len(due) <= page:
                if read.limit is None:
                    return found
                ids = [read.place(end)]
            assert rank(ids[-1]) > rank(place)
            place = ids[-1]

    begin = EventID("1f", after, NEW if is_new else None)
    whole = rest(begin)
    for number, (place, _) in enumerate(whole, 1):
        assert rest(place) == whole[number:]
    ranks = [rank(begin), *(rank(place) for place, _ in whole)]
    assert ranks == sorted(set(ranks))
    counters = [at for _, at in whole]
    assert len(counters) == len(set(counters))
    for name, granted in grants.items():
        is_due = name in starts and (is_new or granted > after)
        first = min(starts.get(name, 0), max(granted, after)) if is_due else max(granted, after)
        expected = {at for at, each in messages.items() if each == name and at > first}
        assert {at for at in counters if messages[at] == name} == expected
