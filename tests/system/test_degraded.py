"""Streams that open while one of several Redis is away, and what they get when it is back."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from sinapse.broker.late import AT_ONCE
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.daemon import Daemon, Event, Stream, running_daemon
from tests.support.proxy import Proxy, away, running_proxy
from tests.support.subscribing import reset_of, subscribe

COUNT = 3


def named(kind: str, shard: int) -> str:
    """Return a name that is in the Redis with that number."""
    return next(
        name for n in range(99) if shard_of((name := f"{kind}{n}").encode(), COUNT) == shard
    )


#: A subject whose token is in the first Redis: the last one is that which is away.
SUBJECT = named("", 0)
AWAY = COUNT - 1

NUMBERS = itertools.count()


def names() -> tuple[list[str], str]:
    number = next(NUMBERS)
    rooms = [named(f"room:{number}:", shard) for shard in range(COUNT)]
    return rooms, named(f"other:{number}:", AWAY)


class Place(NamedTuple):
    """Three Redis: publishers reach them directly, the daemon through proxies."""

    servers: list[RedisServer]
    links: list[Proxy]
    daemon: Daemon
    publisher: Publisher
    rooms: list[str]
    """A channel of each Redis, with messages of one test only."""
    other: str
    """One more of the last."""

    @property
    def link(self) -> Proxy:
        return self.links[AWAY]


@contextlib.contextmanager
def running(folder: Path, *options: str, is_there: bool = True) -> Iterator[Place]:
    """Run them; unless the last Redis `is_there`, the daemon does not reach it at first."""
    with contextlib.ExitStack() as stack:
        servers, links = [], []
        for number in range(COUNT):
            (folder / f"redis-{number}").mkdir()
            servers.append(stack.enter_context(running_redis(folder / f"redis-{number}")))
            links.append(stack.enter_context(running_proxy(servers[-1].port)))
        if not is_there:
            links[AWAY].stall()
        publisher = stack.enter_context(Publisher(" ".join(each.url for each in servers)))
        through = " ".join(link.url for link in links)
        daemon = stack.enter_context(running_daemon(folder, through, *options))
        if is_there:
            eventually(lambda: up(daemon) == [1, 1, 1])
        yield Place(servers, links, daemon, publisher, *names())
        assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running(tmp_path_factory.mktemp("degraded")) as place:
        yield place


@pytest.fixture
def place(_place: Place) -> Place:
    for server in _place.servers:
        with contextlib.closing(server.client()) as client:
            for key in client.scan_iter(match="sinapse:[tcUgs]*"):
                client.delete(key)
    eventually(lambda: up(_place.daemon) == [1, 1, 1])
    rooms, other = names()
    return _place._replace(rooms=rooms, other=other)


def up(daemon: Daemon) -> list[float]:
    metrics = daemon.metrics()
    return [metrics[f"sinapse_redis_shard_up {number}"] for number in range(COUNT)]


@contextlib.contextmanager
def without(place: Place, number: int = AWAY) -> Iterator[None]:
    """Keep the daemon from one Redis, and return when it is back."""
    with away(place.links[number]):
        eventually(lambda: up(place.daemon)[number] == 0)
        yield
    eventually(lambda: up(place.daemon)[number] == 1)


def degraded(*names: str) -> Event:
    return Event(json.dumps(list(names)), "degraded")


def opened(place: Place, token: str, after: str | None = None) -> Stream:
    """Open a stream that lacks the last Redis, and is told."""
    stream = place.daemon.stream(token, after=after).opened()
    assert stream.next() == degraded(str(AWAY))
    return stream


def messages(stream: Stream, count: int) -> list[Event]:
    """Return so many messages, whatever events of the server are between."""
    found: list[Event] = []
    while len(found) < count:
        event = stream.next()
        if event.event is None and event.data:
            found.append(event)
    return found


def texts(stream: Stream, count: int) -> list[str]:
    return [event.data for event in messages(stream, count)]


def is_told(stream: Stream) -> None:
    """Read until it is told that nothing is away any more; before that no message may come."""
    while (event := stream.next()) != degraded():
        assert event.event is not None, event


def test_a_stream_opens_without_one_and_gets_the_rest_when_it_is_back(place: Place) -> None:
    token = subscribe(place.publisher, *place.rooms, subject=SUBJECT)
    with without(place):
        stream = opened(place, token)
        for room in place.rooms:
            place.publisher.publish(room, f"in {room}")
        assert set(texts(stream, 2)) == {f"in {room}" for room in place.rooms[:AWAY]}
    with stream:
        is_told(stream)
        assert texts(stream, 1) == [f"in {place.rooms[AWAY]}"]
        for room in place.rooms:
            place.publisher.publish(room, f"live in {room}")
        assert set(texts(stream, 3)) == {f"live in {room}" for room in place.rooms}


def test_its_list_there_is_read_anew_and_each_message_is_for_who_had_the_channel(
    place: Place,
) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    token = subscribe(publisher, *place.rooms, subject=SUBJECT)
    with without(place):
        stream = opened(place, token)
        publisher.publish(room, "had it")
        publisher.channels.remove(SUBJECT, room)
        publisher.publish(room, "removed")
        publisher.publish(place.other, "not yet")
        publisher.channels.add(SUBJECT, place.other)
        publisher.publish(place.other, "granted")
    with stream:
        assert texts(stream, 1) == ["granted"]
        publisher.publish(room, "removed")
        publisher.channels.add(SUBJECT, room)
        publisher.publish(room, "back")
        assert texts(stream, 1) == ["back"]


def test_a_stream_resumes_from_its_own_place_there(place: Place) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    token = subscribe(publisher, *place.rooms, subject=SUBJECT)
    with place.daemon.stream(token).opened() as first:
        publisher.publish(room, "1")
        last = first.next()
        assert last.data == "1"
    publisher.publish(room, "2")
    with without(place):
        publisher.publish(room, "3")
        with opened(place, token, last.id) as cut_off:
            publisher.publish(place.rooms[0], "elsewhere")
            event = cut_off.next()
            assert event.data == "elsewhere"
        # It comes back with an id that it got meanwhile.
        stream = opened(place, token, event.id)
        publisher.publish(room, "4")
    with stream:
        assert texts(stream, 3) == ["2", "3", "4"]
        publisher.publish(room, "5")
        (event,) = messages(stream, 1)
        assert event.data == "5"
    with place.daemon.stream(token, after=event.id).opened() as again:
        publisher.publish(room, "6")
        assert again.next().data == "6"


def test_a_past_comes_once(place: Place) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    for number in range(3):
        publisher.publish(room, f"past {number}", replay=2)
    token = subscribe(publisher, *place.rooms, subject=SUBJECT)
    with without(place):
        stream = opened(place, token)
        publisher.publish(room, "new", replay=2)
    with stream:
        assert texts(stream, 3) == ["past 1", "past 2", "new"]
        last = stream.next()
        while last.id is None:
            last = stream.next()
    with place.daemon.stream(token, after=last.id).opened() as again:
        publisher.publish(room, "newer", replay=2)
        assert again.next().data == "newer"


def test_groups_are_read_there_too(place: Place) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    token = subscribe(publisher, place.rooms[0], subject=SUBJECT)
    with without(place):
        stream = opened(place, token)
        publisher.groups.add(SUBJECT, "team")
        publisher.publish(room, "before")
        publisher.groups.channels("team").add(room)
        publisher.publish(room, "for the team")
    with stream:
        assert texts(stream, 1) == ["for the team"]
        publisher.groups.remove(SUBJECT, "team")
        publisher.publish(room, "after")
        publisher.publish(place.rooms[0], "end")
        assert texts(stream, 1) == ["end"]


def test_a_token_that_is_revoked_meanwhile_ends_the_stream(place: Place) -> None:
    token = subscribe(place.publisher, *place.rooms, subject=SUBJECT)
    with without(place), opened(place, token) as stream:
        place.publisher.tokens.clear(SUBJECT)
        stream.wait_for_end()
    assert place.daemon.get(f"/?access_token={token}").status == 401


def test_who_may_hear_something_only_there_stays_and_who_may_not_is_ended(place: Place) -> None:
    publisher = place.publisher
    token = subscribe(publisher, place.rooms[AWAY], subject=SUBJECT)
    nobody = publisher.tokens.generate("nobody0")
    assert shard_of(b"nobody0", COUNT) != AWAY
    with without(place):
        stream, empty = opened(place, token), opened(place, nobody)
        publisher.channels.add(SUBJECT, place.rooms[0])
        publisher.channels.remove(SUBJECT, place.rooms[0])
        publisher.publish(place.rooms[AWAY], "for it")
    with stream, empty:
        assert texts(stream, 1) == ["for it"]
        empty.wait_for_end()


def test_a_list_is_not_empty_while_what_one_redis_has_of_it_is_unknown(place: Place) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    token = subscribe(publisher, place.rooms[0], subject=SUBJECT)
    with place.daemon.stream(token).opened() as stream:
        with without(place):
            publisher.channels.add(SUBJECT, room)
            publisher.channels.remove(SUBJECT, place.rooms[0])
            publisher.publish(room, "for it")
            assert stream.next() == degraded(str(AWAY))
        assert texts(stream, 1) == ["for it"]
        publisher.channels.remove(SUBJECT, room)
        stream.wait_for_end()
    # If it has nothing there either, it is ended when that is known.
    token = subscribe(publisher, place.rooms[0], subject=SUBJECT)
    with place.daemon.stream(token).opened() as stream:
        with without(place):
            publisher.channels.remove(SUBJECT, place.rooms[0])
        stream.wait_for_end()


def test_with_admit_empty_who_may_hear_nothing_stays(tmp_path: Path) -> None:
    with running(tmp_path, "--admit-empty") as place:
        publisher = place.publisher
        token = publisher.tokens.generate(SUBJECT)
        with without(place):
            stream = opened(place, token)
        with stream:
            is_told(stream)
            publisher.channels.add(SUBJECT, place.rooms[AWAY])
            publisher.publish(place.rooms[AWAY], "for it")
            assert texts(stream, 1) == ["for it"]


def test_lists_that_cannot_be_read_delay_no_other_stream(place: Place) -> None:
    room, publisher = place.rooms[AWAY], place.publisher
    broken = subscribe(publisher, place.rooms[0], subject=named("broken", 0))
    token = subscribe(publisher, *place.rooms, subject=SUBJECT)
    with contextlib.ExitStack() as stack:
        with without(place):
            with contextlib.closing(place.servers[AWAY].client()) as client:
                client.set(f"sinapse:channels:{named('broken', 0)}", "no set")
            for _ in range(AT_ONCE + 1):
                stack.enter_context(opened(place, broken))
            stream = stack.enter_context(opened(place, token))
            publisher.publish(room, "for it")
        assert texts(stream, 1) == ["for it"]


def test_without_the_home_of_its_token_it_is_told_to_come_back(place: Place) -> None:
    token = subscribe(place.publisher, *place.rooms, subject=SUBJECT)
    with without(place, 0):
        assert place.daemon.get(f"/?access_token={token}").status == 503
    with place.daemon.stream(token) as stream:
        stream.opened()


def test_open_streams_are_told_and_long_polls_and_websockets_do_the_same(place: Place) -> None:
    publisher, daemon = place.publisher, place.daemon
    token = subscribe(publisher, *place.rooms, subject=SUBJECT)
    url = f"ws://127.0.0.1:{daemon.port}/?access_token={token}"
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(daemon.stream(token).opened())
        with without(place):
            assert stream.next() == degraded(str(AWAY))
            socket = stack.enter_context(connect(url, proxy=None))
            assert json.loads(socket.recv(EVENT_TIMEOUT))["event"] == "authentication"
            told = json.loads(socket.recv(EVENT_TIMEOUT))
            assert (told["event"], json.loads(told["data"])) == ("degraded", [str(AWAY)])
            poll = daemon.get(f"/?access_token={token}", Accept="application/json")
            (opening,) = json.loads(poll.text)  # type: ignore[attr-defined]
            for room in place.rooms:
                publisher.publish(room, room)
        assert set(texts(stream, COUNT)) == set(place.rooms)
        found: list[str] = []
        while len(found) < COUNT:
            item = json.loads(socket.recv(EVENT_TIMEOUT))
            found += [item["data"]] if "channel" in item else []
        assert set(found) == set(place.rooms)
        got: list[str] = []
        place_ = opening["id"]
        while len(got) < COUNT:
            path = f"/?access_token={token}&last_event_id={place_}"
            answer = daemon.get(path, Accept="application/json")
            items = json.loads(answer.text)  # type: ignore[attr-defined]
            got += [item["data"] for item in items if "channel" in item]
            place_ = items[-1]["id"]
        assert sorted(got) == sorted(place.rooms)


def test_one_that_was_never_there_says_that_its_past_is_unknown(tmp_path: Path) -> None:
    with running(tmp_path, is_there=False) as place:
        room, publisher = place.rooms[AWAY], place.publisher
        token = subscribe(publisher, *place.rooms, subject=SUBJECT)
        elsewhere = subscribe(publisher, place.rooms[0], subject=named("x", 1))
        publisher.publish(room, "before")
        with opened(place, token) as stream, opened(place, elsewhere) as other:
            # Nobody can know what it lacks of before the first contact.
            place.link.cut()
            place.link.flow()
            event = stream.next()
            while event.event != "reset":
                event = stream.next()
            assert reset_of(event) == {"reason": "unknown-id", "channels": [room]}
            publisher.publish(room, "after")
            assert texts(stream, 1) == ["after"]
            publisher.publish(place.rooms[0], "end")
            event = other.next()
            while event.data != "end":
                assert event.event in ("degraded", "position")
                event = other.next()


def test_one_that_comes_back_without_its_data_is_told_of(tmp_path: Path) -> None:
    with running(tmp_path) as place:
        room, publisher = place.rooms[AWAY], place.publisher
        token = subscribe(publisher, *place.rooms, subject=SUBJECT)
        publisher.publish(room, "lost")
        with without(place):
            stream = opened(place, token)
            place.servers[AWAY].kill()
            place.servers[AWAY].start()
            publisher.close()
            publisher.channels.add(SUBJECT, room)
            publisher.publish(room, "of the new data")
        with stream:
            event = stream.next()
            while event.event != "reset":
                event = stream.next()
            assert reset_of(event) == {"reason": "data-lost", "channels": [room]}
            publisher.publish(room, "after")
            assert texts(stream, 1) == ["after"]


@pytest.mark.parametrize(("share", "statuses"), [("50%", [200, 503]), ("100%", [503, 503])])
def test_ready_is_a_share(tmp_path: Path, share: str, statuses: list[int]) -> None:
    with running(tmp_path, f"--min-redis={share}") as place:
        daemon = place.daemon
        found = []
        with contextlib.ExitStack() as stack:
            for number in (2, 1):
                stack.enter_context(without(place, number))
                found.append(daemon.get("/ready").status)
                assert daemon.metrics()["sinapse_redis_up"] == 0
        assert found == statuses
        eventually(daemon.is_ready)
        assert daemon.metrics()["sinapse_redis_up"] == 1


def test_a_daemon_starts_without_one(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(COUNT - 1):
            (tmp_path / f"redis-{number}").mkdir()
            servers.append(stack.enter_context(running_redis(tmp_path / f"redis-{number}")))
        url = " ".join([*(each.url for each in servers), f"redis://127.0.0.1:{free_port()}"])
        daemon = stack.enter_context(running_daemon(tmp_path, url))
        assert up(daemon) == [1, 1, 0]
        assert "Traceback" not in daemon.log
