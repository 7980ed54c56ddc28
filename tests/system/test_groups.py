"""Groups: many who may listen to the same channels, which are kept once."""

from __future__ import annotations

import contextlib
from itertools import permutations
from pathlib import Path

import pytest
import redis

from sinapse.broker.recovery import RECONCILE_SLICE
from sinapse.publisher import Publisher
from tests.support import eventually, running_several
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.longpoll import items
from tests.support.longpoll import position as polled
from tests.support.proxy import Proxy
from tests.support.subscribing import position
from tests.support.websocket import opened, received


def data(stream: Stream, end: str = "end") -> list[str]:
    """Return the data of all messages before the one that says that it is the last."""
    found = []
    while (event := stream.next()).data != end or event.event is not None:
        if event.event != "position":
            found.append(event.data if event.event is None else f"{event.event} {event.data}")
    return found


def join(publisher: Publisher, subject: str, *groups: str) -> str:
    """Let a subject hear its groups and nothing else; return a token for it."""
    for group in groups or ("staff",):
        publisher.groups.add(subject, group)
    return publisher.tokens.generate(subject)


@pytest.fixture
def token(publisher: Publisher) -> str:
    publisher.groups.channels("staff").add("room:1")
    publisher.groups.channels("staff").add("anchor")
    return join(publisher, "1")


def test_every_change_is_live(daemon: Daemon, publisher: Publisher, token: str) -> None:
    staff = publisher.groups.channels("staff")
    with (
        daemon.stream(token).opened() as first,
        daemon.stream(join(publisher, "2")).opened() as two,
    ):
        publisher.publish("room:1", "both")
        staff.remove("room:1")
        publisher.publish("room:1", "none")
        staff.add("room:1")
        publisher.publish("room:1", "both again")
        publisher.groups.remove("2", "staff")
        two.wait_for_end()
        publisher.publish("room:1", "first")
        publisher.publish("anchor", "end")
        assert data(first) == ["both", "both again", "first"]


def test_a_channel_is_heard_until_the_last_right_to_it_ends(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    publisher.groups.channels("club").add("room:1")
    publisher.groups.add("1", "club")
    publisher.channels.add("1", "room:1")
    publisher.channels.add("1", "anchor")
    with daemon.stream(token).opened() as stream:
        publisher.publish("room:1", "1")
        publisher.channels.remove("1", "room:1")
        publisher.publish("room:1", "2")
        publisher.groups.channels("club").remove("room:1")
        publisher.publish("room:1", "3")
        publisher.groups.remove("1", "staff")
        publisher.publish("room:1", "nobody")
        publisher.publish("anchor", "end")
        assert data(stream) == ["1", "2", "3"]


def test_a_node_without_members_learns_the_list_with_the_first(
    nodes: list[Daemon], publisher: Publisher, token: str
) -> None:
    publisher.channels.add("2", "own")
    other = publisher.tokens.generate("2")
    with nodes[0].stream(token).opened() as there, nodes[1].stream(other).opened() as here:
        publisher.groups.add("2", "staff")
        publisher.publish("room:1", "1")
        publisher.groups.channels("staff").add("room:2")
        publisher.publish("room:2", "2")
        publisher.publish("anchor", "end")
        assert data(there) == ["1", "2"]
        # Retained messages are not missed, though that node had to subscribe first.
        assert data(here) == ["1", "2"]


def test_who_comes_back_gets_what_it_missed_of_each_since_it_may(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    last = position(daemon, token)
    publisher.publish("room:1", "missed")
    publisher.publish("room:2", "before the group had it")
    publisher.groups.channels("staff").add("room:2")
    publisher.publish("room:2", "since then")
    publisher.groups.channels("club").add("room:3")
    publisher.publish("room:3", "before it was in the group")
    publisher.groups.add("1", "club")
    publisher.publish("room:3", "since it is")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == ["missed", "since then", "since it is"]


def test_who_left_and_came_back_gets_nothing_of_between(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    last = position(daemon, token)
    publisher.groups.remove("1", "staff")
    publisher.publish("room:1", "nothing of between")
    publisher.groups.add("1", "staff")
    publisher.publish("room:1", "after")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == ["after"]


class Right:
    """A right of subject 1 to a room: by its list, by being in a group, or by the list of one."""

    def __init__(self, publisher: Publisher, kind: str) -> None:
        self.publisher, self.kind = publisher, kind
        if kind == "member":
            publisher.groups.channels("editors").add("room:9")
        elif kind == "group":
            publisher.groups.add("1", "authors")

    def begin(self) -> None:
        if self.kind == "list":
            self.publisher.channels.add("1", "room:9")
        elif self.kind == "member":
            self.publisher.groups.add("1", "editors")
        else:
            self.publisher.groups.channels("authors").add("room:9")

    def end(self) -> None:
        if self.kind == "list":
            self.publisher.channels.remove("1", "room:9")
        elif self.kind == "member":
            self.publisher.groups.remove("1", "editors")
        else:
            self.publisher.groups.channels("authors").remove("room:9")


@pytest.fixture(params=list(permutations(("list", "member", "group"), 2)), ids="-".join)
def rights(request: pytest.FixtureRequest, publisher: Publisher) -> list[Right]:
    """Return two rights to one room, each pair in turn."""
    return [Right(publisher, kind) for kind in request.param]


def change(publisher: Publisher, earlier: Right, later: Right) -> None:
    """Give a right, then another one, and take the first, with a message between each."""
    earlier.begin()
    publisher.publish("room:9", "by the first")
    later.begin()
    publisher.publish("room:9", "by both")
    earlier.end()
    publisher.publish("room:9", "by the second")
    publisher.publish("anchor", "end")


BY_BOTH = ["by the first", "by both", "by the second"]


def test_who_is_away_while_its_role_changes_misses_nothing(
    daemon: Daemon, publisher: Publisher, token: str, rights: list[Right]
) -> None:
    last = position(daemon, token)
    publisher.publish("room:9", "before both")
    change(publisher, *rights)
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == BY_BOTH


def test_a_break_between_two_rights_is_one(
    daemon: Daemon, publisher: Publisher, token: str, rights: list[Right]
) -> None:
    earlier, later = rights
    last = position(daemon, token)
    earlier.begin()
    publisher.publish("room:9", "by the first")
    earlier.end()
    publisher.publish("room:9", "by none")
    later.begin()
    publisher.publish("room:9", "by the second")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == ["by the second"]


def test_a_node_that_is_away_while_a_role_changes_misses_nothing(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str, rights: list[Right]
) -> None:
    with distant.stream(token).opened() as stream:
        proxy.stall()
        change(publisher, *rights)
        proxy.cut()
        proxy.flow()
        assert data(stream) == BY_BOTH


def test_a_past_does_not_come_again_when_a_role_changes(
    daemon: Daemon, publisher: Publisher, token: str, rights: list[Right]
) -> None:
    earlier, later = rights
    publisher.publish("room:9", "past", replay="all")
    earlier.begin()
    with daemon.stream(token).opened() as stream:
        publisher.publish("anchor", "end")
        assert stream.next().data == "past"
        # The end of the past may be told by itself before that.
        while (event := stream.next()).data != "end":
            assert event.event == "position"
        last = event.id
    later.begin()
    publisher.publish("room:9", "by both")
    earlier.end()
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == ["by both"]


def test_a_right_whose_time_is_over_ends_beside_another_one(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    last = position(daemon, token)
    publisher.channels.add("1", "room:9", expires_in=0.2)
    publisher.publish("room:9", "by the first")
    Right(publisher, "member").begin()
    publisher.publish("room:9", "by both")
    eventually(lambda: not publisher.channels.has("1", "room:9"))
    publisher.publish("room:9", "by the second")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == BY_BOTH


@pytest.mark.parametrize("how", ["channels", "groups", "group"])
def test_all_rights_of_a_kind_end_beside_another_one(
    daemon: Daemon, publisher: Publisher, token: str, how: str
) -> None:
    earlier, later = (Right(publisher, kind) for kind in ENDED_TOGETHER[how])
    last = position(daemon, token)
    earlier.begin()
    publisher.publish("room:9", "by the first")
    later.begin()
    publisher.publish("room:9", "by both")
    if how == "channels":
        assert publisher.channels.clear("1") == 1
    elif how == "group":
        assert publisher.groups.channels("authors").clear() == 1
    else:
        publisher.channels.add("1", "anchor")
        assert publisher.groups.clear("1") == 2
    publisher.publish("room:9", "by the second")
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == BY_BOTH


#: What ends first, and what is left, where all of a kind end at once.
ENDED_TOGETHER = {
    "channels": ("list", "member"),
    "groups": ("member", "list"),
    "group": ("group", "list"),
}


def test_rights_follow_each_other_without_an_end(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    """Each begins before the one before it ends, and none was there all the time."""
    last = position(daemon, token)
    former, kinds = None, ["list", "member", "group"] * 10
    for number, kind in enumerate(kinds):
        right = Right(publisher, kind)
        right.begin()
        if former is not None:
            former.end()
        publisher.publish("room:9", str(number))
        former = right
    publisher.publish("anchor", "end")
    with daemon.stream(token, after=last).opened() as stream:
        assert data(stream) == [str(number) for number in range(len(kinds))]


def test_all_transports_know_groups(daemon: Daemon, publisher: Publisher, token: str) -> None:
    last = polled(daemon, token)
    with opened(daemon, token) as socket:
        publisher.publish("room:1", "1")
        assert received(socket)["data"] == "1"
    assert [each["data"] for each in items(daemon, token, last)] == ["1"]


@pytest.mark.parametrize("is_kept", [False, True], ids=["new to the node", "kept by it"])
def test_a_narrow_token_is_for_a_part_of_a_group(
    daemon: Daemon, publisher: Publisher, token: str, is_kept: bool
) -> None:
    narrow = publisher.sessions.open("1", only=["page:*", "anchor"]).token
    staff = publisher.groups.channels("staff")
    with contextlib.ExitStack() as stack:
        order = (token, narrow) if is_kept else (narrow, token)
        streams = {each: stack.enter_context(daemon.stream(each).opened()) for each in order}
        part, whole = streams[narrow], streams[token]
        publisher.publish("room:1", "not for the part")
        staff.add("page:7")
        publisher.publish("page:7", "for both")
        staff.remove("page:7")
        publisher.publish("page:7", "for none")
        publisher.publish("anchor", "end")
        assert data(part) == ["for both"]
        assert data(whole) == ["not for the part", "for both"]


def test_streams_end_when_the_group_has_nothing_left(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream:
        assert publisher.groups.channels("staff").clear() == 2
        stream.wait_for_end()
    with daemon.stream(token) as refused:
        assert refused.status == 401


@pytest.mark.parametrize("by", ["channel", "membership"])
def test_the_past_of_a_channel_comes_with_the_right_to_it(
    daemon: Daemon, publisher: Publisher, token: str, by: str
) -> None:
    for number in range(3):
        publisher.publish("run", str(number), replay="all", retain=60)
    with daemon.stream(token).opened() as stream:
        if by == "channel":
            publisher.groups.channels("staff").add("run")
        else:
            publisher.groups.channels("club").add("run")
            publisher.groups.add("1", "club")
        publisher.publish("run", "3", retain=60)
        publisher.publish("anchor", "end")
        assert data(stream) == ["0", "1", "2", "3"]
    with daemon.stream(token).opened() as new:
        publisher.publish("anchor", "new end")
        assert data(new, "new end") == ["0", "1", "2", "3"]


def test_changes_while_redis_was_away_apply_in_its_order(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    publisher.groups.channels("club").add("club room")
    publisher.channels.add("2", "anchor")
    other = publisher.tokens.generate("2")
    staff = publisher.groups.channels("staff")
    with distant.stream(token).opened() as stream, distant.stream(other).opened() as joins:
        proxy.stall()
        publisher.publish("room:1", "before")
        staff.remove("room:1")
        publisher.publish("room:1", "forbidden")
        staff.add("room:1")
        publisher.publish("room:1", "granted")
        publisher.publish("club room", "forbidden")
        publisher.groups.add("2", "club")
        publisher.publish("club room", "joined")
        staff.add("room:2")
        publisher.publish("room:2", "new")
        publisher.publish("anchor", "end")
        proxy.cut()
        proxy.flow()
        assert data(stream) == ["granted", "new"]
        assert data(joins) == ["joined"]


def test_many_members_of_a_node_that_comes_back_hear_what_they_may(
    distant: Daemon, proxy: Proxy, publisher: Publisher, token: str
) -> None:
    """More than are looked up at once: the list of the group is read for the first ones only."""
    everybody = [str(number) for number in range(2, RECONCILE_SLICE + 20)]
    with publisher.pipeline() as pipeline:
        for subject in everybody:
            pipeline.groups.add(subject, "staff")
    tokens = {subject: publisher.tokens.generate(subject) for subject in everybody}
    with contextlib.ExitStack() as stack:
        streams = {
            subject: stack.enter_context(distant.stream(each).opened())
            for subject, each in tokens.items()
        }
        proxy.stall()
        staff = publisher.groups.channels("staff")
        publisher.publish("room:1", "before")
        staff.remove("room:1")
        publisher.publish("room:1", "forbidden")
        staff.add("room:2")
        publisher.publish("room:2", "new")
        publisher.groups.remove(everybody[-1], "staff")
        publisher.channels.add(everybody[-1], "anchor")
        publisher.publish("anchor", "end")
        proxy.cut()
        proxy.flow()
        got = {subject: data(stream) for subject, stream in streams.items()}
    # What it had not heard when the channel was removed is gone for it, as with lists.
    assert got.pop(everybody[-1]) == []
    assert all(each == ["new"] for each in got.values())


def test_what_is_not_ours_at_the_key_of_a_group_gives_nobody_anything(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, token: str
) -> None:
    redis_client.set("sinapse:group:club", "not a hash")
    redis_client.hset("sinapse:groups:1", "club", "nonsense")
    with daemon.stream(token).opened() as stream:
        redis_client.publish("sinapse:channels::group-grant", "nonsense")
        redis_client.publish("sinapse:channels:1:join", "nonsense")
        redis_client.publish("sinapse:channels:1:leave", b"\xff\n\n")
        publisher.publish("room:1", "1")
        publisher.publish("anchor", "end")
        assert data(stream) == ["1"]
    redis_client.delete("sinapse:group:club")


def test_groups_are_in_all_of_several_redis(tmp_path: Path) -> None:
    with (
        running_several(tmp_path, 3) as (servers, urls),
        running_daemon(tmp_path, urls) as daemon,
        Publisher([server.url for server in servers]) as publisher,
    ):
        rooms = [f"room:{number}" for number in range(9)]
        staff = publisher.groups.channels("staff")
        for room in rooms:
            staff.add(room)
        token = join(publisher, "1")
        with daemon.stream(token).opened() as stream:
            last = stream.position
            for room in rooms:
                publisher.publish(room, room)
            got = {stream.next().data for _ in rooms}
            assert got == {*rooms}
            for room in rooms[1:]:
                staff.remove(room)
                publisher.publish(room, "forbidden")
            publisher.publish(rooms[0], "end")
            assert data(stream) == []
            publisher.groups.remove("1", "staff")
            stream.wait_for_end()
        publisher.groups.add("1", "staff")
        publisher.publish(rooms[0], "end")
        with daemon.stream(token, after=last).opened() as stream:
            assert data(stream) == []
        assert publisher.groups.members("staff") == ["1"]
        assert publisher.groups.of("1") == {"staff"}
        assert staff.list() == {rooms[0]}
