"""Messages, handed out: who gets what, in what order, and in how many sends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.message import Message
from tests.support.hubs import Lines, Table


def test_a_message_goes_to_every_subscriber_of_its_channel_and_to_no_other(table: Table) -> None:
    one, two = table.open(b"a", b"b"), table.open(b"b", subject=b"2")
    table.publish(b"a", "1")
    table.publish(b"b", "2")
    table.publish(b"c", "3")
    assert one.received == [(b"a", "1"), (b"b", "2")]
    assert two.received == [(b"b", "2")]


def test_two_streams_of_one_subject_each_get_everything(table: Table) -> None:
    streams = [table.open(b"a"), table.open(b"a", token=b"other")]
    table.publish(b"a", "1")
    assert [stream.data for stream in streams] == [["1"], ["1"]]


def test_nothing_is_sent_before_the_flush(table: Table) -> None:
    stream = table.open(b"a")
    table.hub.dispatch(b"a", Message("1"))
    assert stream.sent == []
    table.hub.flush()
    table.hub.flush()
    assert stream.data == ["1"]


def test_one_flush_is_one_send_in_the_order_of_publication_across_channels(table: Table) -> None:
    stream = table.open(b"a", b"b")
    for channel, data in ((b"a", "1"), (b"b", "2"), (b"a", "3"), (b"a", "4")):
        table.hub.dispatch(channel, Message(data))
    table.hub.flush()
    assert len(stream.sent) == 1
    assert stream.received == [(b"a", "1"), (b"b", "2"), (b"a", "3"), (b"a", "4")]


def test_a_run_of_messages_is_encoded_once_a_framing_however_many_listen(table: Table) -> None:
    other = Lines("other")
    for number in range(5):
        table.open(b"a", b"b", subject=b"%d" % number)
        table.open(b"a", b"b", subject=b"%d" % number, framing=other)
    table.publish(b"a", "1", "2")
    assert table.framing.encoded == other.encoded == [(b"a", ["1", "2"])]
    for channel in (b"a", b"b", b"a"):
        table.hub.dispatch(channel, Message("3"))
    table.hub.flush()
    runs = [(b"a", ["1", "2"]), (b"a", ["3"]), (b"b", ["3"]), (b"a", ["3"])]
    assert table.framing.encoded == other.encoded == runs


def test_a_framing_that_nobody_uses_any_more_is_not_asked(table: Table) -> None:
    other = Lines("other")
    gone = table.open(b"a", framing=other)
    table.open(b"a")
    table.hub.leave(gone)
    table.publish(b"a", "1")
    assert other.encoded == []


def test_messages_and_deliveries_are_counted(table: Table) -> None:
    table.open(b"a", b"b")
    table.open(b"a", subject=b"2", framing=Lines("other"))
    table.publish(b"a", "1", "2")
    table.hub.dispatch(b"a", Message("3"))
    table.hub.dispatch(b"b", Message("4"))
    table.hub.flush()
    table.publish(b"unknown", "5")
    assert table.counters.messages == 4
    assert table.counters.deliveries == 2 * 2 + 2 + 1


def test_a_stream_that_left_gets_nothing_more_not_even_what_was_dispatched(table: Table) -> None:
    gone, stays = table.open(b"a"), table.open(b"a")
    table.hub.dispatch(b"a", Message("1"))
    table.hub.leave(gone)
    table.hub.flush()
    assert gone.sent == []
    assert stays.data == ["1"]


def test_the_tape_has_what_was_dispatched_while_it_ran_on_needed_channels(table: Table) -> None:
    table.open(b"a", b"b")
    table.publish(b"a", "before")
    with table.hub.tape() as tape:
        table.hub.dispatch(b"b", Message("1"), 7)
        table.hub.flush()
        table.hub.dispatch(b"unknown", Message("2"), 8)
        table.hub.dispatch(b"a", Message("3"))
    table.publish(b"a", "after")
    assert [tuple(each) for each in tape] == [
        (7, b"b", Message("1")),
        (None, b"a", Message("3")),
    ]


def test_what_history_had_already_is_not_dispatched_again(table: Table) -> None:
    stream = table.open(b"a", b"b")
    for channel, counter in (
        (b"a", 5),
        (b"a", 5),
        (b"b", 4),
        (b"unknown", 7),
        (b"b", 7),
        (b"b", 8),
    ):
        table.hub.dispatch(channel, Message(str(counter)), counter)
    table.publish(b"a", "plain")
    assert stream.data == ["5", "8", "plain"]
    assert table.hub.position == 8


def test_one_that_no_stream_can_hold_is_told_of_in_its_place(table: Table) -> None:
    one, two = table.open(b"a", b"b"), table.open(b"b", subject=b"2")
    table.hub.epoch = "1f"
    with table.hub.tape() as tape:
        table.hub.dispatch(b"a", Message("before"), 5)
        table.hub.omit(b"a", 6)
        table.hub.dispatch(b"a", Message("after"), 7)
        table.hub.flush()
    assert one.received == [(b"a", "before"), (b"reset:not-retained:1f-6", "a"), (b"a", "after")]
    assert two.sent == []
    assert [each.counter for each in tape] == [5, 6, 7]
    assert table.counters.resets == 1
    # What was handled before is not told again, and what nobody hears to nobody.
    table.hub.omit(b"a", 6)
    table.hub.omit(b"unknown", 8)
    assert table.counters.resets == 1
    assert table.hub.position == 8


def test_one_that_no_stream_can_hold_does_not_overtake_what_is_sent_in_slices(
    table: Table,
) -> None:
    streams = [table.open(b"a", token=b"%d" % number) for number in range(5)]
    table.hub.epoch = "1f"
    table.hub.fan_outs.slice_size = 2
    table.hub.dispatch(b"a", Message("before"), 5)
    table.hub.omit(b"a", 6)
    while table.hub.fan_outs:
        table.hub.fan_outs.go_on()
    for stream in streams:
        assert stream.received == [(b"a", "before"), (b"reset:not-retained:1f-6", "a")]


# All but the sender

NAMES = (None, "a", "b")


@given(
    st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([*NAMES, "nobody"]))),
    st.lists(st.integers(0, 20)),
)
def test_a_message_goes_to_all_but_the_streams_of_a_name(
    messages: list[tuple[bytes, str | None]], flushed: list[int]
) -> None:
    """In their order, however many are handed out together."""
    table = Table()
    other = Lines("other")
    streams = [
        table.open(*channels, subject=b"%d" % number, framing=framing, name=name)
        for framing in (table.framing, other)
        for number, (name, channels) in enumerate(
            (name, channels) for name in NAMES for channels in ([b"x"], [b"x", b"y"])
        )
    ]
    for number, (channel, but) in enumerate(messages):
        table.hub.dispatch(channel, Message(str(number), but=but))
        if number in flushed:
            table.hub.flush()
    table.hub.flush()
    for stream in streams:
        assert stream.subject is not None
        assert stream.data == [
            str(number)
            for number, (channel, but) in enumerate(messages)
            if channel in stream.subject.channels and (but is None or but != stream.name)
        ]
    for stream in streams:
        table.hub.leave(stream)
    assert not table.hub.named


def test_the_sender_of_a_retained_message_gets_its_id_in_its_place(table: Table) -> None:
    stream = table.open(b"a", name="mine")
    for number, but in enumerate((None, "mine", None)):
        table.hub.dispatch(b"a", Message(str(number), None, f"e-{number + 1}", but), number + 1)
    table.hub.flush()
    table.hub.dispatch(b"a", Message("3", None, "e-4", "mine"), 4)
    table.hub.flush()
    assert (
        b"".join(stream.sent) == b"lines a 0\nlines position e-2\nlines a 2\nlines position e-4\n"
    )
