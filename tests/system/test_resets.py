"""A loss is told once, by any node, to who missed something, with an id from which all goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from msgpack import packb

from sinapse.protocol.keys import GRANT, WITHDRAW
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Event, Stream, running_daemon
from tests.support.proxy import Link, Proxy, unchanged
from tests.support.subscribing import position, resumed, subscribe


def until(stream: Stream, data: str) -> list[Event]:
    """Return all events before the message with that data."""
    events = []
    while (event := stream.next()).data != data:
        events.append(event)
    return events


def resets(events: list[Event]) -> list[tuple[str, list[str]]]:
    contents = [json.loads(each.data) for each in events if each.event == "reset"]
    return [(each["reason"], each["channels"]) for each in contents]


def messages(events: list[Event]) -> list[str]:
    return [each.data for each in events if each.event is None]


@contextlib.contextmanager
def stopped(*daemons: Daemon) -> Iterator[None]:
    """Stop daemons for the length of a with block: they hear later what happens in it."""
    for daemon in daemons:
        os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for daemon in daemons:
            os.kill(daemon.pid, signal.SIGCONT)


def expire(publisher: Publisher, redis_client: redis.Redis, channel: str) -> None:
    """Publish what nobody can get any more."""
    publisher.publish(channel, "expired", retain=0.001)
    eventually(lambda: not redis_client.exists(PLAIN.retained_key(channel)))


class TestOnce:
    """Not once for each page, and not again to who comes back."""

    @pytest.mark.parametrize("way", ["resumed", "node lost Redis"])
    def test_a_loss_is_told_once_however_many_pages_there_are(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, way: str
    ) -> None:
        token = subscribe(publisher, "room:1", "own")
        stream = daemon.stream(token).opened()
        last = stream.position
        with stopped(daemon):
            redis_client.client_kill_filter(_type="pubsub")
            for number in range(300):
                publisher.publish("room:1", f"{number} {3000 * 'x'}")
            expire(publisher, redis_client, "own")
            publisher.publish("room:1", "end")
        if way == "resumed":
            stream.close()
            assert last is not None
            eventually(daemon.is_ready)
            stream = resumed(daemon, token, last)
        with stream:
            events = until(stream, "end")
            assert resets(events) == [("not-retained", ["own"])]
            assert len(messages(events)) == 300

    def test_who_was_told_by_a_node_that_lost_redis_is_not_told_again(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1")
        with daemon.stream(token).opened() as stream:
            with stopped(daemon):
                redis_client.client_kill_filter(_type="pubsub")
                expire(publisher, redis_client, "room:1")
            assert resets([stream.next()]) == [("not-retained", ["room:1"])]
            place = stream.next()
            assert place.event == "position"
        assert place.id is not None
        # What was missed is told while the node is still catching up.
        eventually(daemon.is_ready)
        with resumed(daemon, token, place.id) as stream:
            publisher.publish("room:1", "end")
            assert until(stream, "end") == []

    @pytest.mark.parametrize("kind", ["event stream", "long poll"])
    def test_who_is_cut_off_in_the_midst_of_a_replay_is_not_told_again(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, kind: str
    ) -> None:
        """It is told where the loss is, and not before it has come so far."""
        token = subscribe(publisher, "room:1", "own")
        last = position(daemon, token)
        for number in range(30):
            publisher.publish("room:1", f"{number} {100_000 * 'x'}")
        expire(publisher, redis_client, "own")
        publisher.publish("room:1", "end")
        received: list[str] = []
        told: list[tuple[str, list[str]]] = []
        while not received or received[-1] != "end":
            if kind == "event stream":
                with resumed(daemon, token, last) as stream:
                    events = [stream.next() for _ in range(3)]
            else:
                headers = {"Accept": "application/json", "Last-Event-ID": last}
                text = daemon.get(f"/?access_token={token}", **headers).text  # type: ignore[attr-defined]
                events = [
                    Event(each.get("data", ""), each.get("event", "position"), each.get("id"))
                    if "channel" not in each
                    else Event(each["data"], None, each["id"])
                    for each in json.loads(text)
                ]
            told += resets(events)
            last = [event.id for event in events if event.id is not None][-1]
            received += messages(events)
        assert told == [("not-retained", ["own"])]
        assert [each.split()[0] for each in received] == [*map(str, range(30)), "end"]

    def test_an_id_of_a_time_that_is_lost_is_told_in_the_midst_of_a_replay(
        self, tmp_path: Path
    ) -> None:
        with (
            running_redis(tmp_path) as server,
            server.client() as client,
            running_daemon(tmp_path, server.url) as daemon,
        ):
            with Publisher(server.url) as publisher:
                token = subscribe(publisher)
                first = position(daemon, token)
                for number in range(300):
                    publisher.publish("room:1", f"{number} {20000 * 'x'}")
                client.save()
                for number in range(5):
                    publisher.publish("room:1", f"lost {number}")
            with socket.socket() as small:
                small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                small.connect(("127.0.0.1", daemon.port))
                request = (
                    f"GET /?access_token={token} HTTP/1.0\r\nAccept: text/event-stream\r\n"
                    f"Last-Event-ID: {first}\r\n\r\n"
                )
                small.sendall(request.encode())
                eventually(lambda: daemon.metrics()["sinapse_history_reads_total"] >= 1)
                server.kill()
                server.start()
                eventually(daemon.is_ready)
                # It has read nothing so far, and is in the midst of what it missed.
                received = b""
                while not received.endswith(b"\n\n") or b"event: reset" not in received:
                    received += small.recv(1 << 16)
                    assert received
            block = received[received.index(b"event: reset") :]
            told = dict(line.split(b": ", 1) for line in block.splitlines() if line)
            with Publisher(server.url) as publisher:
                with resumed(daemon, token, told[b"id"].decode()) as stream:
                    publisher.publish("room:1", "new")
                    event = stream.next()
                    assert event.data == "new"
                assert event.id is not None
                assert int(event.id.partition("-")[2]) > int(told[b"id"].partition(b"-")[2])


def published_while_it_is_read(proxy: Proxy) -> threading.Event:
    """Publish more to ``room:1`` than is retained, when a node first asks for what it has."""
    is_done = threading.Event()

    def up(_link: Link, data: bytes) -> bytes:
        if b"sinapse:retained:room:1" in data and not is_done.is_set():
            url = f"redis://127.0.0.1:{proxy.target}/0"
            with Publisher(url, retain_messages=2) as other:
                for number in range(8):
                    other.publish("room:1", str(number))
            is_done.set()
        return data

    proxy.up = up
    return is_done


class TestNeedless:
    """Nobody is told who missed nothing."""

    def test_a_channel_with_an_expired_past_is_added_to_an_open_stream(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1")
        with daemon.stream(token).opened() as stream:
            last = stream.position
            expire(publisher, redis_client, "room:2")
            publisher.channels.add("1", "room:2")
            eventually(lambda: publisher.publish("room:2", "plain", retain=0))
            assert stream.next().data == "plain"
        assert last is not None
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "end")
            assert until(stream, "end") == []

    def test_what_is_trimmed_while_a_node_comes_back_came_after_what_it_reads(
        self, distant: Daemon, proxy: Proxy, publisher: Publisher
    ) -> None:
        """Of a channel that never had a message: of others it is known that there is nothing."""
        token = subscribe(publisher, "room:1", "room:2")
        is_done = published_while_it_is_read(proxy)
        with distant.stream(token).opened() as stream:
            publisher.publish("room:2", "first")
            assert stream.next().data == "first"
            proxy.cut()
            eventually(is_done.is_set)
            proxy.up = unchanged
            publisher.publish("room:2", "end")
            events = until(stream, "end")
            assert (messages(events), resets(events)) == ([str(each) for each in range(8)], [])

    def test_what_was_heard_while_a_new_channel_is_read_is_not_missing(
        self, distant: Daemon, proxy: Proxy, publisher: Publisher
    ) -> None:
        """It has been trimmed by then."""
        token = subscribe(publisher, "anchor")
        is_done = published_while_it_is_read(proxy)
        with distant.stream(token).opened() as stream:
            publisher.channels.add("1", "room:1")
            eventually(is_done.is_set)
            proxy.up = unchanged
            publisher.publish("anchor", "end")
            events = until(stream, "end")
            assert (messages(events), resets(events)) == ([str(each) for each in range(8)], [])


class TestDue:
    """Nothing is missing in silence."""

    def test_more_than_is_retained_before_a_new_channel_could_be_read(
        self, daemon: Daemon, redis_server: RedisServer
    ) -> None:
        with Publisher(redis_server.url, retain_messages=5) as publisher:
            token = subscribe(publisher, "anchor")
            with daemon.stream(token).opened() as stream:
                with stopped(daemon), publisher.pipeline() as pipe:
                    pipe.channels.add("1", "room:1")
                    for number in range(20):
                        pipe.publish("room:1", str(number))
                publisher.publish("anchor", "end")
                events = until(stream, "end")
                assert resets(events) == [("not-retained", ["room:1"])]
                assert messages(events) == [str(number) for number in range(15, 20)]

    @pytest.mark.parametrize("is_followed", [False, True])
    def test_evicted_keys(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, is_followed: bool
    ) -> None:
        token = subscribe(publisher, "room:1")
        publisher.publish("room:1", "first")
        last = position(daemon, token)
        publisher.publish("room:1", "evicted")
        redis_client.delete(PLAIN.last, PLAIN.retained_key("room:1"))
        if is_followed:
            publisher.publish("room:1", "later")
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "end")
            events = until(stream, "end")
            assert resets(events) == [("not-retained", ["room:1"])]
            assert messages(events) == (["later"] if is_followed else [])

    def test_the_counter_is_evicted(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1")
        last = position(daemon, token)
        publisher.publish("room:1", "evicted")
        redis_client.delete(PLAIN.retention, PLAIN.epochs, PLAIN.last, PLAIN.retained_key("room:1"))
        publisher.publish("room:1", "later")
        # Who comes meanwhile is sent away: this is not what the node has known.
        eventually(lambda: opens(daemon, token, last))
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "end")
            events = until(stream, "end")
            assert resets(events) == [("data-lost", ["room:1"])]

    def test_a_message_that_no_stream_can_hold(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with running_daemon(tmp_path, redis_server.url, "--max-pending", "65536") as daemon:
            assert "--max-pending 65536" in daemon.log
            with daemon.stream(token).opened() as stream:
                last = stream.position
                publisher.publish("room:1", 70000 * "x")
                publisher.publish("room:2", "end")
                live = until(stream, "end")
            assert last is not None
            with resumed(daemon, token, last) as stream:
                again = until(stream, "end")
            assert resets(live) == resets(again) == [("not-retained", ["room:1"])]
            assert [each.id for each in live] == [each.id for each in again]

    def test_a_message_that_has_grown_in_its_framing(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        """In JSON a control character takes six bytes."""
        token = subscribe(publisher, "room:1")
        with running_daemon(tmp_path, redis_server.url, "--max-pending", "65536") as daemon:
            last = position(daemon, token)
            publisher.publish("room:1", 20000 * "\x01")
            publisher.publish("room:1", "end")
            headers = {"Accept": "application/json", "Last-Event-ID": last}
            answer = daemon.get(f"/?access_token={token}", **headers)
            items = json.loads(answer.text)  # type: ignore[attr-defined]
            assert [each.get("event") for each in items] == ["reset", None]

    def test_what_is_larger_than_may_wait_comes_in_pieces(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        """To a client that reads slowly, over a connection that holds little."""
        channels = [f"room:{number}" for number in range(30)]
        token = subscribe(publisher, *channels)
        with running_daemon(tmp_path, redis_server.url, "--max-pending", "65536") as daemon:
            last = position(daemon, token)
            for number in range(60):
                publisher.publish(channels[number % 30], f"{number} {20000 * 'x'}")
            with socket.socket() as small:
                small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                small.connect(("127.0.0.1", daemon.port))
                request = (
                    f"GET /?access_token={token} HTTP/1.0\r\nAccept: text/event-stream\r\n"
                    f"Last-Event-ID: {last}\r\n\r\n"
                )
                small.sendall(request.encode())
                received = b""
                while received.count(b"\n\n") < 61:
                    data = small.recv(4096)
                    assert data, "it was closed"
                    received += data
        assert [
            int(line.split()[1])
            for line in received.splitlines()
            if line[:6] == b"data: " and b"x" in line
        ] == list(range(60))


def opens(daemon: Daemon, token: str, last: str) -> bool:
    with daemon.stream(token, after=last) as stream:
        return stream.next().event == "authentication"


def test_what_was_told_of_data_that_are_lost_hides_no_later_loss(tmp_path: Path) -> None:
    """Counters go back with older data, to below that at which it was told."""
    with (
        running_redis(tmp_path) as server,
        server.client() as client,
        running_daemon(tmp_path, server.url) as daemon,
    ):
        with Publisher(server.url) as publisher:
            token = subscribe(publisher, "room:1", "room:2")
            publisher.publish("room:1", "kept")
            client.save()
            stream = daemon.stream(token).opened()
            with stopped(daemon):
                client.client_kill_filter(_type="pubsub")
                for number in range(50):
                    publisher.publish("elsewhere", str(number))
                expire(publisher, client, "room:2")
            assert resets([stream.next()]) == [("not-retained", ["room:2"])]
            assert stream.next().event == "position"
        server.kill()
        server.start()
        event = stream.next()
        while event.event != "reset":
            event = stream.next()
        assert resets([event])[0][0] == "data-lost"
        eventually(daemon.is_ready)
        with Publisher(server.url) as publisher, server.client() as anew:
            with stopped(daemon):
                anew.client_kill_filter(_type="pubsub")
                expire(publisher, anew, "room:2")
            assert resets([stream.next()]) == [("not-retained", ["room:2"])]
        stream.close()


def test_older_data_that_are_put_back_while_redis_runs_are_a_loss(
    tmp_path: Path,
) -> None:
    """The process is the same, and so is the epoch: only the counter tells."""
    with (
        running_redis(tmp_path) as server,
        server.client() as client,
        running_daemon(tmp_path, server.url) as daemon,
        Publisher(server.url) as publisher,
    ):
        token = subscribe(publisher, "room:1")
        publisher.publish("room:1", "kept")
        client.save()
        with daemon.stream(token).opened() as stream:
            for number in range(20):
                publisher.publish("room:1", f"lost {number}")
            assert until(stream, "lost 19")
            client.execute_command("DEBUG", "RELOAD", "NOSAVE")
            publisher.publish("room:1", "new")
            event = stream.next()
            assert event.data == "new" or resets([event]) == [("data-lost", ["room:1"])]
            publisher.publish("room:1", "end")
            events = [event, *until(stream, "end")]
            assert resets(events) == [("data-lost", ["room:1"])]


class TestNodes:
    """Several nodes, and several databases, on one Redis."""

    def test_a_loss_that_one_node_has_seen_is_told_by_all(self, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        with (
            running_redis(tmp_path) as server,
            server.client() as client,
            running_daemon(folders[0], server.url) as one,
            running_daemon(folders[1], server.url) as other,
        ):
            with Publisher(server.url) as publisher:
                token = subscribe(publisher)
                publisher.publish("room:1", "kept")
                last = position(other, token)
                open_stream = one.stream(token).opened()
                client.save()
                publisher.publish("room:1", "lost")
                assert open_stream.next().data == "lost"
            with stopped(one):
                server.kill()
                server.start()
                eventually(other.is_ready)
                # That node knows of no loss, and goes on.
                missed = resumed(other, token, last)
            with missed, open_stream:
                for stream in (open_stream, missed):
                    assert resets([stream.next()]) == [("data-lost", ["room:1"])]
                for daemon in (one, other):
                    eventually(daemon.is_ready)
                    with resumed(daemon, token, last) as late:
                        assert resets([late.next()]) == [("data-lost", ["room:1"])]
                with Publisher(server.url) as publisher:
                    publisher.publish("room:1", "end")
                for stream in (open_stream, missed):
                    # And never again.
                    assert resets(until(stream, "end")) == []

    def test_a_node_of_another_database_hides_no_loss(self, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        with (
            running_redis(tmp_path) as server,
            server.client() as client,
            running_daemon(folders[0], server.url) as daemon,
            running_daemon(folders[1], server.url.replace("/0", "/1")),
        ):
            with Publisher(server.url) as publisher:
                token = subscribe(publisher)
                publisher.publish("room:1", "kept")
                stream = daemon.stream(token).opened()
                client.save()
                for number in range(3):
                    publisher.publish("room:1", f"lost {number}")
                for _ in range(3):
                    stream.next()
            with stopped(daemon):
                server.kill()
                server.start()
                with server.client() as anew:
                    eventually(lambda: dict(anew.pubsub_numsub(PLAIN.nodes))[PLAIN.nodes.encode()])
                with Publisher(server.url) as publisher:
                    for number in range(4):
                        publisher.publish("room:1", f"new {number}")
            eventually(daemon.is_ready)
            with Publisher(server.url) as publisher, stream:
                publisher.publish("room:1", "end")
                events = until(stream, "end")
                assert resets(events) == [("data-lost", ["room:1"])]
                assert messages(events) == [f"new {number}" for number in range(4)]
                # All of these ids can be resumed from.
                for event in events:
                    assert event.id is not None
                    with resumed(daemon, token, event.id) as other:
                        assert resets(until(other, "end")) == []


class TestMadeUp:
    """What somebody else publishes on our channels ends no session, and silences nobody."""

    @pytest.mark.parametrize(
        "forged", ["abc-1", "{epoch}-99999999999999", "99999999999999999-1", "{epoch}-0"]
    )
    def test_an_id_that_was_not_given_here(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, forged: str
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with daemon.stream(token).opened() as stream:
            losses = daemon.metrics()["sinapse_redis_losses_total"]
            publisher.publish("room:1", "before")
            assert stream.next().data == "before"
            found = redis_client.hget(PLAIN.retention, "epoch")
            assert isinstance(found, bytes)
            epoch = found.decode()
            payload = packb([None, "forged", forged.format(epoch=epoch)])
            for _ in range(3):
                redis_client.publish("room:1", payload)
            publisher.publish("room:2", "end")
            # Without an id that can be one, it is a plain message.
            plain = [each.data for each in until(stream, "end")]
            assert set(plain) <= {"forged"}
            assert daemon.metrics()["sinapse_redis_losses_total"] == losses

    def test_a_grant_with_thousands_of_digits(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1")
        with daemon.stream(token).opened() as stream:
            losses = daemon.metrics()["sinapse_redis_losses_total"]
            for action in (GRANT, WITHDRAW):
                name = PLAIN.control_channel("1", action)
                redis_client.publish(name, b"9" * 5000 + b" room:2")
            publisher.publish("room:1", "end")
            assert until(stream, "end") == []
            assert daemon.metrics()["sinapse_redis_losses_total"] == losses
