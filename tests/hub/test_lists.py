"""What subjects may listen to by groups: whose right it is, and since when."""

from __future__ import annotations

import pytest

from sinapse.counters import Counters
from sinapse.errors import CloseReason, LimitReached, Unauthorized
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Membership
from sinapse.protocol.keys import ADD, GROUP_GRANT, GROUP_WITHDRAW, JOIN, LEAVE, REMOVE
from sinapse.protocol.message import Message
from sinapse.protocol.only import Only
from tests.support.hubs import Keeper, Lines, Stream, Table, remains


@pytest.fixture
def table() -> Table:
    return Table()


def group(*channels: bytes, at: int = 0) -> dict[bytes, Membership]:
    """Return what a look-up says of who is in the group ``g``."""
    return {b"g": Membership(at, dict.fromkeys(channels, at))}


def test_members_hear_what_their_group_has_by_one_list(table: Table) -> None:
    streams = [table.open(subject=b"%d" % number, groups=group(b"a")) for number in range(3)]
    table.publish(b"a", "1")
    table.hub.control(b"", GROUP_WITHDRAW, b"1 g a")
    table.publish(b"a", "2")
    assert all(stream.data == ["1"] for stream in streams)
    assert all(stream.closed is CloseReason.NO_CHANNELS for stream in streams)
    assert remains(table.hub) == []


def test_a_list_is_kept_once_for_all_members(table: Table) -> None:
    names = [b"room:%d" % number for number in range(50)]
    for number in range(100):
        table.open(subject=b"%d" % number, groups=group(*names))
    [kept] = table.hub.groups.values()
    assert all(not subject.channels for subject in table.hub.subjects.values())
    assert all(table.hub.channels[name].audiences == {} for name in names)
    assert all(table.hub.channels[name].holders == 1 for name in names)
    assert sum(map(len, kept.audiences.values())) == 100


def test_one_who_hears_a_channel_by_several_rights_gets_each_message_once(table: Table) -> None:
    memberships = {name: Membership(0, {b"a": 0}) for name in (b"g", b"h")}
    stream = table.open(b"a", groups=memberships)
    other = table.open(b"a", subject=b"2")
    for end, action, value in [
        (b"1", REMOVE, b"a"),
        (b"", GROUP_WITHDRAW, b"0 g a"),
        (b"1", LEAVE, b"0 h"),
    ]:
        table.publish(b"a", "x")
        assert len(stream.received) == len(other.received)
        table.hub.control(end, action, value)
    table.publish(b"a", "x")
    assert (len(stream.received), len(other.received)) == (3, 4)


def test_messages_of_one_read_keep_their_order_over_changes(table: Table) -> None:
    table.hub.control(b"1", JOIN, b"0 0 g\n0 a")
    stream = table.open(b"b", groups=group(b"a"))
    for text in ("1", "2"):
        table.hub.dispatch(b"a", Message(text))
        table.hub.dispatch(b"b", Message(text))
    table.hub.control(b"", GROUP_WITHDRAW, b"0 g a")
    table.hub.dispatch(b"a", Message("3"))
    table.hub.dispatch(b"b", Message("3"))
    table.hub.flush()
    assert [data for _, data in stream.received] == ["1", "1", "2", "2", "3"]


def test_an_answer_that_is_ahead_of_what_was_heard_gives_others_nothing_early(
    table: Table,
) -> None:
    """Redis has published to a channel, then added it to the group, then answered one look-up."""
    member = table.open(b"own")
    other = table.open(b"a", subject=b"2")
    late = table.admit(subject=b"3", groups=group(b"a", at=2))
    # The member joined before the group had the channel, and that is heard only now.
    table.hub.control(b"1", JOIN, b"0 0 g")
    table.hub.dispatch(b"a", Message("before"), 1)
    table.hub.flush()
    table.hub.control(b"", GROUP_GRANT, b"2 0 g a")
    table.hub.open(late, lambda: Stream(table.framing))
    table.hub.dispatch(b"a", Message("after"), 3)
    table.hub.flush()
    assert member.data == ["after"]
    assert other.data == ["before", "after"]


def test_a_group_whose_last_member_left_before_a_break_is_read_anew(table: Table) -> None:
    """Somebody who was about to open a stream then still keeps it."""
    stream = table.open(subject=b"1", groups=group(b"a"))
    waiting = table.admit(subject=b"2", groups=group(b"a"))
    table.hub.leave(stream)
    table.hub.disconnected()
    table.hub.connected()
    new = table.open(subject=b"3", groups=group(b"b"))
    table.publish(b"a", "not in the list any more")
    table.publish(b"b", "1")
    assert new.data == ["1"]
    table.hub.abandon(waiting)
    table.hub.leave(new)
    assert remains(table.hub) == []


def test_who_may_listen_to_nothing_by_its_groups_is_not_admitted(table: Table) -> None:
    with pytest.raises(Unauthorized):
        table.open(groups=group())
    with pytest.raises(Unauthorized):
        table.open(groups=group(b"sinapse:x"))
    joining = table.hub.join()
    with pytest.raises(Unauthorized):
        table.hub.expect(joining, b"1", b"token", {}, memberships=group(b"a"), only=Only(b"b"))
    table.hub.abandon(joining)
    waiting = table.admit(groups=group(b"a"))
    table.hub.control(b"", GROUP_WITHDRAW, b"1 g a")
    with pytest.raises(Unauthorized):
        table.hub.open(waiting, lambda: Stream(table.framing))


def test_channels_by_groups_count_each_once() -> None:
    counters, keeper = Counters(), Keeper()
    hub = keeper.hub = Hub(counters, keeper, max_channels=2)
    hub.connected()
    table = Table(counters)
    table.hub = hub
    stream = table.open(b"a", b"b", groups=group(b"a", b"b"))
    hub.control(b"", GROUP_GRANT, b"1 0 g b")
    table.publish(b"b", "1")
    assert stream.data == ["1"]
    with pytest.raises(LimitReached):
        table.open(b"c", subject=b"2", groups=group(b"a", b"b"))
    hub.control(b"", GROUP_GRANT, b"1 0 g c")
    assert stream.closed is CloseReason.TOO_MANY_CHANNELS
    assert keeper.exceeded == [(b"2", 3), (b"1", 3)]


def test_the_inbox_of_the_subject_does_not_count() -> None:
    counters, keeper = Counters(), Keeper()
    hub = keeper.hub = Hub(counters, keeper, max_channels=2)
    hub.connected()
    table = Table(counters)
    table.hub = hub
    stream = table.open(b"a", b"b")
    hub.control(b"1", ADD, b"inbox@1")
    table.publish(b"inbox@1", "x")
    assert stream.data == ["x"]
    table.open(b"a", b"b", b"inbox@1")
    hub.control(b"1", ADD, b"inbox@2")
    assert stream.closed is CloseReason.TOO_MANY_CHANNELS
    assert keeper.exceeded == [(b"1", 3)]


def test_since_when_is_that_of_the_earliest_right(table: Table) -> None:
    stream = table.open(groups={b"g": Membership(5, {b"a": 3, b"b": 8})})
    subject = stream.subject
    assert subject is not None
    assert [subject.granted_at(name) for name in (b"a", b"b", b"c")] == [5, 8, None]
    table.hub.control(b"1", JOIN, b"9 0 h\n7 b\n2 c")
    assert [subject.granted_at(name) for name in (b"a", b"b", b"c")] == [5, 8, 9]
    table.hub.control(b"", GROUP_WITHDRAW, b"10 g b")
    # There was always one: that of 8 has ended beside that of 9.
    assert subject.granted_at(b"b") == 8
    table.hub.control(b"1", ADD, b"b")
    assert subject.granted_at(b"b") == 0


def test_framings_are_united_over_groups(table: Table) -> None:
    lines, other = table.framing, Lines("other")
    table.open(b"a")
    table.open(subject=b"2", groups=group(b"a"), framing=other)
    table.open(subject=b"3", groups=group(b"a"))
    table.publish(b"a", "1")
    assert lines.encoded == [(b"a", ["1"])]
    assert other.encoded == [(b"a", ["1"])]
    assert table.counters.deliveries == 3
