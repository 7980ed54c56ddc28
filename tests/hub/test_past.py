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
    pasts = Pasts(place)
    pasts.learn(pasts.unknown(subject, place), starts)
    assert not pasts.unknown(subject, place)
    return pasts.reading(subject, place)


def test_a_new_stream_gets_the_past_of_all_its_channels() -> None:
    place = EventID("1f", 100, Past(0, of_all=True))
    read = reading(place, {b"a": 50, b"b": 60}, {b"a": 7}, b"c")
    assert read.wants == {b"a": 7, b"b": 100, b"c": 100}
    assert read.pasts == {b"a": 50}


def test_one_that_resumes_gets_that_of_channels_that_were_granted_since() -> None:
    read = reading(EventID("1f", 100), {b"a": 50, b"b": 120}, {b"a": 7, b"b": 8}, b"c")
    assert read.wants == {b"a": 100, b"b": 8, b"c": 100}
    assert read.pasts == {b"b": 120}


def test_without_a_past_reading_begins_at_the_grant() -> None:
    read = reading(EventID("1f", 100), {b"a": 50, b"b": 120}, {}, b"c")
    assert read.wants == {b"a": 100, b"b": 120, b"c": 100}
    assert read.place(101) == EventID("1f", 101)


def test_a_past_that_has_begun_goes_on_though_its_last_messages_are_others_now() -> None:
    read = reading(EventID("1f", 100, Past(20, of_all=True)), {b"a": 50}, {b"a": 60}, b"c")
    assert read.wants == {b"a": 20, b"c": 100}


def test_a_channel_that_is_granted_anew_is_asked_for_anew() -> None:
    place = EventID("1f", 100)
    subject = Subject(b"1")
    subject.channels, subject.since = {b"a"}, {b"a": 110}
    pasts = Pasts(place)
    pasts.learn(pasts.unknown(subject, place), {b"a": 3})
    subject.since = {b"a": 130}
    assert pasts.unknown(subject, place) == {b"a": 130}


def test_a_loss_from_before_a_grant_is_none() -> None:
    read = reading(EventID("1f", 100), {b"a": 120, b"b": 0}, {b"a": 8})
    assert (read.expected(b"a"), read.expected(b"b")) == (120, 0)


def rank(place: EventID) -> tuple[int, int]:
    """Return what ids are ordered by: see the client's ``item.ts``."""
    if place.past is None:
        return place.counter, 0
    upto, of_all = place.past
    return place.counter, upto - 10**15 if of_all else upto + 1


counters = st.integers(1, 40)


@given(
    st.booleans(),
    counters,
    st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), counters, min_size=1),
    st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), counters),
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), counters), unique_by=lambda x: x[1]),
)
def test_wherever_a_stream_breaks_the_rest_comes_once(
    is_new: bool,
    after: int,
    grants: dict[bytes, int],
    starts: dict[bytes, int],
    messages: list[tuple[bytes, int]],
) -> None:
    """Its id goes up with each message, and says what it has got."""
    place = EventID("1f", after, Past(0, of_all=True) if is_new else None)
    starts = {name: min(start, grants.get(name, after)) for name, start in starts.items()}

    def due(place: EventID) -> list[tuple[int, bytes]]:
        wants = reading(place, grants, starts).wants
        return sorted((at, name) for name, at in messages if name in wants and at > wants[name])

    whole = due(place)
    ids = [place]
    for number, (counter, _) in enumerate(whole, 1):
        ids.append(reading(place, grants, starts).place(counter))
        # Of a past that has not begun, all may come that is retained.
        rest = [each for each in due(ids[-1]) if each in whole]
        assert rest == whole[number:]
    assert [rank(each) for each in ids] == sorted({rank(each) for each in ids})
