"""Several operations in one round trip: order, results, and what is known when some fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from sinapse.errors import BrokerUnavailable, Incomplete, InvalidChannel, InvalidEvent, ListFull
from sinapse.protocol.ids import EventID
from sinapse.protocol.keys import MAX_GROUPS, hashed_token
from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Outgoing, Published, Publisher, aio, tx
from sinapse.publisher.operations.conversation import MAX_DATA_PER_CALL, MAX_MESSAGES_PER_CALL
from sinapse.testing import capture
from tests.support import RedisServer, running_redis
from tests.support.flavours import Flavour, running_reactor, wait_for_deferred
from tests.support.listening import Listener, listening
from tests.support.publishing import calls


@pytest.fixture
def redis_server(emptied_redis: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its data."""
    return emptied_redis


@pytest.fixture
def publisher(flavour: Flavour, redis_server: RedisServer) -> Iterator[Publisher]:
    with flavour(redis_server.url) as publisher:
        yield publisher


class Room(NamedTuple):
    """An object of the application that happens to be a tuple."""

    sinapse_channel: str
    sinapse_retain: float | None = None


def texts(listener: Listener) -> list[tuple[str, str]]:
    """Return the channels and data that were heard."""
    return [(channel, unpack(payload).data) for channel, payload in listener.heard()]


def known(error: Incomplete) -> list[Any]:
    """Return what came of each operation, or whether it can have been carried out."""
    return [
        each.delivered if isinstance(each, BrokerUnavailable) else each for each in error.results
    ]


class TestPublishMany:
    @pytest.mark.parametrize("retain", [0, 60])
    def test_they_are_heard_in_their_order(
        self, publisher: Publisher, listener: Listener, retain: float
    ) -> None:
        messages = [
            Outgoing(f"room:{n % 3}", str(n), retain=retain)
            for n in range(3 * MAX_MESSAGES_PER_CALL + 7)
        ]
        assert publisher.publish_many(messages) == [1] * len(messages)
        assert texts(listener) == [(each.channel, each.message) for each in messages]

    @pytest.mark.parametrize("forgotten", [False, True], ids=["at first", "forgotten"])
    def test_those_that_are_retained_and_those_that_are_not_keep_their_order(
        self,
        publisher: Publisher,
        listener: Listener,
        redis_client: redis.Redis,
        forgotten: bool,
    ) -> None:
        messages = [Outgoing("a", str(n), retain=n % 2) for n in range(6)]
        once = [Outgoing("a", "once", retain=0, message_id="x"), *messages]
        redis_client.script_flush()
        if forgotten:
            publisher.publish_many(once)
            listener.heard()
            redis_client.delete("sinapse:sent:x")
            redis_client.script_flush()
        assert publisher.publish_many(once) == [1] * 7
        assert [data for _, data in texts(listener)] == ["once", *map(str, range(6))]

    def test_the_forms_of_a_message(self, publisher: Publisher, listener: Listener) -> None:
        class Quiet:
            sinapse_channel = "quiet"
            sinapse_retain = 0

        nodes = publisher.publish_many(
            [
                ("room:1", {"a": 1}),
                ("room:1", "b", "note"),
                (Room("room:2"), "c", None, 5),
                Outgoing(Quiet(), b"d", message_id="x"),
                Outgoing("room:1", "again", message_id="x"),
            ]
        )
        assert nodes == [1, 1, 1, 1, 0]
        heard = [(channel, unpack(payload)) for channel, payload in listener.heard()]
        assert [(channel, each.data, each.event) for channel, each in heard] == [
            ("room:1", '{"a":1}', None),
            ("room:1", "b", "note"),
            ("room:2", "c", None),
            ("quiet", "d", None),
        ]
        assert [each.id is None for _, each in heard] == [False, False, False, True]

    def test_mappings_are_read_by_their_names(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        messages: list[Mapping[str, Any]] = [
            {"channel": "room:1", "message": "a"},
            {"message": "b", "channel": "room:2", "event": "note", "retain": 0},
        ]
        assert publisher.publish_many(messages) == [1, 1]
        assert texts(listener) == [("room:1", "a"), ("room:2", "b")]

    @pytest.mark.parametrize(
        "wrong",
        ["ab", {"channel": "a"}, {"channel": "a", "data": "b"}, ("a",), {"a", "b"}, None, 7],
        ids=[
            "text",
            "half a mapping",
            "other names",
            "half a pair",
            "a set",
            "nothing",
            "a number",
        ],
    )
    def test_what_is_no_message_is_refused(
        self, publisher: Publisher, listener: Listener, wrong: Any
    ) -> None:
        with pytest.raises(ValueError, match="a tuple or a mapping of channel, message, event"):
            publisher.publish_many(cast(Any, [("room:1", "a"), wrong]))
        assert listener.heard() == []

    def test_none_are_no_round_trip(
        self, publisher: Publisher, redis_client: redis.Redis, redis_server: RedisServer
    ) -> None:
        before = len(redis_client.client_list())
        assert publisher.publish_many([]) == []
        assert publisher.publish([], "hello") == 0
        assert len(redis_client.client_list()) == before

    def test_retained_ones_are_retained_as_if_one_by_one(
        self, publisher: Publisher, listener: Listener, redis_client: Any
    ) -> None:
        publisher.publish("room:0", "before")
        publisher.publish_many([(f"room:{n % 2}", str(n)) for n in range(10)])
        ids = [EventID.parse(str(unpack(payload).id)) for _, payload in listener.heard()]
        counters = [each.counter for each in ids if each]
        assert counters == list(range(counters[0], counters[0] + 11))
        for room in (0, 1):
            entries = redis_client.xrange(f"sinapse:retained:room:{room}")
            own = [int(name.partition(b"-")[0]) for name, _ in entries]
            links = [int(float([*fields.values()][1])) for _, fields in entries]
            assert links[1:] == own[:-1]
            assert redis_client.zscore("sinapse:last", f"room:{room}") == own[-1]
            assert 290_000 < redis_client.pttl(f"sinapse:retained:room:{room}") <= 300_000

    def test_the_longest_retention_counts(self, publisher: Publisher, redis_client: Any) -> None:
        publisher.publish_many(
            [Outgoing("room:1", "a", retain=r) for r in (60, 600, 30)]
            + [Outgoing("room:2", "a", retain=30)]
        )
        assert 590_000 < redis_client.pttl("sinapse:retained:room:1") <= 600_000
        assert 25_000 < redis_client.pttl("sinapse:retained:room:2") <= 30_000

    def test_no_more_are_kept_than_is_said(
        self, flavour: Flavour, redis_server: RedisServer, redis_client: Any
    ) -> None:
        with flavour(redis_server.url, retain_messages=3) as publisher:
            publisher.publish_many([("room:1", str(n)) for n in range(10)])
        kept = redis_client.xrange("sinapse:retained:room:1")
        assert [unpack(fields[b"p"]).data for _, fields in kept] == ["7", "8", "9"]

    def test_message_ids_count_within_and_between(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        messages = [Outgoing("room:1", str(n), message_id=str(n % 4)) for n in range(6)]
        assert publisher.publish_many(messages) == [1, 1, 1, 1, 0, 0]
        assert publisher.publish_many(messages) == [0] * 6
        assert publisher.publish("room:1", "a", message_id="3") == 0
        assert [data for _, data in texts(listener)] == ["0", "1", "2", "3"]

    def test_they_take_few_calls(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        messages = [(f"room:{n % 5}", "hello") for n in range(2 * MAX_MESSAGES_PER_CALL)]
        publisher.publish_many(messages)
        redis_client.config_resetstat()
        publisher.publish_many(messages)
        made = calls(redis_client)
        assert made.get("eval", 0) + made.get("evalsha", 0) == 2
        assert (made["xadd"], made["publish"]) == (
            2 * MAX_MESSAGES_PER_CALL,
            2 * MAX_MESSAGES_PER_CALL,
        )
        assert made["hincrby"] == 2
        assert made["zadd"] == 10

    def test_large_ones_are_split(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        large = "a" * (MAX_DATA_PER_CALL // 2)
        redis_client.config_resetstat()
        publisher.publish_many([("room:1", large)] * 6)
        made = calls(redis_client)
        assert made.get("eval", 0) + made.get("evalsha", 0) == 2
        assert made["publish"] == 6

    def test_what_is_invalid_is_refused_before_any_is_sent(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        with pytest.raises(InvalidEvent) as raised:
            publisher.publish_many([("room:1", "a"), ("room:1", "b", "a\nb")])
        assert raised.value.__notes__ == ["It is message 1 of those to publish, counted from 0."]
        assert listener.heard() == []

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.sampled_from([0, 600, 900]),
                st.none() | st.just("id"),
                st.none() | st.sampled_from([0, 1, 5, "all"]),
                st.sampled_from([None, "a", "x" * 64]),
            ),
            max_size=12,
        )
    )
    def test_it_leaves_what_one_by_one_leaves(
        self,
        redis_process: RedisServer,
        messages: list[tuple[str, float, str | None, Any, str | None]],
    ) -> None:
        outgoing = [
            Outgoing(
                channel,
                str(number),
                "e",
                retain,
                name and f"{name}{number % 2}",
                replay if retain else None,
                retain_messages=3,
                but=but,
            )
            for number, (channel, retain, name, replay, but) in enumerate(messages)
        ]
        with redis_process.client() as client, Publisher(redis_process.url) as publisher:
            found = []
            for publish in (
                lambda: publisher.publish_many(outgoing),
                lambda: [publisher.publish(**each._asdict()) for each in outgoing],
            ):
                client.flushall()
                with listening(redis_process) as listener:
                    nodes = publish()
                    ids = [each.id for each in nodes]
                    same = [each and ids.index(each) for each in ids]
                    heard = [(c, unpack(p)._replace(id=None)) for c, p in listener.heard()]
                kept = {
                    channel: [
                        unpack(fields[b"p"])._replace(id=None)
                        for _, fields in client.xrange(f"sinapse:retained:{channel}")
                    ]
                    for channel in "abc"
                }
                # A checkpoint is made where the counter, which begins with the clock, is round; and
                # a node that is still there looks after its epoch.
                keys = {*client.keys()} - {PLAIN.checkpoints.encode(), PLAIN.retention.encode()}
                found.append((nodes, same, heard, kept, keys, client.hgetall("sinapse:replay")))
        assert found[0] == found[1]


class TestManyChannels:
    @pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
    def test_each_hears_it(
        self, publisher: Publisher, listener: Listener, kind: Callable[[Any], Any]
    ) -> None:
        assert publisher.publish(kind(["room:1", "room:2", "news"]), {"a": 1}, event="note") == 3
        assert sorted(texts(listener)) == [
            (name, '{"a":1}') for name in ("news", "room:1", "room:2")
        ]

    def test_one_that_is_a_tuple_is_one(self, publisher: Publisher, listener: Listener) -> None:
        assert publisher.publish(Room("room:1"), "hello") == 1
        assert publisher.publish([Room("room:1"), Room("room:2")], "hello") == 2
        assert len(listener.heard()) == 3

    def test_a_message_id_is_that_of_one(self, publisher: Publisher, listener: Listener) -> None:
        with pytest.raises(ValueError, match="give each its own"):
            publisher.publish(["room:1", "room:2"], "hello", message_id="a")
        assert publisher.publish(["room:1"], "hello", message_id="a") == 1

    def test_one_that_is_invalid_stops_all(self, publisher: Publisher, listener: Listener) -> None:
        with pytest.raises(InvalidChannel):
            publisher.publish(["room:1", "sinapse:x"], "hello")
        assert listener.heard() == []


class Piped(NamedTuple):
    """A kind of publisher, and how a test fills a pipeline of it."""

    kind: str
    publisher: Any
    fill: Callable[[Callable[[Any], Any]], Any]


@pytest.fixture(params=["sync", "aio", "twisted"])
def piped(request: pytest.FixtureRequest, redis_server: RedisServer) -> Piped:
    """Return each kind of publisher in turn, with pipelines in their own kinds of blocks."""
    return made(request.param, redis_server.url)


def made(kind: str, url: str) -> Piped:
    if kind == "sync":
        plain = Publisher(url)

        def fill(block: Callable[[Any], Any]) -> Any:
            with plain, plain.pipeline() as pipe:
                return block(pipe)

        return Piped(kind, plain, fill)
    publisher: Any = (
        aio.Publisher(url) if kind == "aio" else tx.Publisher(url, reactor=running_reactor())
    )

    async def run(block: Callable[[Any], Any]) -> Any:
        async with publisher, publisher.pipeline() as pipe:
            return block(pipe)

    if kind == "aio":
        return Piped(kind, publisher, lambda block: asyncio.run(run(block)))
    return Piped(
        kind, publisher, lambda block: wait_for_deferred(lambda: Deferred.fromCoroutine(run(block)))
    )


class TestPipeline:
    def test_what_is_collected_is_done_in_its_order_and_has_results(
        self, piped: Piped, listener: Listener
    ) -> None:
        def block(pipe: Any) -> Any:
            found = {
                "added": pipe.channels.add("7", "room:1"),
                "added again": pipe.channels.add("7", "room:1"),
                "token": pipe.tokens.generate("7", expires_in=60),
                "same": pipe.tokens.obtain("7"),
                "nodes": pipe.publish("room:1", "a"),
                "more nodes": pipe.publish("room:1", "b"),
                "position": pipe.position(),
                "plain": pipe.publish("room:1", "c", retain=0),
                "list": pipe.channels.list("7"),
                "has": pipe.channels.has("7", "room:1"),
                "removed": pipe.channels.remove("7", "room:1"),
                "cleared": pipe.channels.clear("7"),
                "renewed": pipe.tokens.renew("7"),
                "current": pipe.tokens.get("7"),
                "revoked": pipe.tokens.clear("7"),
            }
            assert len(pipe) == len(found)
            with pytest.raises(RuntimeError, match="not sent yet"):
                found["token"].result  # noqa: B018
            return found

        found = {name: pending.result for name, pending in piped.fill(block).items()}
        token = found.pop("token")
        assert len(token) == 86
        position = found.pop("position")
        assert found == {
            "added": True,
            "added again": False,
            "same": token,
            "nodes": 1,
            "more nodes": 1,
            "plain": 1,
            "list": {"room:1"},
            "has": True,
            "removed": True,
            "cleared": 0,
            "renewed": True,
            "current": token,
            "revoked": True,
        }
        heard = listener.heard()
        (last,) = [payload for _, payload in heard if payload.endswith(str(position).encode())]
        assert unpack(last).data == "b"
        told = [channel.rpartition(":")[2] for channel, _ in heard]
        assert told == ["grant", "add"] * 2 + ["1"] * 3 + ["withdraw", "remove", "revoke"]

    def test_sessions_are_collected_too(self, piped: Piped, redis_client: redis.Redis) -> None:
        def block(pipe: Any) -> Any:
            opened = [pipe.sessions.open("7", device=device) for device in ("a", "b", "c")]
            return opened, pipe.sessions.list("7")

        opened, listed = piped.fill(block)
        a, b, c = (each.result for each in opened)
        assert [(each.id, each.device) for each in listed.result] == [
            (a.id, "a"),
            (b.id, "b"),
            (c.id, "c"),
        ]

        def end(pipe: Any) -> list[Any]:
            sessions = pipe.sessions
            return [
                *(sessions.renew("7", a.id, 60), sessions.end("7", a.id), sessions.end("7", a.id)),
                *(sessions.end_all("7", but=c.id), sessions.end_all("7"), sessions.list("7")),
            ]

        assert [each.result for each in piped.fill(end)] == [True, True, False, 1, 1, []]
        assert redis_client.keys() == []

    def test_groups_are_collected_too(
        self, piped: Piped, redis_client: redis.Redis, listener: Listener
    ) -> None:
        def block(pipe: Any) -> list[Any]:
            groups, channels = pipe.groups, pipe.groups.channels("team:3")
            return [
                *(groups.add("7", "team:3"), groups.add("8", "team:3"), groups.add("7", "all")),
                *(channels.add("news"), channels.add("room:1"), channels.list()),
                *(groups.of("7"), groups.members("team:3", limit=1), channels.remove("news")),
                *(groups.remove("8", "team:3"), groups.clear("7"), channels.clear()),
            ]

        assert [each.result for each in piped.fill(block)] == [
            *(True, True, True, True, True, {"news", "room:1"}),
            *({"team:3", "all"}, ["7"], True, True, 2, 1),
        ]
        assert not [*redis_client.scan_iter("sinapse:g*"), *redis_client.scan_iter("sinapse:m*")]
        told = [channel.rpartition(":")[2] for channel, _ in listener.heard()]
        assert told == [
            *["join"] * 3,
            *["group-grant"] * 2,
            *("group-withdraw", "leave", "leave", "leave", "group-withdraw"),
        ]

    def test_a_bound_that_is_reached_is_told_of_that_one_only(
        self, piped: Piped, redis_client: redis.Redis
    ) -> None:
        for number in range(MAX_GROUPS):
            redis_client.hset(PLAIN.groups_key("7"), f"team:{number}", 0)
        pending: list[Any] = []

        def block(pipe: Any) -> None:
            pending.extend([pipe.groups.add("7", "more"), pipe.groups.add("8", "more")])

        with pytest.raises(Incomplete, match=r"^1 of 2 failed: subject '7' is in 100 groups"):
            piped.fill(block)
        with pytest.raises(ListFull, match="it cannot join 'more'"):
            pending[0].result  # noqa: B018
        assert pending[1].result is True

    def test_what_the_publisher_was_told_of_sessions_holds(
        self,
        piped: Piped,
        redis_server: RedisServer,
        redis_client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_SESSIONS", "2")
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        told = made(piped.kind, redis_server.url)
        opened = told.fill(lambda pipe: [pipe.sessions.open("7") for _ in range(3)])
        first, *_, last = (each.result for each in opened)
        assert last.ended == (first.id,)
        tokens = redis_client.keys("sinapse:tokens:*")
        assert len(tokens) == 2
        assert f"sinapse:tokens:{hashed_token(last.token)}".encode() in tokens

    def test_nothing_is_sent_if_the_block_fails(self, piped: Piped, listener: Listener) -> None:
        def block(pipe: Any) -> None:
            pipe.publish("room:1", "hello")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            piped.fill(block)
        assert listener.heard() == []

    def test_what_is_invalid_raises_where_it_is_asked_for(
        self, piped: Piped, listener: Listener
    ) -> None:
        def block(pipe: Any) -> None:
            pipe.publish("room:1", "hello")
            pipe.publish("sinapse:x", "hello")

        with pytest.raises(InvalidChannel):
            piped.fill(block)
        assert listener.heard() == []

    def test_an_empty_one_does_nothing(self, piped: Piped) -> None:
        assert piped.fill(len) == 0

    def test_some_may_fail_and_the_others_are_done(
        self, piped: Piped, listener: Listener, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retained:bad", "no stream")
        redis_client.set("sinapse:channels:bad", "no set")
        pending: list[Any] = []

        def block(pipe: Any) -> None:
            pending.extend(
                [
                    pipe.publish("room:1", "a"),
                    pipe.publish("bad", "b", message_id="b"),
                    pipe.publish("room:1", "c"),
                    pipe.channels.add("bad", "room:1"),
                    pipe.publish("room:1", "d"),
                ]
            )

        with pytest.raises(Incomplete, match=r"^2 of 5 failed: Redis at .* WRONGTYPE") as raised:
            piped.fill(block)
        assert raised.value.delivered is None
        assert known(raised.value) == [1, False, 1, False, 1]
        assert pending[2].result == 1
        with pytest.raises(BrokerUnavailable, match=r"WRONGTYPE: .*: sinapse:retained:bad$"):
            pending[1].result  # noqa: B018
        with pytest.raises(
            BrokerUnavailable, match=r"WRONGTYPE: .*: sinapse:channels:bad, "
        ) as told:
            pending[3].result  # noqa: B018
        assert "bad:add" not in str(told.value)
        assert [data for _, data in texts(listener)] == ["a", "c", "d"]
        assert not redis_client.exists("sinapse:sent:b")

    def test_it_is_captured(self, piped: Piped) -> None:
        with capture() as messages:
            pending = piped.fill(lambda pipe: (pipe.tokens.generate("7"), pipe.publish("a", "b")))
        assert [each.channel for each in messages] == ["a"]
        assert [type(each.result) for each in pending] == [str, Published]

    def test_it_begins_anew_when_it_was_sent(self, redis_server: RedisServer) -> None:
        with Publisher(redis_server.url) as publisher:
            pipe = publisher.pipeline()
            pipe.channels.add("7", "a")
            assert pipe.send() == [True]
            assert pipe.send() == []
            pipe.channels.has("7", "a")
            assert pipe.send() == [True]


class TestFailures:
    @pytest.fixture
    def own_redis(self, tmp_path: Path) -> Iterator[RedisServer]:
        with running_redis(tmp_path) as server:
            yield server

    def failure(self, flavour: Flavour, url: str, messages: list[Any]) -> list[Any]:
        """Return for each message whether it can have been delivered, or how many heard it."""
        with flavour(url) as publisher, pytest.raises(Incomplete) as raised:
            publisher.publish_many(messages)
        return [*known(raised.value), raised.value.delivered]

    @pytest.mark.parametrize("retain", [0, 60])
    def test_a_redis_that_is_away(
        self, flavour: Flavour, own_redis: RedisServer, retain: float
    ) -> None:
        own_redis.stop()
        messages = [Outgoing("room:1", "hello", retain=retain)] * 3
        assert self.failure(flavour, own_redis.url, messages) == [False] * 4

    def test_no_memory_and_a_replica(self, flavour: Flavour, own_redis: RedisServer) -> None:
        plain = Outgoing("a", "b", retain=0)
        messages = [*[Outgoing("a", "b")] * 3, plain, plain, plain._replace(message_id="x")]
        with contextlib.closing(own_redis.client()) as client, listening(own_redis) as listener:
            client.config_set("maxmemory", 1)
            self.none_is_published(flavour, own_redis.url, messages, "maxmemory")
            client.config_set("maxmemory", 0)
            client.replicaof("127.0.0.1", "1")
            self.none_is_published(flavour, own_redis.url, messages, "read only replica")
            client.replicaof("NO", "ONE")
            assert client.keys("sinapse:*") == []
            assert listener.heard() == []

    def none_is_published(
        self, flavour: Flavour, url: str, messages: list[Outgoing], why: str
    ) -> None:
        assert self.failure(flavour, url, messages) == [False] * (len(messages) + 1)
        with flavour(url) as publisher:
            for each in messages:
                with pytest.raises(BrokerUnavailable, match=why) as raised:
                    publisher.publish(**each._asdict())
                assert raised.value.delivered is False

    def test_one_that_is_not_retained_changes_nothing(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        def changes() -> int:
            changed: int = redis_client.info("persistence")["rdb_changes_since_last_save"]
            return changed

        before = changes()
        publisher.publish("a", "1", retain=0)
        publisher.publish_many([Outgoing("a", str(n), retain=0) for n in (2, 3)])
        assert [data for _, data in texts(listener)] == ["1", "2", "3"]
        assert changes() == before
        assert redis_client.keys() == []

    def test_a_user_who_may_not_publish_everywhere(
        self, flavour: Flavour, own_redis: RedisServer
    ) -> None:
        with contextlib.closing(own_redis.client()) as client, listening(own_redis) as listener:
            client.execute_command("ACL SETUSER bob on >p ~* resetchannels &a &sinapse:* +@all")
            url = own_redis.url.replace("//", "//bob:p@")
            messages = [Outgoing("a", "1"), Outgoing("b", "2"), Outgoing("a", "3", retain=0)]
            # It may be retained, and takes nothing from the others.
            assert self.failure(flavour, url, messages) == [1, None, 1, None]
            assert [data for _, data in texts(listener)] == ["1", "3"]
            plain = [Outgoing(channel, "4", retain=0) for channel in "ab"]
            assert self.failure(flavour, url, plain) == [1, False, None]
            with flavour(url) as publisher, pytest.raises(BrokerUnavailable) as raised:
                publisher.publish("b", "5", retain=0)
            assert raised.value.delivered is False

    def test_a_script_that_was_forgotten_is_told_again(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        messages = [Outgoing("a", str(n), retain=n % 2) for n in range(6)]
        for _ in range(3):
            redis_client.script_flush()
            assert publisher.publish_many(messages) == [1] * 6
            redis_client.script_flush()
            assert publisher.publish_many([("a", "x")] * 2) == [1] * 2
        once = [str(n) for n in range(6)] + ["x", "x"]
        assert [data for _, data in texts(listener)] == once * 3

    def test_a_connection_that_is_lost_in_the_middle(
        self, flavour: Flavour, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        own = str(redis_client.client_id())
        with flavour(redis_server.url, timeout=60) as publisher:
            publisher.publish("a", "before", retain=0)
            [other] = {each["id"] for each in redis_client.client_list()} - {own}
            results = publisher._connections.run_all(
                [
                    publisher.messages.publish("a", "first", None, 0, None),
                    plain("CLIENT", "KILL", "ID", other, "SKIPME", "no"),
                    publisher.messages.publish("a", "second", None, 0, None),
                ]
            )
        assert results[0] == 0
        assert isinstance(results[2], BrokerUnavailable)
        assert results[2].delivered is None


def plain(*command: str) -> Any:
    from sinapse.publisher.operations.operation import Plain

    return Plain(command)
