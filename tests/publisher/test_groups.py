"""Groups, of every kind of publisher and over the API: what they do, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from sinapse.errors import BrokerUnavailable, InvalidChannel, InvalidGroup, InvalidSubject, ListFull
from sinapse.protocol.keys import MAX_GROUP_CHANNELS, MAX_GROUPS
from sinapse.protocol.names import PLAIN
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Group, Publisher
from sinapse.publisher.operations.groups import MAX_PAGE
from tests.support import RedisServer, free_port, running_redis
from tests.support.daemon import running_daemon
from tests.support.flavours import FLAVOURS, Flavour
from tests.support.listening import Listener
from tests.support.publishing import NO_CHANNELS, NO_SUBJECTS, calls

KEY = "k" * 32

#: A tab, a line feed, a space, and what Unicode has of them; then what no name may have.
SPACES = ("\t", "\n", " ", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u3000")
NO_GROUPS: list[Any] = [
    *(f"role{space}editor" for space in SPACES),
    *("", " ", "a ", " a", "a\0", "a\x1f", "a\x7f", "a" * 513, "\N{SNOWMAN}" * 171, "\ud800"),
    *(b"team:3", None, 3, ["team:3"], object(), Group),
]
NO_LIMITS: list[Any] = [0, -1, MAX_PAGE + 1, 1.5, True, "10", [10], None]

#: Names that are allowed, though they have a meaning somewhere on the way.
STRANGE = ("a:b", "a/b", "..", "%2F", "a?b=c#d", "[", "(", "+", "-", "*", "é\u200b", "\N{SNOWMAN}")


@pytest.fixture(scope="module")
def api_url(
    redis_of_module: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Serve the API for the Redis of the module."""
    folder, port = tmp_path_factory.mktemp("api"), free_port()
    keys: Path = folder / "keys"
    keys.write_text(KEY)
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(keys))
    with running_daemon(folder, redis_of_module.url, *options) as daemon:
        yield f"http+sinapse://{KEY}@127.0.0.1:{port}"
        assert "Traceback" not in daemon.log


@pytest.fixture
def redis_server(emptied_redis: RedisServer) -> RedisServer:
    """Return a Redis of this module's own."""
    return emptied_redis


@pytest.fixture(params=[*FLAVOURS, "http"])
def publisher(
    request: pytest.FixtureRequest, redis_server: RedisServer, api_url: str
) -> Iterator[Publisher]:
    """Return each kind of publisher in turn, and one that uses the API in the place of Redis."""
    flavour = FLAVOURS.get(request.param)
    with Publisher(api_url) if flavour is None else flavour(redis_server.url) as publisher:
        yield publisher


def written(client: redis.Redis) -> list[bytes]:
    """Return the keys of groups; a daemon that looks after ids may be there."""
    patterns = PLAIN.groups_key("*"), PLAIN.group_key("*"), PLAIN.members_key("*")
    return [key for pattern in patterns for key in client.scan_iter(pattern)]


def have_a_past(client: redis.Redis, *channels: str) -> None:
    """Let some channels have a past, and let an id have been given."""
    client.hset(PLAIN.retention, mapping={"epoch": "a", "counter": 5})
    for channel in channels:
        client.hset(PLAIN.replay, channel, "all")


class TestMembers:
    def test_they_come_and_go_and_every_node_is_told(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        groups = publisher.groups
        assert groups.of("7") == set()
        assert groups.add("7", "team:3") is True
        assert groups.add("7", "team:3") is False
        assert groups.add(8, "team:3") is True
        assert groups.add("7", "all") is True
        assert groups.of(7) == {"team:3", "all"}
        assert groups.members("team:3") == ["7", "8"]
        assert redis_client.hkeys(PLAIN.groups_key("7")) == [b"team:3", b"all"]
        assert redis_client.zrange(PLAIN.members_key("team:3"), 0, -1, withscores=True) == [
            (b"7", 0),
            (b"8", 0),
        ]
        assert groups.remove("7", "team:3") is True
        assert groups.remove("7", "team:3") is False
        assert groups.of("7") == {"all"}
        assert groups.members("team:3") == ["8"]
        assert groups.remove("8", "team:3") is True
        assert groups.remove("7", "all") is True
        assert written(redis_client) == []
        assert without_counters(listener) == [
            ("sinapse:channels:7:join", "0 team:3"),
            ("sinapse:channels:8:join", "0 team:3"),
            ("sinapse:channels:7:join", "0 all"),
            # Also what was done before: to repeat it reaches whom the first time did not.
            *[("sinapse:channels:7:leave", "team:3")] * 2,
            ("sinapse:channels:8:leave", "team:3"),
            ("sinapse:channels:7:leave", "all"),
        ]

    def test_all_groups_are_left_at_once(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        for number in range(5):
            publisher.groups.add("7", f"team:{number}")
            publisher.groups.add("8", f"team:{number}")
        listener.heard()
        assert publisher.groups.clear("7") == 5
        assert publisher.groups.clear("7") == 0
        assert without_counters(listener) == [
            ("sinapse:channels:7:leave", f"team:{number}") for number in range(5)
        ]
        assert publisher.groups.members("team:1") == ["8"]
        assert publisher.groups.clear("8") == 5
        assert written(redis_client) == []

    def test_who_joins_is_told_with_the_channels_of_the_group(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        have_a_past(redis_client, "old")
        channels = publisher.groups.channels("team:3")
        channels.add("news")
        listener.heard()
        publisher.groups.add("7", "team:3")
        channels.add("old")
        publisher.groups.add("8", "team:3")
        assert listener.heard() == [
            ("sinapse:channels:7:join", b"5 0 team:3\n5 news"),
            ("sinapse:channels::group-grant", b"6 1 team:3 old"),
            ("sinapse:channels:8:join", b"7 1 team:3\n5 news\n6 old"),
        ]

    def test_an_object_stands_for_its_group(self, publisher: Publisher) -> None:
        class Team(Group):
            id = 3

        assert publisher.groups.add("7", Team()) is True
        assert publisher.groups.channels(Team()).add("news") is True
        assert publisher.groups.members("team:3") == publisher.groups.members(Team()) == ["7"]
        assert publisher.groups.channels("team:3").list() == {"news"}

    def test_one_may_be_in_a_hundred(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        for number in range(MAX_GROUPS - 1):
            redis_client.hset(PLAIN.groups_key("7"), f"team:{number}", 0)
        assert publisher.groups.add("7", "last") is True
        listener.heard()
        with pytest.raises(ListFull) as raised:
            publisher.groups.add("7", "more")
        assert type(raised.value) is ListFull
        assert str(raised.value) == "subject '7' is in 100 groups already: it cannot join 'more'"
        assert redis_client.hlen(PLAIN.groups_key("7")) == MAX_GROUPS
        assert not redis_client.exists(PLAIN.members_key("more"))
        assert listener.heard() == []
        assert publisher.groups.add("7", "last") is False
        assert publisher.groups.remove("7", "team:0") is True
        assert publisher.groups.add("7", "more") is True


class TestPages:
    #: Of one byte and several, what Redis takes for a bound, and each followed by others.
    IDS = ("+", "-", "(a", "[a", "0", "1", "10", "2", "a b", "a\xa0", "é", "\u0800", "\U0001f600")

    def test_they_have_the_order_of_their_bytes(self, publisher: Publisher) -> None:
        ids = [*self.IDS, *STRANGE, "x" * 512]
        for subject in ids:
            publisher.groups.add(subject, "all")
        expected = sorted(set(ids), key=str.encode)
        assert publisher.groups.members("all") == expected
        for limit in (1, 2, 7, len(expected)):
            found: list[str] = []
            while page := publisher.groups.members(
                "all", after=found[-1] if found else None, limit=limit
            ):
                assert len(page) == min(limit, len(expected) - len(found))
                found += page
            assert found == expected

    def test_one_begins_after_an_id_that_is_no_member_too(self, publisher: Publisher) -> None:
        for subject in ("1", "3"):
            publisher.groups.add(subject, "all")
        assert publisher.groups.members("all", after=2) == ["3"]
        assert publisher.groups.members("all", "3") == []
        assert publisher.groups.members("nobody") == []

    def test_what_is_no_text_is_passed_over(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.zadd(PLAIN.members_key("all"), {b"a\xff": 0, b"b": 0, b"\xff": 0})
        assert publisher.groups.members("all") == ["b"]
        assert publisher.groups.members("all", after="b") == []

    def test_what_is_no_page_is_refused(self, publisher: Publisher) -> None:
        for limit in NO_LIMITS:
            with pytest.raises(ValueError, match=r"^limit is a whole number, 1 to 10000: "):
                publisher.groups.members("all", limit=limit)
        for subject in NO_SUBJECTS:
            if subject is not None:
                with pytest.raises(InvalidSubject):
                    publisher.groups.members("all", after=subject)


class TestChannels:
    def test_they_come_and_go_and_every_node_is_told(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        channels = publisher.groups.channels("team:3")
        assert channels.list() == set()
        assert channels.add("news") is True
        assert channels.add("news") is False
        assert channels.add("room:1") is True
        assert channels.list() == {"news", "room:1"}
        assert set(redis_client.hkeys(PLAIN.group_key("team:3"))) == {b"news", b"room:1"}
        assert channels.remove("news") is True
        assert channels.remove("news") is False
        assert channels.add("a b") is True
        assert channels.clear() == 2
        assert channels.clear() == 0
        assert written(redis_client) == []
        grant, withdraw = "sinapse:channels::group-grant", "sinapse:channels::group-withdraw"
        *heard, first, second = without_counters(listener)
        assert heard == [
            (grant, "0 team:3 news"),
            (grant, "0 team:3 room:1"),
            *[(withdraw, "team:3 news")] * 2,
            (grant, "0 team:3 a b"),
        ]
        assert {first, second} == {(withdraw, "team:3 room:1"), (withdraw, "team:3 a b")}

    def test_they_do_not_depend_on_who_is_there(self, publisher: Publisher) -> None:
        publisher.groups.channels("team:3").add("news")
        publisher.groups.add("7", "team:3")
        assert publisher.channels.list("7") == set()
        publisher.groups.clear("7")
        assert publisher.groups.channels("team:3").list() == {"news"}

    def test_there_may_be_a_thousand(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        full: dict[Any, Any] = dict.fromkeys(range(MAX_GROUP_CHANNELS - 1), 0)
        redis_client.hset(PLAIN.group_key("team:3"), mapping=full)
        channels = publisher.groups.channels("team:3")
        assert channels.add("last") is True
        listener.heard()
        with pytest.raises(ListFull) as raised:
            channels.add("more")
        assert str(raised.value) == (
            "group 'team:3' has 1000 channels already: 'more' cannot be added"
        )
        assert redis_client.hlen(PLAIN.group_key("team:3")) == MAX_GROUP_CHANNELS
        assert listener.heard() == []
        assert channels.add("last") is False
        assert channels.remove("0") is True
        assert channels.add("more") is True


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_is_a_name(publisher: Publisher, name: str) -> None:
    channels = publisher.groups.channels(name)
    assert publisher.groups.add(name, name) is True
    assert channels.add(name) is True
    assert publisher.groups.of(name) == channels.list() == {name}
    assert publisher.groups.members(name) == [name]
    assert channels.remove(name) is True
    assert publisher.groups.remove(name, name) is True


def test_a_name_may_have_512_bytes(publisher: Publisher) -> None:
    for name in ("a" * 512, "é" * 256):
        assert publisher.groups.add("7", name) is True
        assert publisher.groups.members(name) == ["7"]


class TestRefusals:
    def test_nothing_invalid_is_written_or_told(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        groups = publisher.groups
        for group in NO_GROUPS:
            asked: list[Callable[[], Any]] = [
                partial(groups.add, "7", group),
                partial(groups.remove, "7", group),
                partial(groups.members, group),
                groups.channels(group).list,
                partial(groups.channels(group).add, "news"),
                partial(groups.channels(group).remove, "news"),
                groups.channels(group).clear,
            ]
            for ask in asked:
                with pytest.raises(InvalidGroup) as raised:
                    ask()
                assert type(raised.value) is InvalidGroup
                assert "\n" not in str(raised.value)
        for subject in NO_SUBJECTS:
            for method, rest in (
                (groups.add, ["team:3"]),
                (groups.remove, ["team:3"]),
                (groups.clear, []),
                (groups.of, []),
            ):
                with pytest.raises(InvalidSubject):
                    method(subject, *rest)
        for channel in NO_CHANNELS:
            with pytest.raises(InvalidChannel):
                groups.channels("team:3").add(channel)
            with pytest.raises(InvalidChannel):
                groups.channels("team:3").remove(channel)
        assert written(redis_client) == []
        assert listener.heard() == []

    @pytest.mark.parametrize(
        ("group", "why"),
        [
            ("role editor", "group 'role editor': has white space"),
            ("role\xa0editor", "group 'role\\xa0editor': has white space"),
            ("a\0", "group 'a\\x00': "),
            ("", "group '': "),
            (3, "a group is a str or has sinapse_group, not int"),
        ],
    )
    def test_it_is_said_in_a_sentence_why(self, publisher: Publisher, group: Any, why: str) -> None:
        with pytest.raises(InvalidGroup) as raised:
            publisher.groups.add("7", group)
        assert str(raised.value).startswith(why)

    def test_a_key_that_is_none_of_ours_is_named_and_nothing_is_written(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        redis_client.set(PLAIN.members_key("team:3"), "no sorted set")
        redis_client.set(PLAIN.group_key("team:4"), "no hash")
        redis_client.set(PLAIN.groups_key("8"), "no hash")
        groups = publisher.groups
        asked: list[tuple[Callable[[], Any], str]] = [
            (lambda: groups.add("7", "team:3"), "sinapse:members:team:3"),
            (lambda: groups.remove("7", "team:3"), "sinapse:members:team:3"),
            (lambda: groups.members("team:3"), "sinapse:members:team:3"),
            (lambda: groups.add("7", "team:4"), "sinapse:group:team:4"),
            (lambda: groups.channels("team:4").add("news"), "sinapse:group:team:4"),
            (lambda: groups.channels("team:4").clear(), "sinapse:group:team:4"),
            (lambda: groups.of("8"), "sinapse:groups:8"),
        ]
        for ask, key in asked:
            with pytest.raises(BrokerUnavailable, match=rf"WRONGTYPE: .*: .*{key}"):
                ask()
        assert groups.of("7") == set()
        assert listener.heard() == []


class TestFormer:
    """What is noted of rights that have ended."""

    @staticmethod
    def noted(client: redis.Redis, key: str) -> dict[str, str]:
        """Return it, with counters that begin at the first."""
        first = int(client.hget(PLAIN.retention, "counter") or 0) - 30

        def shown(time: str) -> str:
            start, end = (int(each) - first for each in time.split("-"))
            return f"{start}-{end}"

        found: Any = client.hgetall(key)
        return {
            name.decode(): " ".join(map(shown, times.decode().split()))
            for name, times in found.items()
        }

    @staticmethod
    def pass_by(publisher: Publisher, count: int) -> None:
        for _ in range(count):
            publisher.publish("other", "message")

    def test_nobody_who_has_one_right_leaves_anything(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "news")
        publisher.groups.add("8", "team:3")
        publisher.channels.add("9", "news")
        publisher.groups.channels("team:4").add("news")
        publisher.channels.remove("7", "news")
        publisher.groups.remove("8", "team:3")
        publisher.channels.clear("9")
        assert redis_client.keys("sinapse:former*") == []

    def test_it_says_from_when_to_when(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        team = publisher.groups.channels("team:3")
        self.pass_by(publisher, 1)
        publisher.channels.add("7", "news")  # At 1.
        self.pass_by(publisher, 3)
        team.add("news")  # At 4.
        self.pass_by(publisher, 2)
        publisher.groups.add("7", "team:3")  # At 6.
        self.pass_by(publisher, 4)
        publisher.channels.remove("7", "news")  # At 10.
        self.pass_by(publisher, 10)
        publisher.channels.add("7", "news")  # At 20.
        self.pass_by(publisher, 5)
        team.remove("news")  # At 25; it was there from 4 on.
        self.pass_by(publisher, 2)
        team.add("news")
        self.pass_by(publisher, 3)
        publisher.channels.remove("7", "news")  # At 30.
        assert self.noted(redis_client, PLAIN.former_key("7")) == {"news": "1-10 20-30"}
        assert self.noted(redis_client, PLAIN.former_of_group_key("team:3")) == {"news": "4-25"}
        # With the group what that had is noted of the subject.
        publisher.channels.add("7", "news")
        publisher.groups.remove("7", "team:3")
        assert self.noted(redis_client, PLAIN.former_key("7")) == {"news": "1-30"}
        for key in redis_client.keys("sinapse:former*"):
            assert 31 * 24 * 3600 * 1000 < redis_client.pttl(key) <= 32 * 24 * 3600 * 1000

    def test_it_is_bounded(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        team = publisher.groups.channels("team:3")
        publisher.groups.add("7", "team:3")
        for _ in range(20):
            team.add("news")
            self.pass_by(publisher, 1)
            team.remove("news")
            self.pass_by(publisher, 1)
        key = PLAIN.former_of_group_key("team:3")
        times = (redis_client.hget(key, "news") or b"").split()
        assert len(times) == 16
        counter = int(redis_client.hget(PLAIN.retention, "counter") or 0)
        assert times[-1] == b"%d-%d" % (counter - 2, counter - 1)
        redis_client.hset(key, mapping={f"room:{n}": f"1-{n + 2}" for n in range(1000)})
        team.add("hall")
        team.remove("hall")
        names: Any = redis_client.hkeys(key)
        kept = {name.decode() for name in names}
        # Those whose rights have ended last, and no others.
        assert kept == {"hall", "news", *(f"room:{n}" for n in range(252, 1000))}

    def test_of_a_subject_the_last_channels_are_known(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        team = publisher.groups.channels("team:3")
        publisher.groups.add("7", "team:3")
        for number in range(300):
            self.pass_by(publisher, 1)
            publisher.channels.add("7", f"room:{number}")
            team.add(f"room:{number}")
            publisher.channels.remove("7", f"room:{number}")
            team.remove(f"room:{number}")
        key = PLAIN.former_key("7")
        names: Any = redis_client.hkeys(key)
        kept = {int(name.decode().partition(":")[2]) for name in names}
        assert 192 <= len(kept) <= 256
        assert kept == set(range(300 - len(kept), 300))
        for number in range(400):
            publisher.channels.add("7", f"hall:{number}")
            team.add(f"hall:{number}")
        assert publisher.channels.clear("7") == 400
        assert redis_client.hlen(key) <= 256
        assert team.list() == {f"hall:{number}" for number in range(400)}

    def test_what_others_write_there_changes_nothing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.set(PLAIN.former_key("7"), "no hash")
        redis_client.set(PLAIN.former_of_group_key("team:3"), "no hash")
        redis_client.hset(PLAIN.former_key("8"), "news", "nonsense 9-5 \xff 7 5-99999999999999999")
        for subject in ("7", "8"):
            publisher.channels.add(subject, "news")
            publisher.groups.add(subject, "team:3")
            assert publisher.groups.channels("team:3").add("news")
            assert publisher.channels.remove(subject, "news")
            assert publisher.groups.channels("team:3").remove("news")
            assert publisher.groups.remove(subject, "team:3")


def test_each_operation_is_one_round_trip(flavour: Flavour, tmp_path: Path) -> None:
    with (  # The daemon of this module asks its own Redis as well, when it likes.
        running_redis(tmp_path) as server,
        closing(server.client()) as redis_client,
        flavour(server.url) as publisher,
    ):
        groups = publisher.groups
        asked: list[Callable[[], Any]] = [
            lambda: groups.add("7", "team:3"),
            lambda: groups.remove("7", "team:3"),
            lambda: groups.clear("7"),
            lambda: groups.channels("team:3").add("news"),
            lambda: groups.channels("team:3").remove("news"),
            lambda: groups.channels("team:3").clear(),
        ]
        for warm in (True, False):
            for ask in asked:
                redis_client.config_resetstat()
                ask()
                made = calls(redis_client)
                assert warm or (made["evalsha"], "eval" in made) == (1, False)
        plain: list[tuple[Callable[[], Any], str]] = [
            (lambda: groups.of("7"), "hkeys"),
            (lambda: groups.channels("team:3").list(), "hkeys"),
            (lambda: groups.members("team:3"), "zrange"),
        ]
        for ask, command in plain:
            redis_client.config_resetstat()
            ask()
            assert calls(redis_client)[command] == 1


class TestSeveralRedis:
    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[list[RedisServer]]:
        """Start two Redis."""
        for number in range(2):
            (tmp_path / str(number)).mkdir()
        with running_redis(tmp_path / "0") as first, running_redis(tmp_path / "1") as second:
            yield [first, second]

    @staticmethod
    def channel_of(shard: int) -> str:
        """Return a channel whose messages the Redis of that number has."""
        return next(name for name in "abcdefgh" if shard_of(name.encode(), 2) == shard)

    def test_each_knows_who_is_there_and_the_channels_whose_messages_it_has(
        self, flavour: Flavour, servers: list[RedisServer]
    ) -> None:
        with flavour(" ".join(each.url for each in servers)) as publisher:
            groups, channels = publisher.groups, publisher.groups.channels("team:3")
            names = [self.channel_of(shard) for shard in range(2)]
            for subject in map(str, range(10)):
                assert groups.add(subject, "team:3") is True
                assert groups.add(subject, "team:3") is False
            assert [channels.add(name) for name in names] == [True, True]
            assert channels.list() == set(names)
            assert groups.members("team:3") == [str(number) for number in range(10)]
            for server, name in zip(servers, names, strict=True):
                with server.client() as client:
                    assert client.zcard(PLAIN.members_key("team:3")) == 10
                    assert client.hkeys(PLAIN.groups_key("4")) == [b"team:3"]
                    assert client.hkeys(PLAIN.group_key("team:3")) == [name.encode()]
            assert channels.remove(names[0]) is True
            assert channels.add(names[0]) is True
            assert channels.clear() == 2
            assert groups.add("4", "all") is True
            assert groups.of("4") == {"team:3", "all"}
            assert groups.clear("4") == 2
            for subject in "012356789":
                assert groups.remove(subject, "team:3") is True
            for server in servers:
                with server.client() as client:
                    assert client.keys() == []

    def test_if_one_is_away_it_raises_and_to_repeat_it_does_the_rest(
        self, flavour: Flavour, servers: list[RedisServer]
    ) -> None:
        url = " ".join(each.url for each in servers)
        first, second = servers
        with flavour(url, connect_timeout=1, timeout=1) as publisher, first.client() as client:
            groups = publisher.groups
            groups.add("7", "before")
            second.stop()
            changes: list[Callable[[], Any]] = [
                lambda: groups.add("7", "team:3"),
                lambda: groups.remove("7", "before"),
            ]
            for change in changes:
                with pytest.raises(BrokerUnavailable) as raised:
                    change()
                assert raised.value.delivered is None
            assert client.hkeys(PLAIN.groups_key("7")) == [b"team:3"]
            second.start()
            with second.client() as other:
                other.flushall()
                other.hset(PLAIN.groups_key("7"), "before", 0)
                other.zadd(PLAIN.members_key("before"), {"7": 0})
                assert [change() for change in changes] == [True, True]
                assert groups.of("7") == {"team:3"}
                assert groups.members("before") == []
                for each in (client, other):
                    assert each.hkeys(PLAIN.groups_key("7")) == [b"team:3"]
                    assert each.zrange(PLAIN.members_key("team:3"), 0, -1) == [b"7"]
                    assert not each.exists(PLAIN.members_key("before"))

    def test_a_bound_that_is_reached_in_one_of_them_is_told(
        self, flavour: Flavour, servers: list[RedisServer]
    ) -> None:
        with flavour(" ".join(each.url for each in servers)) as publisher:
            with servers[1].client() as client:
                full: dict[Any, Any] = dict.fromkeys(range(MAX_GROUPS), 0)
                client.hset(PLAIN.groups_key("7"), mapping=full)
            with pytest.raises(ListFull, match="is in 100 groups already"):
                publisher.groups.add("7", "team:3")


def without_counters(listener: Listener) -> list[tuple[str, str]]:
    """Return what was heard without the counter of ids, which every payload begins with."""
    return [(channel, payload.decode().partition(" ")[2]) for channel, payload in listener.heard()]
