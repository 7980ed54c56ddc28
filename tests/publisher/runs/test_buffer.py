"""What a run has to tell: no piece is lost, doubled or late, whatever Redis answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import BrokerUnavailable, InvalidMessage, MessageTooLarge, RunLost, RunStopped
from sinapse.protocol.runs import RunState
from sinapse.publisher.operations.runs import TellRun
from sinapse.publisher.runs.buffer import (
    BATCH_WINDOW,
    HELD_SIZE,
    MESSAGE_SIZE,
    RETRY_TIMEOUT,
    Buffer,
)

MOST = 2**20

AWAY = BrokerUnavailable("away")

PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@dataclass
class Redis:
    """What Redis has of a run: it refuses a number that it has, as the script does."""

    number: int = 0
    pieces: list[Any] = field(default_factory=list)
    messages: list[tuple[float, TellRun]] = field(default_factory=list)
    ending: str | None = None

    def take(self, operation: TellRun, now: float) -> RunState:
        if operation.number > self.number:
            assert operation.number == self.number + 1
            assert self.ending is None
            self.number = operation.number
            self.messages.append((now, operation))
            data = json.loads(operation.message.data)
            assert (data["run"], data["name"]) == ("it", "answer")
            if operation.message.event == "piece":
                self.pieces += data["pieces"]
            else:
                self.ending = operation.message.event
        return operation.state


def put(buffer: Buffer, piece: object) -> bool:
    text, size = buffer.written(piece)
    has_room = buffer.has_room(size)
    if has_room:
        buffer.put(text, size)
    return has_room


def step(buffer: Buffer, redis: Redis, now: float, outcome: str = "taken") -> None:
    """Send what is due, with that outcome."""
    due = buffer.due()
    if due is None or due > now:
        return
    operation = buffer.take(now)
    if outcome != "refused":
        state = redis.take(operation, now)
    if outcome == "taken":
        buffer.told(state, now)
    else:
        buffer.failed(AWAY, now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.01, 0.03, 0.05, 1.0]),
            st.lists(PIECES, max_size=3),
            st.sampled_from(["taken", "taken", "refused", "lost"]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_all_pieces_arrive_once_and_in_their_order(
    story: list[tuple[float, list[Any], str, bool]], is_failed: bool
) -> None:
    buffer, redis, sent, now = Buffer("it", "answer", MOST), Redis(), [], 100.0
    for passed, pieces, outcome, is_hurried in story:
        now += passed
        for piece in pieces:
            if put(buffer, piece):
                sent.append(piece)  # noqa: PERF401
        if is_hurried:
            buffer.hurry()
        step(buffer, redis, now, outcome)
    buffer.end(buffer.error("sorry") if is_failed else None)
    while not buffer.is_over:
        due = buffer.due()
        assert due is not None
        now = max(now, due)
        step(buffer, redis, now)
    assert redis.pieces == sent
    assert redis.ending == ("error" if is_failed else "end")
    assert buffer.state is (RunState.FAILED if is_failed else RunState.ENDED)


@given(st.lists(st.floats(0, 0.1), max_size=200))
def test_no_piece_waits_for_longer_than_the_window(gaps: list[float]) -> None:
    buffer, redis, now = Buffer("it", "answer", MOST), Redis(), 100.0
    begun = []
    for gap in gaps:
        until = now + gap
        while (due := buffer.due()) is not None and due <= until:
            now = max(now, due)
            step(buffer, redis, now)
        now = until
        begun.append(now)
        put(buffer, len(begun) - 1)
        step(buffer, redis, now)
    while (due := buffer.due()) is not None:
        now = max(now, due)
        step(buffer, redis, now)
    assert redis.pieces == [*range(len(gaps))]
    times = [time for time, _ in redis.messages]
    # Nearly: the times are rounded.
    assert all(later - time >= BATCH_WINDOW / 2 for time, later in itertools.pairwise(times))
    for time, operation in redis.messages:
        for piece in json.loads(operation.message.data)["pieces"]:
            assert begun[piece] <= time <= begun[piece] + BATCH_WINDOW + 1e-9


@given(st.lists(st.integers(0, 3 * MESSAGE_SIZE), max_size=30))
def test_what_waits_and_what_is_sent_at_once_is_bounded(sizes: list[int]) -> None:
    buffer, redis = Buffer("it", "answer", MOST), Redis()
    for size in sizes:
        piece = "x" * size
        while not put(buffer, piece):
            held = buffer.held
            assert held + size + 2 > HELD_SIZE
            buffer.hurry()
            step(buffer, redis, 100.0)
            assert buffer.held < held
        assert buffer.held <= HELD_SIZE + 1 or buffer.held == size + 3
    for _, operation in redis.messages:
        pieces = json.loads(operation.message.data)["pieces"]
        assert len(pieces) == 1 or sum(len(each) + 3 for each in pieces) <= MESSAGE_SIZE + 1


def test_a_message_goes_out_early_when_there_is_much() -> None:
    buffer, redis = Buffer("it", "answer", MOST), Redis()
    put(buffer, "first")
    step(buffer, redis, 100.0)
    put(buffer, "x" * MESSAGE_SIZE)
    step(buffer, redis, 100.001)
    assert len(redis.pieces) == 2


def test_no_message_is_larger_than_messages_may_be() -> None:
    buffer, redis = Buffer("it", "answer", 200), Redis()
    for number in range(30):
        put(buffer, number * 1001)
    buffer.end()
    while not buffer.is_over:
        step(buffer, redis, 100.0)
    assert redis.pieces == [number * 1001 for number in range(30)]
    assert max(len(operation.message.data) for _, operation in redis.messages) <= 200
    with pytest.raises(MessageTooLarge, match="200 bytes"):
        buffer.written("é" * 80)
    with pytest.raises(MessageTooLarge, match="200 bytes"):
        buffer.error("é" * 90)


@pytest.mark.parametrize("piece", [b"bytes", {1, 2}, float("nan"), object(), "\ud800", ["\ud800"]])
def test_what_json_cannot_carry_is_no_piece(piece: object) -> None:
    with pytest.raises(InvalidMessage):
        Buffer("it", "answer", MOST).written(piece)


def test_it_gives_up_when_redis_is_away_for_too_long_and_not_before() -> None:
    buffer, now = Buffer("it", "answer", MOST), 100.0
    put(buffer, "piece")
    while not buffer.is_over:
        due = buffer.due()
        assert due is not None
        assert due - now <= 1.0
        now = max(now, due)
        assert now <= 100 + RETRY_TIMEOUT + 1
        buffer.take(now)
        buffer.failed(AWAY, now)
    assert now >= 100 + RETRY_TIMEOUT
    assert buffer.outcome is AWAY
    assert buffer.state is RunState.RUNNING


def test_an_answer_begins_its_patience_anew() -> None:
    buffer, redis = Buffer("it", "answer", MOST), Redis()
    for now in (100.0, 120.0, 140.0):
        put(buffer, now)
        buffer.take(now)
        buffer.failed(AWAY, now)
        step(buffer, redis, now + 15)
    assert redis.pieces == [100.0, 120.0, 140.0]


@pytest.mark.parametrize(
    ("state", "error"),
    [(RunState.STOPPED, RunStopped), (RunState.LOST, RunLost), (None, RunLost)],
)
def test_what_redis_says_ends_it_and_all_who_wait_are_told(
    state: RunState | None, error: type[Exception]
) -> None:
    buffer, told = Buffer("it", "answer", MOST), []
    put(buffer, "piece")
    buffer.waiting.append(lambda: told.append(buffer.is_over))
    buffer.take(100.0)
    buffer.told(state, 100.0)
    assert told == [True]
    assert isinstance(buffer.outcome, error)
    assert buffer.due() is None
