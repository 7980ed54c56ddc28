"""Rows on their way to Redis: in the order of each channel, whatever fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from sinapse.publisher import Publisher
from sinapse.publisher.operations import conversation
from sinapse.publisher.operations.conversation import MAX_MESSAGES_PER_CALL
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Refused
from sinapse.publisher.outbox.delivery import _batches, deliver
from sinapse.publisher.outbox.rows import Row
from sinapse.testing import capture
from tests.support import RedisServer, free_port
from tests.support.listening import Listener, heard


def row(place: int, channel: str, *, retain: int = 300_000, message: str | None = None) -> Row:
    text = str(place) if message is None else message
    return Row(place, f"id {place}", channel, text, "", retain, 1000, "", "")


@pytest.fixture
def away() -> Iterator[Publisher]:
    """Return a publisher whose Redis is away."""
    with Publisher(f"redis://127.0.0.1:{free_port()}/0") as publisher:
        yield publisher


def test_each_is_sent_once_however_often_it_is_tried(
    publisher: Publisher, listener: Listener
) -> None:
    rows = [row(1, "a"), row(2, "a", retain=0), row(3, "b")]
    for _ in range(2):
        outcome = deliver(publisher, rows)
        assert (outcome.sent, outcome.refused, outcome.held) == ([1, 2, 3], {}, set())
    assert heard(listener) == [("a", "1"), ("a", "2"), ("b", "3")]


def test_what_begins_with_the_first_row_keeps_the_order(
    publisher: Publisher, listener: Listener
) -> None:
    """Two that have seen different rows, one after the other, in any order."""
    rows = [row(number, "a") for number in range(4)]
    for count in (2, 4, 1, 3):
        deliver(publisher, rows[:count])
    assert heard(listener) == [("a", str(number)) for number in range(4)]


def test_after_one_that_fails_its_channel_waits(
    publisher: Publisher, redis_client: redis.Redis, listener: Listener
) -> None:
    redis_client.set("sinapse:retained:a", "not ours")
    # The third would be taken: it is not retained.
    rows = [row(1, "a"), row(2, "b"), row(3, "a", retain=0), row(4, "b", retain=0), row(5, "b")]
    outcome = deliver(publisher, rows)
    assert outcome.sent == [2, 4, 5]
    assert outcome.held == {"a"}
    assert not outcome.is_cut_off
    assert heard(listener) == [("b", "2"), ("b", "4"), ("b", "5")]


@pytest.mark.parametrize(
    "rows",
    [
        [row(number, "a", message="x" * 150_000) for number in range(6)],
        [row(1, "a"), row(2, "b", retain=0), row(3, "a")],
    ],
    ids=["large", "another between"],
)
def test_of_two_calls_the_first_may_fail(
    rows: list[Row],
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis has no memory left, and has some again."""
    answers = itertools.chain([Refused("no memory")], itertools.repeat(None))
    monkeypatch.setattr(conversation, "_failure", lambda *_: next(answers))
    outcome = deliver(publisher, rows)
    sent = [each.id for each in rows if each.channel not in outcome.held]
    assert outcome.held == {rows[0].channel}
    assert outcome.sent == sent


def test_channels_that_its_user_may_not_use_hold_no_others_up(
    publisher: Publisher, redis_client: redis.Redis, listener: Listener
) -> None:
    """Also if the first ones are all of that kind."""
    redis_client.execute_command("ACL", "SETUSER", "bob", "on", ">p", "~*", "+@all", "&sinapse:*")
    redis_client.execute_command("ACL", "SETUSER", "bob", "&fine")
    denied = [row(number, f"denied:{number}") for number in range(MAX_MESSAGES_PER_CALL)]
    url = str(publisher.url).replace("//", "//bob:p@")
    try:
        with Publisher(url) as bob:
            outcome = deliver(bob, [*denied, row(1000, "fine")])
    finally:
        redis_client.execute_command("ACL", "DELUSER", "bob")
    assert outcome.sent == [1000]
    assert not outcome.is_cut_off
    assert outcome.held == {each.channel for each in denied}
    assert heard(listener) == [("fine", "1000")]


def test_what_can_never_be_sent_holds_nothing_up(publisher: Publisher, listener: Listener) -> None:
    long = "x" * (publisher.max_message + 1)
    outcome = deliver(publisher, [row(1, "a", message=long), row(2, "sinapse:a"), row(3, "a")])
    assert outcome.sent == [3]
    assert list(outcome.refused) == [1, 2]
    assert outcome.refused[1] == f"the message is over {publisher.max_message} bytes"
    assert outcome.held == set()


def test_if_redis_is_away_it_is_waited_for_once(away: Publisher) -> None:
    rows = [row(number, f"room:{number % 3}", retain=number % 2) for number in range(500)]
    outcome = deliver(away, rows)
    assert outcome.is_cut_off
    assert outcome.sent == []
    assert outcome.error is not None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.sampled_from([1, 90, 300]))))
def test_one_call_has_all_that_a_pipeline_has_of_a_channel(
    given: list[tuple[str, bool, int]],
) -> None:
    messages = Messages({}, None, None, None)
    rows = [
        row(number, channel, retain=1000 * is_retained, message="x" * size * 1024)
        for number, (channel, is_retained, size) in enumerate(given)
    ]
    held = set[str]()
    for batch in _batches(((each, each.operation(messages)) for each in rows), held):
        calls = conversation._calls([operation for _, operation in batch])
        of_calls = [{batch[place][0].channel for place in places} for places, _ in calls]
        assert sum(map(len, of_calls)) == len(set().union(*of_calls))
        assert not held & set().union(*of_calls)
        held.add(batch[0][0].channel)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=50))
def test_each_channel_has_its_order(given: list[tuple[str, bool]]) -> None:
    rows = [
        row(number, channel, retain=1000 * is_retained)
        for number, (channel, is_retained) in enumerate(given)
    ]
    with Publisher("redis://127.0.0.1:1/0") as publisher, capture() as messages:
        outcome = deliver(publisher, rows)
    assert sorted(outcome.sent) == list(range(len(rows)))
    for channel in "abc":
        numbers = [int(str(each.data)) for each in messages if each.channel == channel]
        assert numbers == sorted(numbers)


def test_nothing_is_nothing(redis_server: RedisServer) -> None:
    with Publisher(redis_server.url) as publisher:
        outcome = deliver(publisher, [])
    assert (outcome.sent, outcome.error, outcome.is_cut_off) == ([], None, False)
