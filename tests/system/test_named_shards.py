"""Redis with names: in any order, with new ones among them, and without some."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sinapse.errors import BrokerUnavailable, UnknownID
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port, running_named, running_redis
from tests.support.daemon import Daemon, Event, Stream, running_daemon
from tests.support.flavours import FLAVOURS
from tests.support.proxy import away, running_proxy
from tests.support.subscribing import reset_of, subscribe

NAMES = ("a", "b", "c", "d")


class Place(NamedTuple):
    servers: dict[str, RedisServer]
    folder: Path

    def url(self, names: str) -> str:
        """Return a list of Redis: ``b a`` by names, or with ``*`` without them."""
        return " ".join(
            self.servers[each[-1]].url if each[0] == "*" else f"{each}={self.servers[each].url}"
            for each in names.split()
        )

    @contextlib.contextmanager
    def daemon(self, url: str) -> Iterator[Daemon]:
        folder = self.folder / f"node-{free_port()}"
        folder.mkdir()
        with running_daemon(folder, url) as daemon:
            yield daemon
        assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("named")
    with running_named(folder, NAMES) as servers:
        yield Place(servers, folder)


@pytest.fixture
def place(_place: Place) -> Place:
    for server in _place.servers.values():
        with contextlib.closing(server.client()) as client:
            for key in client.scan_iter(match="sinapse:[tcUsg]*"):
                client.delete(key)
    return _place


def channels_of(url: str, count: int = 2) -> dict[str, list[str]]:
    """Return some channels of each Redis, by its name."""
    shards = shards_of(parse_all([url]))
    found: dict[str, list[str]] = {name: [] for name in shards.names}
    for name in map("room:{}".format, range(400)):
        found[shards.names[shards.of(name.encode())]].append(name)
    return {name: channels[:count] for name, channels in found.items()}


def parts(identifier: str | None) -> dict[str, str]:
    """Return the parts of an id by the names of their Redis."""
    return dict(part.split("_") for part in (identifier or "").split("."))


def data_of(stream: Stream, count: int) -> set[str]:
    events = [stream.next() for _ in range(count)]
    assert {event.event for event in events} == {None}, events
    return {event.data for event in events}


@pytest.mark.parametrize("kind", FLAVOURS)
def test_the_order_of_the_list_may_differ_between_daemon_and_publisher(
    place: Place, kind: str
) -> None:
    url = place.url("a b c")
    channels = channels_of(url)
    with place.daemon(url) as daemon, FLAVOURS[kind](place.url("c a b")) as publisher:
        token = subscribe(publisher, *itertools.chain(*channels.values()))
        position = publisher.position()
        assert list(parts(position)) == ["c", "a", "b"]
        with daemon.stream(token).opened() as stream:
            assert list(parts(stream.position)) == ["a", "b", "c"]
            assert parts(stream.position) == parts(position)
            for name, (channel, _) in channels.items():
                identifier = publisher.publish(channel, f"to {name}").id
                event = stream.message()
                assert event == Event(f"to {name}")
                page = publisher.history(channel, position)
                assert [each.id for each in page.messages] == [identifier]
            publisher.channels.remove("1", channels["b"][0])
            publisher.publish(channels["b"][0], "not heard")
            publisher.publish(channels["b"][1], "heard")
            last = stream.next()
            assert last.data == "heard"
            assert list(parts(last.id)) == ["a", "b", "c"]
        for after in (position, last.id):
            with daemon.stream(token, after=after).opened() as stream:
                publisher.publish(channels["c"][1], "end")
                # Of channels that it may hear, what it has not had.
                expected = {"to a", "to c", "heard", "end"} if after == position else {"end"}
                got = data_of(stream, len(expected))
                assert got == expected
            publisher.channels.remove("1", channels["c"][1])
            publisher.channels.add("1", channels["c"][1])
        publisher.tokens.clear("1")
        with daemon.stream(token) as stream:
            assert stream.status == 401


def test_an_id_outlives_a_new_name_another_order_and_one_that_is_gone(place: Place) -> None:
    before, after = place.url("a b c"), place.url("d c a b")
    old, new = channels_of(before), channels_of(after)
    # One that moves to the new Redis, and one in each that stays.
    moved = next(name for name in channels_of(after, 50)["d"])
    staying = {name: next(iter(set(old[name]) & set(new[name]) or {""})) for name in "abc"}
    staying = {name: each for name, each in staying.items() if each}
    assert len(staying) >= 2
    with Publisher(before) as publisher:
        token = subscribe(publisher, *staying.values())
        with place.daemon(before) as daemon, daemon.stream(token).opened() as stream:
            for name, channel in staying.items():
                publisher.publish(channel, f"{name} 0")
            data_of(stream, len(staying))
            last = publisher.position()
        for name, channel in staying.items():
            publisher.publish(channel, f"{name} 1")
    with Publisher(place.url("b d a c")) as publisher, place.daemon(after) as daemon:
        for name, channel in staying.items():
            publisher.publish(channel, f"{name} 2")
        expected = {f"{name} {number}" for name in staying for number in (1, 2)}
        token = publisher.tokens.generate("1")
        with daemon.stream(token, after=last).opened() as stream:
            # It may listen to nothing in the new one: nothing is missing.
            told = stream.next()
            assert told.event == "position"
            assert list(parts(told.id)) == ["d", "c", "a", "b"]
            assert data_of(stream, len(expected)) == expected
        publisher.channels.add("1", moved)
        publisher.publish(moved, "first in the new one")
        with daemon.stream(token, after=last).opened() as stream:
            assert reset_of(stream.next()) == {"reason": "unknown-id", "channels": [moved]}
            assert data_of(stream, len(expected)) == expected
        with daemon.stream(token, after=publisher.position()).opened() as stream:
            publisher.publish(moved, "end")
            assert stream.message().data == "end"
            whole = stream.position or publisher.position()
    # Without one of them, what was there is missing, and nothing else.
    with Publisher(place.url("c a b")) as publisher, place.daemon(before) as daemon:
        publisher.channels.add("1", moved)
        token = publisher.tokens.generate("1")
        for channel in staying.values():
            publisher.publish(channel, "3")
        publisher.publish(moved, "3")
        with daemon.stream(token, after=whole).opened() as stream:
            assert reset_of(stream.next()) == {"reason": "unknown-id", "channels": [moved]}
            assert data_of(stream, len(staying) + 1) == {"3"}
        with pytest.raises(UnknownID):
            publisher.history(moved, whole)
        channel = next(iter(staying.values()))
        assert [each.data for each in publisher.history(channel, whole).messages] == ["3"]


def test_what_is_unknown_of_one_that_is_gone_stays_so_while_another_is_away(place: Place) -> None:
    before, after = place.url("a b c"), place.url("a b")
    old, new = channels_of(before, 400), channels_of(after, 400)
    moved = next(name for name in old["c"] if name in new["b"])
    shards = shards_of(parse_all([after]))
    subject = next(
        name for name in map(str, range(99)) if shards.names[shards.of(name.encode())] == "a"
    )
    with Publisher(before) as publisher:
        for [channel] in channels_of(before, 1).values():
            publisher.publish(channel, "each has an id")
        position = publisher.position()
        publisher.publish(moved, "lost with c")
    with Publisher(after) as publisher, running_proxy(place.servers["b"].port) as link:
        token = subscribe(publisher, moved, subject=subject)
        with place.daemon(f"{place.url('a')} b={link.url}") as daemon:

            def is_there() -> bool:
                return daemon.metrics()["sinapse_redis_shard_up b"] == 1

            eventually(is_there)
            with away(link):
                eventually(lambda: not is_there())
                with daemon.stream(token, after=position).opened() as stream:
                    event = stream.next()
                    assert event.event == "position"
                # It comes back with the id that it got, which says nothing of the former list.
                stream = daemon.stream(token, after=event.id).opened()
            with stream:
                event = stream.next()
                while event.event == "degraded":
                    event = stream.next()
                assert reset_of(event) == {"reason": "unknown-id", "channels": [moved]}


def test_a_list_gets_names_by_its_numbers_and_nobody_notices(place: Place) -> None:
    unnamed = place.url("*a *b *c")
    channels = channels_of(unnamed, 1)
    named = " ".join(
        f"{number}={place.servers[name].url}" for number, name in ((2, "c"), (0, "a"), (1, "b"))
    )
    assert channels_of(named, 1) == channels
    with Publisher(unnamed) as publisher:
        token = subscribe(publisher, *(each for [each] in channels.values()))
        last = publisher.position()
        assert last.count(".") == 2
        assert "_" not in last
        for [channel] in channels.values():
            publisher.publish(channel, f"{channel} 0")
    with Publisher(named) as publisher, place.daemon(named) as daemon:
        for [channel] in channels.values():
            publisher.publish(channel, f"{channel} 1")
            assert len(publisher.history(channel, last).messages) == 2
        with daemon.stream(token, after=last).opened() as stream:
            data_of(stream, 5)
            event = stream.next()
        assert list(parts(event.id)) == ["2", "0", "1"]
    with place.daemon(unnamed) as daemon, Publisher(unnamed) as publisher:
        # And back, while other nodes have the names already.
        publisher.publish(channels["0"][0], "end")
        with daemon.stream(token, after=event.id).opened() as stream:
            assert stream.message().data == "end"


def test_one_redis_with_a_name_has_the_ids_of_a_list(place: Place) -> None:
    with Publisher(place.url("a")) as publisher, place.daemon(place.url("a")) as daemon:
        token = subscribe(publisher, "room:1")
        with daemon.stream(token).opened() as stream:
            assert list(parts(stream.position)) == ["a"]
            publisher.publish("room:1", "one")
            event = stream.next()
        assert parts(publisher.position()) == parts(event.id)
        publisher.publish("room:1", "two")
        [message] = publisher.history("room:1", event.id).messages
        assert message.data == "two"
    url = place.url("b a")
    with Publisher(url) as publisher, place.daemon(url) as daemon:
        token = publisher.tokens.generate("1")
        with daemon.stream(token, after=event.id).opened() as stream:
            assert stream.next().event == "position"
            assert stream.message().data == "two"


def test_a_long_poll_and_a_websocket_have_the_names_too(place: Place) -> None:
    url = place.url("b a")
    with Publisher(url) as publisher, place.daemon(url) as daemon:
        token = subscribe(publisher, "room:1")
        last = publisher.position()
        publisher.publish("room:1", "one")
        path = f"/?access_token={token}&last_event_id={last}"
        answer = daemon.get(path, Accept="application/json")
        items = json.loads(answer.text)  # type: ignore[attr-defined]
        assert [each["data"] for each in items] == ["one"]
        assert list(parts(items[-1]["id"])) == ["b", "a"]
        assert parts(items[-1]["id"]) == parts(publisher.position())


def test_all_that_tells_of_a_redis_says_its_name(place: Place) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    url = f"{place.url('a')} gone={nowhere}"
    with place.daemon(place.url("b a")) as daemon:
        assert f"Redis b={place.servers['b'].url}: connected" in daemon.log
    with Publisher(url, connect_timeout=1) as publisher:
        assert f"a={place.servers['a'].url}" in repr(publisher)
        with pytest.raises(BrokerUnavailable, match=rf"Redis at gone={nowhere}"):
            publisher.position()
    folder = place.folder / "gone"
    folder.mkdir()
    with (
        running_redis(folder) as server,
        place.daemon(f"gone={server.url} {place.url('a')}") as daemon,
    ):

        def state() -> str:
            status = daemon.admin("/status").text  # type: ignore[attr-defined]
            return str(json.loads(status)["redis"])

        assert state() == "connected"
        server.stop()
        eventually(lambda: state().startswith("gone: unavailable"))
        assert state().endswith("; a: connected")
