"""Resuming: every retained message after the last event ID, once, in order, or a reset."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import redis

from sinapse.protocol.ids import EventID
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.subscribing import position, reset_of, resumed, subscribe


def take(stream: Stream, count: int) -> list[str]:
    return [stream.next().data for _ in range(count)]


class TestReplay:
    """What a client gets that comes back."""

    def test_everything_it_missed_comes_once_and_in_order_across_its_channels(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "seen")
            last = stream.next().id
        assert last is not None
        for number in range(50):
            publisher.publish(f"room:{1 + number % 2}", str(number), event="count")
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "live")
            events = [stream.next() for _ in range(51)]
        assert [event.data for event in events] == [*map(str, range(50)), "live"]
        assert [event.event for event in events[:50]] == ["count"] * 50
        ids = [EventID.parse(event.id or "") for event in events]
        assert all(ids)
        assert ids == sorted(ids, key=lambda each: each.counter if each else 0)

    def test_a_break_before_the_first_message_loses_nothing(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        publisher.publish("room:1", "before")
        last = position(daemon, token)
        publisher.publish("room:1", "missed")
        with resumed(daemon, token, last) as stream:
            assert stream.next().data == "missed"

    def test_a_new_stream_gets_no_replay(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        publisher.publish("room:1", "before")
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "after")
            assert stream.next().data == "after"

    def test_nothing_missed_is_nothing_replayed_and_no_reset(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "seen")
            last = stream.next().id or ""
        publisher.publish("room:2", "not mine")
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "live")
            assert stream.next().data == "live"

    @pytest.mark.parametrize("name", ["lastEventId", "last_event_id"])
    def test_polyfills_send_the_id_in_the_query_and_the_header_wins(
        self, daemon: Daemon, publisher: Publisher, name: str
    ) -> None:
        token = subscribe(publisher)
        first = position(daemon, token)
        publisher.publish("room:1", "one")
        second = position(daemon, token)
        publisher.publish("room:1", "two")
        path = f"/?access_token={token}&{name}={first}"
        with Stream(daemon.address, path).opened() as stream:
            assert take(stream, 2) == ["one", "two"]
        with Stream(daemon.address, path, {"Last-Event-ID": second}).opened() as stream:
            assert take(stream, 1) == ["two"]

    def test_only_channels_that_may_be_read_now_are_replayed(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        last = position(daemon, token)
        publisher.publish("room:1", "gone with its channel")
        publisher.publish("room:2", "still mine")
        publisher.channels.remove("1", "room:1")
        with resumed(daemon, token, last) as stream:
            assert stream.next().data == "still mine"

    def test_messages_without_an_id_come_live_and_are_not_replayed(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "plain", retain=0)
            assert stream.next() == Event("plain")
            last = stream.position or ""
        publisher.publish("room:1", "missed", retain=0)
        publisher.publish("room:1", "kept")
        with resumed(daemon, token, last) as stream:
            assert stream.next().data == "kept"

    def test_what_is_published_during_a_long_replay_follows_it(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        last = position(daemon, token)
        text = "x" * 20_000  # Several pages of it.
        for number in range(200):
            publisher.publish(f"room:{1 + number % 2}", f"{number} {text}")
        stop = threading.Event()
        published = 200

        def publish_on() -> None:
            nonlocal published
            while not stop.is_set():
                publisher.publish(f"room:{1 + published % 2}", f"{published} {text}")
                published += 1

        thread = threading.Thread(target=publish_on)
        thread.start()
        try:
            with resumed(daemon, token, last) as stream:
                for expected in range(400):
                    assert stream.next().data == f"{expected} {text}"
        finally:
            stop.set()
            thread.join()

    def test_a_channel_removed_during_a_replay_delivers_nothing_after(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        last = position(daemon, token)
        text = "x" * 50_000
        for number in range(600):  # 30 MB: more than fits into the sockets
            publisher.publish(f"room:{1 + number % 2}", f"{number} {text}")
        with resumed(daemon, token, last) as stream:
            assert stream.next().data.startswith("0 ")
            publisher.channels.remove("1", "room:2")
            publisher.publish("room:1", "end")
            numbers = []
            while (data := stream.next().data) != "end":
                numbers.append(int(data.split()[0]))
        evens = [number for number in numbers if number % 2 == 0]
        odds = [number for number in numbers if number % 2]
        assert evens == list(range(2, 600, 2))
        # What was on its way already is one thing; the rest of it must be missing.
        assert odds == list(range(1, 2 * len(odds), 2))
        assert len(odds) < 290

    def test_a_token_revoked_during_a_replay_ends_it(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        last = position(daemon, token)
        for number in range(600):
            publisher.publish("room:1", f"{number} {'x' * 50_000}")
        with resumed(daemon, token, last) as stream:
            assert stream.next().data.startswith("0 ")
            publisher.tokens.clear("1")
            with pytest.raises(Ended):
                take(stream, 600)

    def test_a_slow_consumer_comes_back_and_misses_nothing(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        """100 MiB are published while the client stalls; it is cut off, and gets all of it."""
        with (
            running_daemon(tmp_path, redis_server.url) as daemon,
            Publisher(redis_server.url) as publisher,
        ):
            token = subscribe(publisher)
            count, text = 800, "x" * 131_072  # 100 MiB
            received: list[int] = []
            stream = daemon.stream(token).opened()
            last = stream.position or ""
            for number in range(count):
                publisher.publish("room:1", f"{number} {text}")
            eventually(lambda: publisher.publish("room:0", "x") == 0)
            streams = 1
            while len(received) < count:
                try:
                    event = stream.next()
                    received.append(int(event.data.split()[0]))
                    last = event.id or last
                except Ended:
                    stream.close()
                    stream = resumed(daemon, token, last)
                    streams += 1
            stream.close()
            assert received == list(range(count))
            assert streams > 1

    def test_two_nodes_are_as_good_as_one(
        self, daemon: Daemon, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with running_daemon(tmp_path, redis_server.url) as other:
            last = position(daemon, token)
            received = []
            for turn in range(20):
                for number in range(3):
                    publisher.publish("room:1", f"{turn} {number}")
                with resumed((daemon, other)[turn % 2], token, last) as stream:
                    publisher.publish("room:1", f"{turn} live")
                    for _ in range(4):
                        event = stream.next()
                        received.append(event.data)
                        last = event.id or ""
            assert received == [
                f"{turn} {what}" for turn in range(20) for what in (0, 1, 2, "live")
            ]

    def test_many_that_resume_together_share_their_reads(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        last = position(daemon, token)
        for number in range(10):
            publisher.publish("room:1", str(number))
        redis_client.config_resetstat()
        before = daemon.metrics()["sinapse_history_reads_total"]
        replays = daemon.metrics()["sinapse_replays_total"]
        count = 1000
        streams = [daemon.stream(token, after=last) for _ in range(count)]
        for stream in streams:
            assert take(stream.opened(), 10) == [str(number) for number in range(10)]
            stream.close()
        reads = daemon.metrics()["sinapse_history_reads_total"] - before
        commands = redis_client.info("commandstats")["cmdstat_xrange"]["calls"]
        assert daemon.metrics()["sinapse_replays_total"] - replays == count
        # One read a channel of its own for each stream were 2,000.
        assert commands <= 2 * reads
        assert reads < count / 10, reads


class TestReset:
    """What cannot be kept is said; what can is not."""

    @pytest.mark.parametrize(
        "last",
        ["nonsense", "0-0", "abc-1", "-1", "0-0-0", "é☃", "x" * 3000, "'\";--", "ff-99999999"],
    )
    def test_an_id_that_nobody_knows_is_a_reset_and_never_an_error(
        self, daemon: Daemon, publisher: Publisher, last: str
    ) -> None:
        token = subscribe(publisher)
        stream = Stream(daemon.address, f"/?access_token={token}", {"Last-Event-ID": _header(last)})
        with stream.opened():
            event = stream.next()
            assert reset_of(event)["channels"] == ["room:1"]
            assert event.id is not None
            publisher.publish("room:1", "live")
            assert stream.next().data == "live"
        with resumed(daemon, token, event.id) as stream:
            assert stream.next().data == "live"

    def test_an_id_from_the_future_is_not_known(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        epoch, _, counter = position(daemon, token).partition("-")
        with resumed(daemon, token, f"{epoch}-{int(counter) + 5}") as stream:
            assert reset_of(stream.next())["reason"] == "unknown-id"

    def test_the_position_of_a_redis_that_has_given_no_id_is_not_known(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        with resumed(daemon, subscribe(publisher), "0-0") as stream:
            assert reset_of(stream.next())["reason"] == "unknown-id"

    def test_a_position_is_known_whoever_else_was_published_to(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        for number in range(20):
            # Of these the node hears nothing.
            publisher.publish("room:2", f"{number}, elsewhere")
            last = publisher.position()
            with resumed(daemon, token, last) as stream:
                publisher.publish("room:1", f"{number}, here")
                assert stream.next().data == f"{number}, here"

    def test_messages_trimmed_by_count_are_told_of_and_the_rest_follows(
        self, daemon: Daemon, redis_server: RedisServer
    ) -> None:
        with Publisher(redis_server.url, retain_messages=10) as publisher:
            token = subscribe(publisher, "room:1", "room:2")
            last = position(daemon, token)
            publisher.publish("room:2", "kept")
            for number in range(25):
                publisher.publish("room:1", str(number))
            with resumed(daemon, token, last) as stream:
                assert reset_of(stream.next()) == {"reason": "not-retained", "channels": ["room:1"]}
                assert take(stream, 11) == ["kept", *map(str, range(15, 25))]
                end = stream.next()
                assert (end.event, end.data) == ("position", "ok")
            with resumed(daemon, token, end.id or "") as stream:
                publisher.publish("room:1", "told once")
                assert stream.next().data == "told once"

    def test_messages_that_expired_are_told_of(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        last = position(daemon, token)
        publisher.publish("room:1", "short", retain=0.05)
        eventually(lambda: not redis_client.exists("sinapse:retained:room:1"))
        with resumed(daemon, token, last) as stream:
            assert reset_of(stream.next()) == {"reason": "not-retained", "channels": ["room:1"]}
            end = stream.next()
        with resumed(daemon, token, end.id or "") as stream:
            publisher.publish("room:1", "told once")
            assert stream.next().data == "told once"

    def test_no_reset_for_what_is_gone_but_was_received_or_was_not_for_them(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "seen", retain=0.05)
            last = stream.next().id or ""
        publisher.publish("room:2", "not mine", retain=0.05)
        eventually(lambda: not redis_client.keys("sinapse:retained:*"))
        with resumed(daemon, token, last) as stream:
            publisher.publish("room:1", "live")
            assert stream.next().data == "live"


def _header(text: str) -> str:
    return text.encode().decode("latin-1")
