"""A message as a row: what is published of it is what was prepared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import MessageTooLarge
from sinapse.protocol.trace import Trace
from sinapse.publisher.frameworks.prepared import Prepared
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.outbox.rows import ID_LENGTH, TRACE_LENGTH, row_of
from sinapse.tracing.spans import entered

MESSAGES = Messages({}, None, None, None)

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(
    TEXTS,
    st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | TEXTS,
    st.sampled_from((0, 0.001, 1.5, 300, 2_592_000)),
    st.tuples(st.sampled_from((None, "all", 0, 5)), st.sampled_from((None, "mine", "a_b-9"))),
)
def test_it_is_published_as_it_was_prepared(
    channel: str, message: str, event: str | None, retain: float, options: tuple[Any, Any]
) -> None:
    replay, but = options
    given = MESSAGES.publish(
        channel, message, event, retain, replay=replay if retain else None, but=but
    )
    prepared = Prepared(
        given.channel,
        given.message.data,
        given.message.event,
        given.retain / 1000,
        given.message_id,
        given.replay,
        given.retain_messages,
        given.message.but,
    )
    row = row_of(prepared, 7)
    assert row.id == 7
    made = row.operation(MESSAGES)
    assert made.message_id == row.message_id
    assert len(row.message_id) == ID_LENGTH
    for name in ("channel", "message", "retain", "retain_messages", "replay"):
        assert getattr(made, name) == getattr(given, name), name


def test_an_id_of_the_application_is_kept_and_no_other_comes_twice() -> None:
    prepared = Prepared("news", "hello", None, 300.0, None, None, 1000, None)
    assert row_of(prepared).message_id != row_of(prepared).message_id
    assert row_of(Prepared(*prepared._replace(message_id="mine"))).message_id == "mine"


def test_a_row_keeps_the_trace_of_its_transaction_in_an_id_that_is_made_here() -> None:
    prepared = Prepared("news", "hello", None, 300.0, None, None, 1000, None)
    assert row_of(prepared).trace is None
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with entered(parent, None):
        rows = [row_of(prepared), row_of(prepared)]
        own = row_of(Prepared(*prepared._replace(message_id="mine")))
    assert [row.trace for row in rows] == [Trace(parent)] * 2
    assert len({row.message_id for row in rows}) == 2
    assert {len(row.message_id) for row in rows} == {ID_LENGTH + TRACE_LENGTH}
    assert [row.operation(MESSAGES).message_id for row in rows] == [row.message_id for row in rows]
    # That of the application is what Redis knows it by.
    assert (own.message_id, own.trace) == ("mine", None)


def test_what_cannot_be_published_any_more_is_told() -> None:
    row = row_of(Prepared("news", "x" * 100, None, 300.0, None, None, 1000, None))
    with pytest.raises(MessageTooLarge, match="over 50 bytes"):
        row.operation(Messages({}, 50, None, None))
