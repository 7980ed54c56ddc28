"""The table of a node: who listens, who is in a replay, and which channels are needed."""

from __future__ import annotations

import pytest

from sinapse.protocol.keys import ADD, REMOVE, REVOKE
from sinapse.protocol.message import Message
from tests.support.hubs import Stream, Table, remains


def test_leaving_twice_is_leaving(table: Table) -> None:
    stream, other = table.open(b"a"), table.open(b"a")
    table.hub.leave(stream)
    table.hub.leave(stream)
    table.publish(b"a", "1")
    assert other.data == ["1"]


def test_interest_changes_with_the_first_and_the_last_who_needs_a_channel(table: Table) -> None:
    first = table.open(b"a")
    second = table.open(b"a")
    third = table.open(b"a", subject=b"2")
    table.hub.control(b"2", ADD, b"b")
    assert table.interest == [b"a", b"b"]
    for stream in (first, second):
        table.hub.leave(stream)
    assert table.interest == [b"a", b"b"]
    joining = table.admit(b"a")
    table.hub.leave(third)
    assert table.interest == [b"a", b"b", b"b"]
    table.hub.abandon(joining)
    assert table.interest == [b"a", b"b", b"b", b"a"]


def test_a_stream_that_replays_gets_nothing_until_it_goes_live(table: Table) -> None:
    live = table.open(b"a")
    replaying = table.hub.open(table.admit(b"a"), lambda: Stream(table.framing), live=False)
    table.publish(b"a", "1")
    table.hub.dispatch(b"a", Message("2"))
    table.hub.go_live(replaying)
    table.publish(b"a", "3")
    assert live.data == ["1", "2", "3"]
    assert replaying.data == ["3"]


def test_a_stream_that_replays_hears_of_channels_added_meanwhile_when_it_is_live(
    table: Table,
) -> None:
    stream = table.hub.open(table.admit(b"a"), lambda: Stream(table.framing), live=False)
    table.hub.control(b"1", ADD, b"b")
    table.hub.control(b"1", REMOVE, b"a")
    table.publish(b"b", "1")
    table.hub.go_live(stream)
    table.publish(b"a", "2")
    table.publish(b"b", "3")
    assert stream.data == ["3"]


@pytest.mark.parametrize(("action", "value"), [(REMOVE, b"a"), (REVOKE, b"token")])
def test_a_stream_that_replays_is_ended_when_it_must_be(
    table: Table, action: str, value: bytes
) -> None:
    stream = table.hub.open(table.admit(b"a"), lambda: Stream(table.framing), live=False)
    table.hub.control(b"1", action, value)
    assert stream.closed is not None
    table.hub.go_live(stream)
    assert remains(table.hub) == []


def test_it_says_what_is_here(table: Table) -> None:
    first, second = table.open(b"a", b"b"), table.open(b"a", b"b")
    replaying = table.hub.open(
        table.admit(b"c", subject=b"2"), lambda: Stream(table.framing), live=False
    )
    assert table.hub.streams_of(b"1") == [first, second]
    assert table.hub.streams_of(b"3") == []
    assert table.hub.channels_of(b"1") == {b"a", b"b"}
    assert table.hub.channels_of(b"3") == set()
    assert table.hub.listeners() == {b"1", b"2"}
    assert [table.hub.is_live(each) for each in (first, second, replaying)] == [True, True, False]


def test_a_stream_that_is_suspended_gets_nothing_until_it_is_live_again(table: Table) -> None:
    stream = table.open(b"a")
    place = table.hub.suspend(stream)
    assert place == table.hub.here
    assert table.hub.suspend(stream) is None
    table.publish(b"a", "1")
    table.hub.go_live(stream)
    table.publish(b"a", "2")
    assert stream.data == ["2"]
