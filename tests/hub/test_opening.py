"""Streams that open: what they hear, whatever changes on the way."""

from __future__ import annotations

import pytest

from sinapse.errors import Unauthorized
from sinapse.protocol.keys import ADD, REMOVE, REVOKE
from sinapse.protocol.message import Message
from tests.support.hubs import Stream, Table, remains


def test_what_was_dispatched_before_a_stream_opens_is_not_for_it(table: Table) -> None:
    first = table.open(b"a")
    joining = table.admit(b"a")
    table.hub.dispatch(b"a", Message("before"))
    second = table.hub.open(joining, lambda: Stream(table.framing))
    table.publish(b"a", "after")
    assert first.data == ["before", "after"]
    assert second.data == ["after"]


def test_channels_are_held_from_the_answer_on_so_that_nothing_is_missed(table: Table) -> None:
    joining = table.admit(b"a", b"b")
    assert sorted(table.hub.channels) == sorted(table.interest) == [b"a", b"b"]
    table.hub.open(joining, lambda: Stream(table.framing))
    assert sorted(table.interest) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("before_the_answer", "after_the_answer", "channels"),
    [
        ([], [], {b"a", b"b"}),
        ([(REMOVE, b"a")], [], {b"b"}),
        ([], [(REMOVE, b"a")], {b"b"}),
        ([(ADD, b"c")], [], {b"a", b"b", b"c"}),
        ([], [(ADD, b"c")], {b"a", b"b", b"c"}),
        ([(REMOVE, b"a")], [(ADD, b"a")], {b"a", b"b"}),
        ([(ADD, b"c")], [(REMOVE, b"c")], {b"a", b"b"}),
        # What the answer has already does no harm.
        ([(ADD, b"a")], [(ADD, b"b")], {b"a", b"b"}),
        ([(REMOVE, b"d")], [(REMOVE, b"d")], {b"a", b"b"}),
        # All gone in between, but not in the end.
        ([], [(REMOVE, b"a"), (REMOVE, b"b"), (ADD, b"b")], {b"b"}),
        # Words of a later version.
        ([("rename", b"a")], [("", b"b")], {b"a", b"b"}),
    ],
)
def test_control_messages_during_a_join_go_on_top_of_the_answer(
    table: Table,
    before_the_answer: list[tuple[str, bytes]],
    after_the_answer: list[tuple[str, bytes]],
    channels: set[bytes],
) -> None:
    joining = table.hub.join()
    for action, value in before_the_answer:
        table.hub.control(b"1", action, value)
    table.hub.expect(joining, b"1", b"token", {b"a": 0, b"b": 0})
    for action, value in after_the_answer:
        table.hub.control(b"1", action, value)
    stream = table.hub.open(joining, lambda: Stream(table.framing))
    assert stream.subject is not None
    assert stream.subject.channels == set(table.hub.channels) == channels


def test_control_messages_from_before_a_join_are_none_of_its_business(table: Table) -> None:
    other = table.hub.join()  # Somebody joins, so control messages are noted.
    table.hub.control(b"1", REMOVE, b"a")
    table.hub.control(b"1", REVOKE, b"token")
    stream = table.open(b"a")
    assert stream.subject is not None
    assert stream.subject.channels == {b"a"}
    table.hub.abandon(other)


def test_control_messages_of_others_do_not_change_a_join(table: Table) -> None:
    joining = table.admit(b"a")
    table.hub.control(b"11", REMOVE, b"a")
    table.hub.control(b"11", REVOKE, b"token")
    table.hub.open(joining, lambda: Stream(table.framing))


def test_who_may_listen_to_nothing_is_not_admitted(table: Table) -> None:
    joining = table.hub.join()
    with pytest.raises(Unauthorized, match="no channels"):
        table.hub.expect(joining, b"1", b"token", {})
    table.hub.abandon(joining)
    assert remains(table.hub) == []


@pytest.mark.parametrize(
    ("action", "value", "reason"),
    [(REMOVE, b"a", "no channels"), (REVOKE, b"token", "token revoked")],
)
def test_leave_withdrawn_on_the_way_makes_no_stream(
    table: Table, action: str, value: bytes, reason: str
) -> None:
    joining = table.admit(b"a")
    table.hub.control(b"1", action, value)

    def make() -> Stream:
        pytest.fail("the request can no longer be answered")

    with pytest.raises(Unauthorized, match=reason):
        table.hub.open(joining, make)
    assert remains(table.hub) == []
    assert table.interest == [b"a", b"a"]


def test_another_token_revoked_on_the_way_does_not_matter(table: Table) -> None:
    joining = table.admit(b"a", token=b"new")
    table.hub.control(b"1", REVOKE, b"old")
    table.hub.open(joining, lambda: Stream(table.framing, b"new"))


def test_an_old_removal_that_arrives_late_does_not_refuse_who_may_listen(table: Table) -> None:
    # In Redis: removed, added, looked up. Of the first two only one has arrived.
    joining = table.hub.join()
    table.hub.control(b"1", REMOVE, b"a")
    table.hub.expect(joining, b"1", b"token", {b"a": 0})
    table.hub.control(b"1", ADD, b"a")
    stream = table.hub.open(joining, lambda: Stream(table.framing))
    table.publish(b"a", "1")
    assert stream.data == ["1"]


def test_all_channels_of_the_answer_are_held_whatever_was_noted_before(table: Table) -> None:
    # Held now, they are subscribed to when the stream opens.
    joining = table.hub.join()
    table.hub.control(b"1", REMOVE, b"a")
    table.hub.expect(joining, b"1", b"token", {b"a": 0, b"b": 0})
    assert set(table.hub.channels) == {b"a", b"b"}


def test_a_stream_that_cannot_be_made_leaves_nothing_behind(table: Table) -> None:
    joining = table.admit(b"a")
    with pytest.raises(ZeroDivisionError):
        table.hub.open(joining, lambda: Stream(table.framing, b"%d" % (1 // 0)))
    assert remains(table.hub) == []


def test_a_join_can_be_abandoned_at_any_time_and_twice(table: Table) -> None:
    joining = table.hub.join()
    table.hub.abandon(joining)
    joining = table.admit(b"a")
    table.hub.abandon(joining)
    table.hub.abandon(joining)
    assert remains(table.hub) == []
    assert table.interest == [b"a", b"a"]


# Notes


def test_notes_are_dropped_when_nobody_joins(table: Table) -> None:
    joining = table.hub.join()
    for number in range(10):
        table.hub.control(b"%d" % number, ADD, b"a")
    table.hub.abandon(joining)
    table.hub.control(b"1", ADD, b"b")
    assert remains(table.hub) == []


def test_notes_are_kept_for_those_who_joined_before_them(table: Table) -> None:
    others = [table.hub.join()]
    joining = table.hub.join()
    others.append(table.hub.join())
    table.hub.control(b"1", REMOVE, b"a")
    for other in others:
        table.hub.abandon(other)
    table.hub.expect(joining, b"1", b"token", {b"a": 0, b"b": 0})
    stream = table.hub.open(joining, lambda: Stream(table.framing))
    table.publish(b"a", "1")
    table.publish(b"b", "2")
    assert stream.data == ["2"]
