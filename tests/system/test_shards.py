"""A daemon and publishers on three real Redis, of which one dies and returns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.sync.client import connect

from sinapse.errors import BrokerUnavailable, UnknownID
from sinapse.protocol.names import PLAIN
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher, aio
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.flavours import FLAVOURS
from tests.support.listening import listening
from tests.support.proxy import running_proxy
from tests.support.subscribing import obtained, subscribe

COUNT = 3

#: Three channels of each Redis.
CHANNELS = [
    name
    for shard in range(COUNT)
    for name in [
        name for name in map("room:{}".format, range(99)) if shard_of(name.encode(), COUNT) == shard
    ][:3]
]
FIRST = CHANNELS[::3]  # One of each.

KEPT = ("--appendonly", "yes", "--appendfsync", "always")


class Place(NamedTuple):
    servers: list[RedisServer]
    daemons: list[Daemon]
    publisher: Publisher


@contextlib.contextmanager
def running(folder: Path, *options: str, nodes: int = 1) -> Iterator[Place]:
    """Run three Redis, and daemons on all of them."""
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(COUNT):
            (folder / f"redis-{number}").mkdir()
            servers.append(stack.enter_context(running_redis(folder / f"redis-{number}", *options)))
        url = " ".join(server.url for server in servers)
        daemons = []
        for number in range(nodes):
            (folder / f"node-{number}").mkdir()
            # Ready is here when all of them are.
            node = running_daemon(folder / f"node-{number}", url, "--min-redis=100%")
            daemons.append(stack.enter_context(node))
        yield Place(servers, daemons, stack.enter_context(Publisher(url)))
        for daemon in daemons:
            assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running(tmp_path_factory.mktemp("shards")) as place:
        yield place


@pytest.fixture
def place(_place: Place) -> Place:
    for server in _place.servers:
        with contextlib.closing(server.client()) as client:
            for key in client.scan_iter(match="sinapse:[tcUs]*"):
                client.delete(key)
            client.delete(PLAIN.replay)
    return _place


@pytest.fixture
def daemon(place: Place) -> Daemon:
    return place.daemons[0]


@pytest.fixture
def publisher(place: Place) -> Publisher:
    return place.publisher


def read(stream: Stream, count: int) -> list[Event]:
    return [stream.next() for _ in range(count)]


class TestPublisher:
    """Everything is where it belongs."""

    def test_channels_and_what_grants_them_are_together(
        self, place: Place, publisher: Publisher
    ) -> None:
        for channel in CHANNELS:
            assert publisher.channels.add("1", channel) is True
            publisher.publish(channel, "x")
        for number, server in enumerate(place.servers):
            with contextlib.closing(server.client()) as client:
                own = set(CHANNELS[3 * number : 3 * number + 3])
                assert client.smembers("sinapse:channels:1") == {name.encode() for name in own}
                kept = set(client.keys("sinapse:retained:*"))
                assert kept == {f"sinapse:retained:{name}".encode() for name in own}
        assert publisher.channels.list("1") == set(CHANNELS)
        assert publisher.channels.has("1", CHANNELS[4])
        assert publisher.channels.remove("1", CHANNELS[4]) is True
        assert publisher.channels.list("1") == set(CHANNELS) - {CHANNELS[4]}
        assert publisher.channels.clear("1") == len(CHANNELS) - 1
        assert publisher.channels.list("1") == set()

    def test_history_is_read_after_the_part_of_an_id_that_is_of_its_redis(
        self, place: Place, publisher: Publisher
    ) -> None:
        for channel in FIRST:
            publisher.publish(channel, "before")
        position = publisher.position()
        own = {channel: publisher.publish(channel, "after", replay=1).id for channel in FIRST}
        for number, channel in enumerate(FIRST):
            page = publisher.history(channel, position)
            assert [(each.data, each.id) for each in page.messages] == [("after", own[channel])]
            with pytest.raises(UnknownID):  # Of more Redis than there are.
                publisher.history(channel, f"{position}.{position}")
            # An id with fewer parts is that of the first ones.
            first = position.split(".")[0]
            if number == 0:
                assert publisher.history(channel, first) == page
            else:
                with pytest.raises(UnknownID):
                    publisher.history(channel, first)
            with contextlib.closing(place.servers[number].client()) as client:
                assert client.hget("sinapse:replay", channel) == b"1"

    def test_tokens_are_where_their_subject_is(self, place: Place, publisher: Publisher) -> None:
        for subject in map(str, range(20)):
            token = publisher.tokens.generate(subject)
            home = shard_of(subject.encode(), COUNT)
            assert shard_of(token.encode(), COUNT) == home
            with contextlib.closing(place.servers[home].client()) as client:
                assert client.get(f"sinapse:tokens:{token}") == subject.encode()
            assert publisher.tokens.get(subject) == token
            assert publisher.tokens.renew(subject, expires_in=60)
            assert publisher.tokens.clear(subject)
            assert publisher.tokens.get(subject) is None

    def test_it_is_the_same_with_asyncio(self, place: Place) -> None:
        async def use() -> None:
            async with aio.Publisher(" ".join(server.url for server in place.servers)) as publisher:
                for channel in CHANNELS:
                    assert await publisher.channels.add("1", channel)
                    assert await publisher.publish(channel, "x") == 0
                assert await publisher.channels.list("1") == set(CHANNELS)
                token = await publisher.tokens.generate("1")
                assert await publisher.tokens.obtain("1") == token
                assert shard_of(token.encode(), COUNT) == shard_of(b"1", COUNT)
                assert await publisher.channels.clear("1") == len(CHANNELS)

        asyncio.run(use())

    def test_of_what_all_are_asked_it_is_known_that_a_part_may_have_been_done(
        self, place: Place, publisher: Publisher
    ) -> None:
        subscribe(publisher, *FIRST)
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        urls = [place.servers[0].url, place.servers[1].url, nowhere]
        with Publisher(" ".join(urls), connect_timeout=1) as half:
            with pytest.raises(BrokerUnavailable) as caught:
                half.channels.clear("1")
            assert caught.value.delivered is None
            with pytest.raises(BrokerUnavailable) as caught:
                half.channels.add("1", FIRST[2])
            assert caught.value.delivered is False
        assert publisher.channels.list("1") == {FIRST[2]}


class TestStreams:
    """A stream over several Redis is a stream."""

    def test_messages_of_all_come_with_whole_ids(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(subscribe(publisher, *FIRST)).opened() as stream:
            assert stream.position is not None
            assert len(stream.position.split(".")) == COUNT
            for number, channel in enumerate(FIRST):
                publisher.publish(channel, str(number), event="chat")
            events = read(stream, COUNT)
            assert sorted(event.data for event in events) == ["0", "1", "2"]
            assert all(event.event == "chat" for event in events)
            # With each message its own part changes, and no other.
            ids = [stream.position, *(str(event.id) for event in events)]
            for before, after in itertools.pairwise(ids):
                pairs = zip(before.split("."), after.split("."), strict=True)
                assert sum(a != b for a, b in pairs) == 1

    def test_it_resumes_after_its_id_in_each(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, *CHANNELS)
        with daemon.stream(token).opened() as stream:
            for channel in CHANNELS:
                publisher.publish(channel, f"{channel} 0")
            last = read(stream, len(CHANNELS))[-1].id
        for number in range(1, 300):
            publisher.publish(CHANNELS[number % 9], f"{CHANNELS[number % 9]} {number}")
        with daemon.stream(token, after=last).opened() as stream:
            for channel in CHANNELS:
                publisher.publish(channel, f"{channel} 300")
            texts = [event.data for event in read(stream, 299 + len(CHANNELS))]
        for index, channel in enumerate(CHANNELS):
            own = [int(text.split()[1]) for text in texts if text.split()[0] == channel]
            assert own == [*(number for number in range(1, 300) if number % 9 == index), 300]

    def test_every_id_on_the_way_can_be_resumed_from(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, *FIRST)
        with daemon.stream(token).opened() as stream:
            first = stream.position
        for number in range(30):
            publisher.publish(FIRST[number % 3], str(number))
        with daemon.stream(token, after=first).opened() as stream:
            events = read(stream, 30)
        for index in range(0, 30, 4):
            rest = {event.data for event in events[index + 1 :]}
            with daemon.stream(token, after=events[index].id).opened() as stream:
                assert {event.data for event in read(stream, len(rest))} == rest

    def test_channels_come_and_go_and_the_last_one_ends_it(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(subscribe(publisher, FIRST[0])).opened() as stream:
            publisher.channels.add("1", FIRST[1])
            publisher.publish(FIRST[1], "added")
            assert stream.message().data == "added"
            publisher.channels.remove("1", FIRST[0])
            publisher.publish(FIRST[0], "removed")
            publisher.publish(FIRST[1], "still")
            assert stream.message().data == "still"
            publisher.channels.remove("1", FIRST[1])
            with pytest.raises(Ended):
                stream.next()

    def test_a_token_that_is_cleared_ends_it(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher, *FIRST)
        with daemon.stream(token).opened() as stream:
            publisher.tokens.clear("1")
            with pytest.raises(Ended):
                stream.next()
        with daemon.stream(token) as stream:
            assert stream.status == 401

    def test_who_may_listen_to_nothing_anywhere_is_refused(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with daemon.stream(publisher.tokens.generate("1")) as stream:
            assert stream.status == 401

    def test_an_id_that_nobody_knows_is_one_reset_for_all(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, *FIRST)
        with daemon.stream(token, after="nonsense").opened() as stream:
            reset = stream.next()
            assert json.loads(reset.data) == {"reason": "unknown-id", "channels": sorted(FIRST)}
            for channel in FIRST:
                publisher.publish(channel, channel)
            events = read(stream, COUNT)
        with daemon.stream(token, after=reset.id).opened() as stream:
            assert {event.data for event in read(stream, COUNT)} == set(FIRST)
        with daemon.stream(token, after=events[0].id).opened() as stream:
            assert {event.data for event in read(stream, 2)} == {each.data for each in events[1:]}

    def test_a_redis_that_is_new_is_no_loss_to_who_has_no_channel_there(
        self, place: Place, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, FIRST[0])
        with daemon.stream(token).opened() as stream:
            assert stream.position is not None
            former = stream.position.rpartition(".")[0]
        with daemon.stream(token, after=former).opened() as stream:
            told = stream.next()
            # Its id has as many parts as there are Redis from now on.
            assert (told.event, (told.id or "").count(".")) == ("position", COUNT - 1)
            publisher.publish(FIRST[0], "end")
            assert stream.next().data == "end"

    def test_nothing_comes_after_a_token_has_expired_though_its_home_hangs(
        self, place: Place, daemon: Daemon, publisher: Publisher
    ) -> None:
        subject = next(f"{n}" for n in range(99) if shard_of(f"{n}".encode(), COUNT) == 0)
        far = next(name for name in FIRST if shard_of(name.encode(), COUNT) == 1)
        publisher.channels.add(subject, far)
        token = publisher.tokens.generate(subject, expires_in=2)
        home = place.servers[0]
        with daemon.stream(token).opened() as stream:
            assert stream.next().event == "token-expiring"
            with home.suspended():
                time.sleep(1.5)  # It expires by the node's clock alone: nobody can be asked.
                publisher.publish(far, "after its end")
                with pytest.raises(Ended):
                    stream.next()
        eventually(daemon.is_ready)

    def test_websockets_and_long_polls_do_the_same(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, *FIRST)
        url = f"ws://127.0.0.1:{daemon.port}/?access_token={token}"
        with connect(url, proxy=None) as client:
            position = json.loads(client.recv(EVENT_TIMEOUT))["id"]
            publisher.publish(FIRST[0], "live")
            message = json.loads(client.recv(EVENT_TIMEOUT))
            assert message["data"] == "live"
        for number in range(6):
            publisher.publish(FIRST[number % 3], str(number))
        with connect(f"{url}&last_event_id={message['id']}", proxy=None) as client:
            assert json.loads(client.recv(EVENT_TIMEOUT))["event"] == "authentication"
            assert {json.loads(client.recv(EVENT_TIMEOUT))["data"] for _ in range(6)} == set(
                "012345"
            )
        got: list[str] = []
        while len(got) < 7:
            path = f"/?access_token={token}&last_event_id={position}"
            answer = daemon.get(path, Accept="application/json")
            items = json.loads(answer.text)  # type: ignore[attr-defined]
            got += [item["data"] for item in items if "data" in item]
            position = items[-1]["id"]
        assert sorted(got) == [*"012345", "live"]


def revoke_by_clear(publisher: Any) -> None:
    assert publisher.tokens.clear("1") is True


def revoke_by_generate(publisher: Any) -> None:
    publisher.tokens.generate("1")


def revoke_by_pipeline(publisher: Publisher) -> None:
    with publisher.pipeline() as pipe:
        cleared = pipe.tokens.clear("1")
        again = pipe.tokens.clear("1")
    assert (cleared.result, again.result) == (True, False)


class TestRevocation:
    """Every Redis tells of it, the one that has the token first."""

    @pytest.mark.parametrize(
        ("kind", "revoke"),
        [
            *((kind, how) for kind in FLAVOURS for how in (revoke_by_clear, revoke_by_generate)),
            ("sync", revoke_by_pipeline),
        ],
    )
    def test_it_ends_streams_of_a_node_that_has_lost_the_redis_of_the_token(
        self, tmp_path: Path, place: Place, kind: str, revoke: Callable[[Any], None]
    ) -> None:
        home = shard_of(b"1", COUNT)
        urls = [server.url for server in place.servers]
        with (
            running_proxy(place.servers[home].port) as proxy,
            FLAVOURS[kind](" ".join(urls)) as own,
        ):
            way = [proxy.url if shard == home else url for shard, url in enumerate(urls)]
            with running_daemon(tmp_path, " ".join(way)) as node:
                token = subscribe(place.publisher, *FIRST)
                with node.stream(token).opened() as stream:
                    proxy.stall()
                    revoke(own)
                    stream.wait_for_end()
                assert "Traceback" not in node.log

    @pytest.mark.parametrize("kind", FLAVOURS)
    def test_a_redis_that_cannot_be_told_does_not_matter(self, place: Place, kind: str) -> None:
        home = shard_of(b"1", COUNT)
        urls = [server.url for server in place.servers]
        urls[home - 1] = f"redis://127.0.0.1:{free_port()}/0"
        token = place.publisher.tokens.generate("1")
        with FLAVOURS[kind](" ".join(urls)) as own, listening(place.servers[home - 2]) as listener:
            assert own.tokens.clear("1") is True
            assert own.tokens.clear("1") is False
            assert own.tokens.generate("1") == place.publisher.tokens.get("1")
            assert listener.heard() == [("sinapse:channels:1:revoke", token.encode())]

    def test_all_are_told_of_tokens_that_are_left_to_run_out(self, place: Place) -> None:
        tokens, home = place.publisher.tokens, shard_of(b"1", COUNT)
        old = tokens.obtain("1", expires_in=100)
        with contextlib.closing(place.servers[home].client()) as client:
            obtained(client, old, ago=100)
        new = tokens.obtain("1", expires_in=100)
        told = [("sinapse:channels:1:revoke", each.encode()) for each in (old, new)]
        with listening(place.servers[home - 1]) as listener:
            assert tokens.clear("1") is True
            assert listener.heard() == told


class Tab:
    """A browser's tab: reads, is cut off, comes back with its last event ID to any node."""

    def __init__(self, daemons: list[Daemon], token: str) -> None:
        self._daemons = daemons
        self._token = token
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self.texts: list[str] = []
        self.resets: list[str] = []
        self.is_open = threading.Event()
        self._last: str | None = None
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._stopped.is_set():
            daemon = random.choice(self._daemons)
            with (
                contextlib.suppress(OSError, Ended, ValueError),
                daemon.stream(self._token, after=self._last) as stream,
            ):
                self._stream = stream
                while True:
                    event = stream.next()
                    self._last = event.id or self._last
                    if event.event == "authentication":
                        self.is_open.set()
                    elif event.event == "reset":
                        self.resets.append(event.data)
                    elif event.event is None and event.data:
                        self.texts.append(event.data)
            self._stopped.wait(0.05)

    def cut(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.socket.shutdown(2)

    def close(self) -> None:
        self._stopped.set()
        self.cut()
        self._thread.join(EVENT_TIMEOUT)

    def numbers(self, channel: str) -> list[int]:
        return [int(number) for name, number in map(str.split, self.texts) if name == channel]


@pytest.mark.timeout(120)
def test_one_dies_and_returns_and_nobody_misses_anything(tmp_path: Path) -> None:
    with running(tmp_path, *KEPT, nodes=2) as place, contextlib.ExitStack() as stack:
        tokens = [subscribe(place.publisher, *CHANNELS, subject=str(who)) for who in range(3)]
        tabs = []
        for token in tokens:
            tabs.append(Tab(place.daemons, token))
            stack.callback(tabs[-1].close)
        for tab in tabs:
            assert tab.is_open.wait(EVENT_TIMEOUT)
        sent = dict.fromkeys(CHANNELS, 0)
        stopped = threading.Event()
        refused: list[BrokerUnavailable] = []

        def publish() -> None:
            with Publisher(
                " ".join(s.url for s in place.servers), connect_timeout=1, timeout=2
            ) as publisher:
                while not stopped.wait(0.002):
                    channel = random.choice(CHANNELS)
                    name = f"{channel} {sent[channel]}"
                    try:
                        publisher.publish(channel, name, message_id=name.replace(" ", "/"))
                    except BrokerUnavailable as error:
                        refused.append(error)
                    else:
                        sent[channel] += 1

        publishing = threading.Thread(target=publish)
        publishing.start()
        stack.callback(publishing.join)
        stack.callback(stopped.set)
        for number, server in enumerate(place.servers):
            before = sum(sent.values())
            eventually(lambda: sum(sent.values()) > before + 100)  # noqa: B023
            server.kill()
            eventually(lambda: not any(each.is_ready() for each in place.daemons))
            # The others go on, for whoever is there.
            counts = {tab: len(tab.texts) for tab in tabs}
            eventually(lambda: all(len(tab.texts) > n + 20 for tab, n in counts.items()))  # noqa: B023
            tabs[number].cut()
            server.start()
            eventually(lambda: all(each.is_ready() for each in place.daemons))
            tabs[(number + 1) % 3].cut()
        stopped.set()
        publishing.join()
        assert refused
        for channel in CHANNELS:
            expected = list(range(sent[channel]))
            for tab in tabs:
                eventually(lambda: tab.numbers(channel)[-1:] == expected[-1:])  # noqa: B023
                assert tab.numbers(channel) == expected
        assert [tab.resets for tab in tabs] == [[], [], []]


@pytest.mark.parametrize("kind", FLAVOURS)
def test_the_position_is_a_part_of_each(place: Place, kind: str) -> None:
    (daemon,) = place.daemons
    token = subscribe(place.publisher, *CHANNELS)
    url = " ".join(server.url for server in place.servers)
    with FLAVOURS[kind](url) as publisher:
        for channel in CHANNELS:
            publisher.publish(channel, "before")
        position = publisher.position()
        assert position.count(".") == COUNT - 1
        for channel in CHANNELS:
            publisher.publish(channel, channel)
        with daemon.stream(token, after=position).opened() as stream:
            events = read(stream, len(CHANNELS))
            assert sorted(event.data for event in events) == sorted(CHANNELS)
            publisher.publish(FIRST[1], "live")
            assert stream.next().data == "live"


@pytest.mark.parametrize("kind", FLAVOURS)
def test_without_one_of_them_there_is_no_position(place: Place, kind: str) -> None:
    urls = [*(server.url for server in place.servers[1:]), f"redis://127.0.0.1:{free_port()}"]
    with FLAVOURS[kind](" ".join(urls)) as publisher, pytest.raises(BrokerUnavailable):
        publisher.position()


def test_one_that_lost_its_data_is_told_of_and_the_others_are_not(tmp_path: Path) -> None:
    with running(tmp_path) as place:
        (daemon,) = place.daemons
        # The token is in another one than that which is lost.
        subject = next(str(n) for n in range(99) if shard_of(str(n).encode(), COUNT) == 0)
        token = subscribe(place.publisher, *FIRST, subject=subject)
        with daemon.stream(token).opened() as stream:
            for channel in FIRST:
                place.publisher.publish(channel, channel)
            assert {event.data for event in read(stream, COUNT)} == set(FIRST)
            server = place.servers[1]
            server.kill()
            server.start()
            eventually(daemon.is_ready)
            reset = stream.next()
            assert (reset.event, json.loads(reset.data)["reason"]) == ("reset", "data-lost")
            place.publisher.channels.add(subject, FIRST[1])
            for channel in FIRST:
                place.publisher.publish(channel, f"{channel} again")
            events = read(stream, COUNT)
            assert {event.data for event in events} == {f"{channel} again" for channel in FIRST}
        for index in range(COUNT):
            rest = {event.data for event in events[index + 1 :]}
            with daemon.stream(token, after=events[index].id).opened() as stream:
                assert {event.data for event in read(stream, len(rest))} == rest
