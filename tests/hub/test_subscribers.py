"""Subjects and channels: who gets what is decided by a few sets, which are kept small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.hub.catchup import CatchUp, Dispatched
from sinapse.hub.subscribers import Channel, Subject, Subscriber, encode
from sinapse.protocol.message import Message
from tests.support.hubs import Lines, Stream

FRAMINGS = (Lines("chunked"), Lines("identity"))

STREAMS = [Stream(FRAMINGS[number % 2], number=number) for number in range(6)]


def test_a_message_is_framed_and_one_that_is_too_long_is_told_of_with_its_id() -> None:
    framing = FRAMINGS[0]
    assert encode(framing, Dispatched(7, b"a", Message("x")), "1f") == b"chunked a x\n"
    omitted = encode(framing, Dispatched(7, b"a", None), "1f")
    assert omitted == b"chunked reset:not-retained:1f-7 a\n"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(STREAMS))))
def test_a_channel_knows_who_listens_by_framing_and_keeps_no_empty_audience(
    changes: list[tuple[bool, Stream]],
) -> None:
    channel, listening = Channel(b"a"), set[Stream]()
    for begins, stream in changes:
        if begins:
            channel.listen(stream)
            listening.add(stream)
        else:
            channel.stop_listening(stream)
            listening.discard(stream)
        assert {key: set(each) for key, each in channel.audiences.items()} == {
            framing: {each for each in listening if each.framing is framing}
            for framing in {each.framing for each in listening}
        }


def test_those_who_replay_or_are_held_listen_to_nothing_yet() -> None:
    subject = Subject(b"1")
    live, replaying, held = STREAMS[:3]
    subject.subscribers = dict.fromkeys((live, replaying, held))
    subject.replaying = frozenset({replaying})
    subject.catch_up = CatchUp[Subscriber]()
    subject.catch_up.hold(held, 0)
    assert subject.listening() == [live]


@pytest.mark.parametrize(
    ("channel", "counter", "may_have"),
    [
        (b"a", 5, False),
        (b"a", 6, True),
        # What is not retained has no counter to go by: it comes in the order of the connection.
        (b"a", None, True),
        (b"b", 1, True),
        (b"c", 9, False),
    ],
)
def test_what_was_published_before_a_grant_is_not_for_who_was_granted(
    channel: bytes, counter: int | None, may_have: bool
) -> None:
    subject = Subject(b"1")
    subject.channels = {b"a", b"b"}
    subject.since = {b"a": 5}
    assert subject.may_have(Dispatched(counter, channel, Message("x")), {}) == may_have
