"""Streams on their way in: the answer of the look-up, and on top what changed since they began."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sinapse.errors import Unauthorized
from sinapse.hub.joining import Joining, Joins
from sinapse.protocol.keys import ADD, REMOVE, REPLAYED, REVOKE
from tests.support.hubs import remains

SUBJECT = st.sampled_from((b"1", b"2"))
CHANNEL = st.sampled_from((b"a", b"b", b"c"))
TOKEN = st.sampled_from((b"old", b"new"))
COUNTER = st.none() | st.integers(1, 9)


@dataclass
class Expected:
    """What a joining is to find, by the order of things."""

    channels: dict[bytes, int | None]
    is_revoked: bool = False
    notes: list[tuple[bytes, str, bytes, int | None]] = field(default_factory=list)


class JoinsMachine(RuleBasedStateMachine):
    """Control messages, and streams that begin, are answered and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.joins = Joins()
        self.under_way: dict[Joining, Expected] = {}

    @rule(subject=SUBJECT, token=TOKEN, answer=st.dictionaries(CHANNEL, st.integers(0, 9)))
    def one_begins(self, subject: bytes, token: bytes, answer: dict[bytes, int]) -> None:
        joining = self.joins.begin()
        joining.subject, joining.token, joining.answer = subject, token, answer
        self.under_way[joining] = Expected(dict.fromkeys(answer))

    @rule(subject=SUBJECT, channel=CHANNEL, after=COUNTER)
    def a_channel_is_added(self, subject: bytes, channel: bytes, after: int | None) -> None:
        self.joins.note(subject, ADD, channel, after)
        for joining, expected in self.under_way.items():
            if joining.subject == subject:
                expected.channels.setdefault(channel, after)

    @rule(subject=SUBJECT, channel=CHANNEL, after=COUNTER)
    def a_channel_is_removed(self, subject: bytes, channel: bytes, after: int | None) -> None:
        self.joins.note(subject, REMOVE, channel, after)
        for joining, expected in self.under_way.items():
            if joining.subject == subject:
                expected.channels.pop(channel, None)

    @rule(subject=SUBJECT, token=TOKEN)
    def a_token_is_revoked(self, subject: bytes, token: bytes) -> None:
        self.joins.note(subject, REVOKE, token, None)
        for joining, expected in self.under_way.items():
            if (joining.subject, joining.token) == (subject, token):
                expected.is_revoked = True

    @rule(subject=SUBJECT, value=CHANNEL)
    def something_of_a_later_version_is_said(self, subject: bytes, value: bytes) -> None:
        self.joins.note(subject, "rename", value, None)

    @rule(data=st.data())
    @precondition(lambda self: self.under_way)
    def one_ends(self, data: st.DataObject) -> None:
        joining = data.draw(st.sampled_from(list(self.under_way)))
        del self.under_way[joining]
        self.joins.end(joining)
        self.joins.end(joining)

    @invariant()
    def each_finds_the_answer_with_what_changed_since_it_began(self) -> None:
        for joining, expected in self.under_way.items():
            if expected.is_revoked:
                with pytest.raises(Unauthorized, match="token revoked"):
                    self.joins.expected(joining)
            else:
                assert self.joins.expected(joining) == (expected.channels, {})

    @invariant()
    def nothing_is_kept_for_nobody(self) -> None:
        if not self.under_way:
            assert remains(self.joins) == []


def test_a_past_that_begins_after_the_look_up_is_seen() -> None:
    """The first message that has one is published before the node listens to its channel."""
    joins = Joins()
    early = joins.begin()
    joins.note(b"", REPLAYED, b"a", None)
    late = joins.begin()
    for joining in (early, late):
        joining.subject, joining.answer = b"1", {b"a": 0}
    other = joins.begin()
    other.subject, other.answer = b"2", {b"b": 0}
    assert joins.has_past(early)
    assert not joins.has_past(late)
    joins.note(b"", REPLAYED, b"c", None)
    assert not joins.has_past(other)
    joins.note(b"2", ADD, b"c", 7)
    assert joins.has_past(other)


def test_whatever_happens_each_finds_what_changed_since_it_began() -> None:
    run_state_machine_as_test(JoinsMachine)


def test_notes_do_not_pile_up_while_there_is_always_somebody_who_joins() -> None:
    joins = Joins()
    joining = joins.begin()
    for number in range(1000):
        joins.note(b"%d" % number, ADD, b"a", None)
        following = joins.begin()
        joins.end(joining)
        joining = following
    assert remains(joins) == [joining]
