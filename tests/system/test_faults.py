"""Everything that can happen to Redis, and to the way there: streams stay open and miss nothing."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.proxy import Link, Proxy, running_proxy, unchanged
from tests.support.subscribing import subscribe

#: Everything is on disk when Redis answers.
KEPT = ("--appendonly", "yes", "--appendfsync", "always")

#: Messages before a fault, during it if they are taken, and after it.
SOME = 50

#: What Redis gives a connection in subscriber mode in answer to a PING.
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


def is_ready(daemon: Daemon) -> bool:
    return daemon.get("/ready").status == 200


def states(daemon: Daemon) -> list[str]:
    """Return what the log says of Redis, in turn: "connected", or "unavailable: " and why."""
    return re.findall(r"Redis redis://\S+: ((?:connected|unavailable: ).*)", daemon.log)


def told_of(daemon: Daemon, trouble: str) -> bool:
    """Whether the log says now that Redis is away, and why: a regular expression."""
    return re.search(f"unavailable: .*({trouble})", states(daemon)[-1]) is not None


def reason(event: Event) -> str:
    """Return why there was a reset."""
    assert event.event == "reset", event
    text: str = json.loads(event.data)["reason"]
    return text


class Reader:
    """Reads a stream in a thread, for as long as it is open."""

    def __init__(self, stream: Stream, *, is_open: bool = False) -> None:
        self.events: list[Event] = []
        self.has_ended = False
        self._stream = stream if is_open else stream.opened()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(Ended, OSError, ValueError):
            while True:
                self.events.append(self._stream.next())
        self.has_ended = True

    @property
    def numbers(self) -> list[int]:
        """Numbers of the messages so far; nothing else may come."""
        assert {event.event for event in self.events} <= {None}, self.events
        return [int(event.data.split()[0]) for event in self.events]

    def has(self, number: int) -> bool:
        assert not self.has_ended
        return bool(self.events) and self.events[-1].data.split()[0] == str(number)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(2)
        self._thread.join()
        self._stream.close()


class Scene:
    """A Redis, two daemons, three streams, and a publisher that numbers its messages."""

    def __init__(self, server: RedisServer, daemons: list[Daemon], proxies: list[Proxy]) -> None:
        self.server = server
        self.daemons = daemons
        self.proxies = proxies
        self.client = server.client()
        self.publisher = Publisher(server.url, connect_timeout=1, timeout=1)
        self.published: list[int] = []
        self.refusals: list[BrokerUnavailable] = []
        self._readers: list[tuple[Reader, set[int]]] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._publish_on)

    def begin(self) -> None:
        """Open the streams, and go on publishing."""
        both = subscribe(self.publisher, "room:0", "room:1")
        one = subscribe(self.publisher, "room:1", subject="2")
        first, second = self.daemons
        for daemon, token, rooms in (
            (first, both, {0, 1}),
            (first, one, {1}),
            (second, both, {0, 1}),
        ):
            self._readers.append((Reader(daemon.stream(token)), rooms))
        self._thread.start()
        self.wait_for(SOME)

    def publish(self, padding: str = "") -> None:
        """Publish the next message, as often as it takes."""
        with self._lock:
            number = len(self.published)
            while not self._stopped.is_set():
                try:
                    self.publisher.publish(
                        f"room:{number % 2}", f"{number} {padding}", message_id=f"number {number}"
                    )
                except BrokerUnavailable as error:
                    self.refusals.append(error)
                    time.sleep(0.05)
                else:
                    self.published.append(number)
                    return

    def _publish_on(self) -> None:
        while not self._stopped.wait(0.005):
            self.publish()

    def wait_for(self, more: int) -> None:
        """Wait until that many more messages have been published."""
        count = len(self.published) + more
        eventually(lambda: len(self.published) >= count, f"{more} more messages are published")

    def finish(self) -> None:
        """Stop publishing, and check that every stream is open and has every message once."""
        with self._lock:
            self._stopped.set()
        self._thread.join()
        for reader, rooms in self._readers:
            expected = [number for number in self.published if number % 2 in rooms]
            eventually(lambda: reader.has(expected[-1]), "the last message")  # noqa: B023
            assert reader.numbers == expected

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        for reader, _ in self._readers:
            reader.close()
        self.publisher.close()
        self.client.close()


@contextlib.contextmanager
def scene(folder: Path, *options: str) -> Iterator[Scene]:
    """Set the scene; each daemon reaches Redis through a proxy of its own."""
    with contextlib.ExitStack() as stack:
        for name in ("redis", "first", "second"):
            (folder / name).mkdir()
        server = stack.enter_context(running_redis(folder / "redis", *options))
        proxies = [stack.enter_context(running_proxy(server.port)) for _ in range(2)]
        bound = ("--max-pending", str(64 * 1024 * 1024))
        daemons = [
            stack.enter_context(running_daemon(folder / name, proxy.url, *bound))
            for name, proxy in zip(("first", "second"), proxies, strict=True)
        ]
        it = Scene(server, daemons, proxies)
        stack.callback(it.close)
        yield it


# Faults: each breaks something on the way in, and heals it on the way out.


@contextlib.contextmanager
def killed(it: Scene) -> Iterator[None]:
    it.server.kill()
    yield
    it.server.start()


@contextlib.contextmanager
def loading(it: Scene) -> Iterator[None]:
    """Killed, and back with a lot to load."""
    it.client.execute_command("DEBUG", "POPULATE", 2000)
    it.client.bgrewriteaof()
    eventually(lambda: not it.client.info("persistence")["aof_rewrite_in_progress"])
    it.server.kill()
    it.server.options += (
        "--key-load-delay",
        "700",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    starting = threading.Thread(target=it.server.start)
    starting.start()
    yield
    starting.join()


@contextlib.contextmanager
def stopped_for_ten_seconds(it: Scene) -> Iterator[None]:
    assert it.server.process is not None
    it.server.process.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 10
    yield
    time.sleep(max(0, until - time.monotonic()))
    it.server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def asleep(it: Scene) -> Iterator[None]:
    it.client.execute_command("DEBUG", "SLEEP", 2)
    yield


@contextlib.contextmanager
def subscribers_killed(it: Scene) -> Iterator[None]:
    for _ in range(30):
        it.client.client_kill_filter(_type="pubsub")
        it.wait_for(10)
    yield


@contextlib.contextmanager
def everybody_killed(it: Scene) -> Iterator[None]:
    for _ in range(10):
        it.client.client_kill_filter(_type="pubsub")
        it.client.client_kill_filter(_type="normal", skipme=True)
        it.wait_for(10)
    yield


@contextlib.contextmanager
def output_buffer_exceeded(it: Scene) -> Iterator[None]:
    it.client.config_set("client-output-buffer-limit", "pubsub 1mb 512kb 2")
    for daemon in it.daemons:
        os.kill(daemon.pid, signal.SIGSTOP)
    while it.client.client_list("pubsub"):
        it.publish("x" * 100_000)
    for daemon in it.daemons:
        os.kill(daemon.pid, signal.SIGCONT)
    yield


@contextlib.contextmanager
def out_of_memory(it: Scene) -> Iterator[None]:
    it.client.config_set("maxmemory", 1)
    eventually(lambda: any("maxmemory" in str(error) for error in it.refusals))
    assert all(error.delivered is False for error in it.refusals)
    yield
    it.client.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(it: Scene) -> Iterator[None]:
    """Demoted behind our back, to a replica of a master that is not there."""
    it.client.replicaof("127.0.0.1", str(free_port()))
    yield
    # However often the daemons come back: they do not take it for a master again.
    for proxy in it.proxies:
        enough = proxy.connections + 4
        eventually(lambda: proxy.connections >= enough)  # noqa: B023
    it.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def password_changed(it: Scene) -> Iterator[None]:
    it.client.config_set("requirepass", "secret")
    it.client.client_kill_filter(_type="pubsub")
    it.client.client_kill_filter(_type="normal", skipme=True)
    yield
    it.client.config_set("requirepass", "")


@contextlib.contextmanager
def scripts_forgotten(it: Scene) -> Iterator[None]:
    for _ in range(20):
        it.client.script_flush()
        it.wait_for(5)
    it.client.client_kill_filter(_type="pubsub")
    it.client.script_flush()
    yield


@contextlib.contextmanager
def network_silent_one_way(it: Scene) -> Iterator[None]:
    """Nothing reaches Redis from one daemon, and nothing comes from there to the other.

    Nor does anything tell them later that these connections are lost; others can be made.
    """
    for proxy, direction in zip(it.proxies, ("up", "down"), strict=True):
        proxy.stall(direction)
    yield
    for proxy in it.proxies:
        proxy.forget()


@contextlib.contextmanager
def network_silent(it: Scene) -> Iterator[None]:
    """Nothing passes to one daemon; the other gets answers, to PING too, but no message."""

    def swallow(link: Link, data: bytes) -> bytes:
        return PONG * data.count(PONG) if link.is_subscriber else data

    it.proxies[0].stall()
    it.proxies[1].down = swallow
    yield
    it.proxies[0].cut()
    it.proxies[0].flow()
    it.proxies[1].down = unchanged


@contextlib.contextmanager
def network_reset(it: Scene) -> Iterator[None]:
    for _ in range(10):
        for proxy in it.proxies:
            proxy.cut()
        it.wait_for(10)
    yield


class Fault(NamedTuple):
    happens: Callable[[Scene], AbstractContextManager[None]]
    told: str = ""
    """What the log says of it, while it lasts; nothing if it is too short to be waited for."""
    losses: int = 1
    """How many times a daemon may lose Redis."""
    options: tuple[str, ...] = KEPT


EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
GONE = "[Ll]ost|[Rr]efused|[Cc]losed"
SILENT = "it does not deliver|nothing is heard|Not received"

FAULTS = {
    "killed, all on disk": Fault(killed, GONE),
    "killed, all written": Fault(killed, GONE, options=EVERY_SECOND),
    "loading": Fault(loading, "LOADING"),
    "stopped for ten seconds": Fault(stopped_for_ten_seconds, SILENT),
    "asleep": Fault(asleep, losses=0),
    "subscribers killed, thirty times": Fault(subscribers_killed, losses=30),
    "everybody killed, ten times": Fault(everybody_killed, losses=10),
    "output buffer exceeded": Fault(output_buffer_exceeded),
    "out of memory": Fault(out_of_memory, losses=0),
    "read-only": Fault(read_only, "no master"),
    "password changed": Fault(password_changed, "NOAUTH"),
    "scripts forgotten": Fault(scripts_forgotten),
    "network silent one way": Fault(network_silent_one_way, SILENT),
    "network silent": Fault(network_silent, SILENT),
    "network reset, ten times": Fault(network_reset, losses=10),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_streams_stay_open_and_get_everything_once_and_in_order(
    tmp_path: Path, fault: Fault
) -> None:
    with scene(tmp_path, *fault.options) as it:
        it.begin()
        with fault.happens(it):
            if fault.told:
                for daemon in it.daemons:
                    eventually(partial(told_of, daemon, fault.told), fault.told)
                    assert not is_ready(daemon)
                    assert daemon.get("/status").status == 200
                    assert daemon.metrics()["sinapse_redis_up"] == 0
        for daemon in it.daemons:
            eventually(partial(is_ready, daemon), "it is there again")
        it.wait_for(SOME)
        it.finish()
        for daemon in it.daemons:
            said = states(daemon)
            assert said[0] == said[-1] == "connected"
            assert all(one != other for one, other in itertools.pairwise(said))
            counted = daemon.metrics()
            losses = counted["sinapse_redis_losses_total"]
            assert min(fault.losses, 1) <= losses <= fault.losses
            assert counted["sinapse_redis_connects_total"] == said.count("connected") == losses + 1
            assert counted["sinapse_redis_up"] == 1
            # Everything that was read again, for all streams at once, and nothing told as lost.
            assert losses > 0 or counted["sinapse_history_reads_total"] == 0
            assert counted["sinapse_resets_total"] == 0
            assert counted["sinapse_streams_opened_total"] == counted["sinapse_streams"]
            assert "Traceback" not in daemon.log
            assert "Unhandled" not in daemon.log


def test_what_changes_during_a_break_applies_before_anything_is_delivered(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    kept = subscribe(publisher, "room:1", "room:2", "room:3")
    cleared = subscribe(publisher, "room:1", subject="2")
    emptied = subscribe(publisher, "room:1", subject="3")
    with (
        distant.stream(kept).opened() as stream,
        distant.stream(cleared).opened() as first_to_end,
        distant.stream(emptied).opened() as second_to_end,
    ):
        proxy.stall()
        publisher.publish("room:1", "before the changes")
        publisher.channels.remove("1", "room:2")
        publisher.channels.add("1", "room:4")
        publisher.tokens.clear("2")
        publisher.channels.remove("3", "room:1")
        for room in range(1, 5):
            publisher.publish(f"room:{room}", f"during {room}")
        proxy.cut()
        proxy.flow()
        eventually(lambda: is_ready(distant))
        for room in range(1, 5):
            publisher.publish(f"room:{room}", f"after {room}")
        received = [stream.next().data for _ in range(7)]
        assert received == [
            "before the changes",
            *("during 1", "during 3", "during 4"),
            *("after 1", "after 3", "after 4"),
        ]
        for each in (first_to_end, second_to_end):
            with pytest.raises(Ended):
                each.next()


def test_many_that_resume_at_once_after_an_outage_share_their_reads(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, *KEPT) as server,
        server.client() as client,
        Publisher(server.url) as publisher,
        running_daemon(tmp_path, server.url) as daemon,
    ):
        token = subscribe(publisher, "room:1", "room:2")
        with daemon.stream(token).opened() as stream:
            last = stream.position
        server.kill()
        server.start()
        for number in range(10):
            publisher.publish("room:1", str(number))
        eventually(lambda: is_ready(daemon))
        client.config_resetstat()
        count = 300
        streams = [daemon.stream(token, after=last) for _ in range(count)]
        for stream in streams:
            stream.opened()
            assert [stream.next().data for _ in range(10)] == [str(number) for number in range(10)]
            stream.close()
        # Each alone would read two channels, with two commands each.
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] < count


def test_a_replay_outlives_a_redis_that_stops_in_the_midst_of_it(tmp_path: Path) -> None:
    text = "x" * 100_000
    with (
        running_redis(tmp_path) as server,
        Publisher(server.url) as publisher,
        running_daemon(tmp_path, server.url) as daemon,
    ):
        token = subscribe(publisher, "room:1")
        with daemon.stream(token).opened() as stream:
            last = stream.position
        for number in range(200):
            publisher.publish("room:1", f"{number} {text}")
        # More than the buffers of the kernel take: the rest is read from Redis when it is wanted.
        with daemon.stream(token, after=last).opened() as stream:
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            try:
                reader = Reader(stream, is_open=True)
                eventually(lambda: not is_ready(daemon))
            finally:
                server.process.send_signal(signal.SIGCONT)
            eventually(lambda: reader.has(199))
            assert reader.numbers == list(range(200))
            reader.close()


class TestLoss:
    """Redis comes back without what it had: that is told, once, to whoever may miss something."""

    def test_with_nothing_left_streams_end_and_a_token_made_anew_resumes_with_a_reset(
        self, tmp_path: Path
    ) -> None:
        with (
            running_redis(tmp_path) as server,
            Publisher(server.url) as publisher,
            running_daemon(tmp_path, server.url) as daemon,
        ):
            token = subscribe(publisher, "room:1")
            with daemon.stream(token).opened() as stream:
                publisher.publish("room:1", "lost")
                last = stream.next().id
                server.kill()
                server.start()
                with pytest.raises(Ended):
                    stream.next()
            eventually(lambda: is_ready(daemon))
            with daemon.stream(token, after=last) as stream:
                assert stream.status == 401
            token = subscribe(publisher, "room:1")
            with daemon.stream(token, after=last).opened() as stream:
                event = stream.next()
                assert reason(event) == "data-lost"
                publisher.publish("room:1", "new")
                assert stream.next().data == "new"
            with daemon.stream(token, after=event.id).opened() as stream:
                assert stream.next().data == "new"
            assert "Traceback" not in daemon.log

    def test_flushed_while_it_runs_with_the_tokens_made_again_is_a_reset_and_no_end(
        self, tmp_path: Path
    ) -> None:
        with (
            running_redis(tmp_path) as server,
            server.client() as client,
            Publisher(server.url) as publisher,
            running_daemon(tmp_path, server.url) as daemon,
        ):
            token = subscribe(publisher, "room:1")
            gone = subscribe(publisher, "room:1", subject="2")
            with daemon.stream(token).opened() as stream, daemon.stream(gone).opened() as ended:
                publisher.publish("room:1", "lost")
                assert stream.next().data == "lost"
                with client.pipeline() as pipeline:
                    pipeline.flushall()
                    pipeline.set(f"sinapse:tokens:{token}", "1")
                    pipeline.sadd("sinapse:channels:1", "room:1")
                    pipeline.execute()
                assert reason(stream.next()) == "data-lost"
                assert daemon.metrics()["sinapse_resets_total"] == 1
                publisher.publish("room:1", "new")
                assert stream.next().data == "new"
                assert ended.next().data == "lost"
                with pytest.raises(Ended):
                    ended.next()
            assert "Traceback" not in daemon.log

    def test_older_data_are_a_reset_to_open_streams_and_to_those_that_resume(
        self, tmp_path: Path
    ) -> None:
        with (
            running_redis(tmp_path) as server,
            server.client() as client,
            Publisher(server.url) as publisher,
            running_daemon(tmp_path, server.url) as daemon,
        ):
            token = subscribe(publisher, "room:1")
            with daemon.stream(token).opened() as stream:
                publisher.publish("room:1", "kept")
                client.save()
                publisher.publish("room:1", "lost")
                older, last = stream.next(), stream.next()
                assert [older.data, last.data] == ["kept", "lost"]
                server.kill()
                server.start()
                assert reason(stream.next()) == "data-lost"
                publisher.publish("room:1", "new")
                assert stream.next().data == "new"
                for after in (older.id, last.id):
                    with daemon.stream(token, after=after).opened() as other:
                        assert reason(other.next()) == "data-lost"
                        publisher.publish("room:1", "live")
                        assert other.next().data == "live"
                    assert stream.next().data == "live"
            assert "Traceback" not in daemon.log


class Between:
    """Acts between two steps of a daemon: when it sends something, before Redis gets it.

    Messages to the daemon are held back from then on, until the answer to what it sent has been
    there for a while: the network decides which of two connections is the faster one.
    """

    def __init__(
        self, proxy: Proxy, matches: Callable[[Link, bytes], bool], act: Callable[[], None]
    ) -> None:
        self._matches = matches
        self._act = act
        self._asked: Link | None = None
        self._flow = threading.Event()
        self._flow.set()
        self.is_done = False
        proxy.up = self._up
        proxy.down = self._down

    def _up(self, link: Link, data: bytes) -> bytes:
        if self._asked is None and self._matches(link, data):
            self._asked = link
            if not link.is_subscriber:
                self._flow.clear()
            self._act()
            self.is_done = True
        return data

    def _down(self, link: Link, data: bytes) -> bytes:
        if link.is_subscriber:
            self._flow.wait()
        elif link is self._asked:
            threading.Timer(0.2, self._flow.set).start()
        return data


def reads_history(link: Link, data: bytes) -> bool:
    return not link.is_subscriber and b"sinapse:retained:room:1" in data


@contextlib.contextmanager
def publisher_of_marks(proxy: Proxy) -> Iterator[threading.Event]:
    """Yield what is set as soon as Redis has published a probe, or a mark."""
    heard = threading.Event()
    with redis.Redis(host="127.0.0.1", port=proxy.target) as client, client.pubsub() as pubsub:
        pubsub.psubscribe("sinapse:nodes:*")

        def listen() -> None:
            while not heard.is_set():
                message = pubsub.get_message(timeout=0.1)
                if message is not None and message["type"] == "pmessage":
                    heard.set()

        listening = threading.Thread(target=listen)
        listening.start()
        try:
            yield heard
        finally:
            heard.set()
            listening.join()


class TestOrder:
    """What is read from history is not ahead of what Redis says on the subscriber connection."""

    @pytest.mark.parametrize("breaks", [False, True], ids=["replay", "break"])
    def test_a_message_comes_once_and_none_after_the_removal_of_its_channel(
        self, distant: Daemon, proxy: Proxy, publisher: Publisher, breaks: bool
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")

        def act() -> None:
            publisher.publish("room:1", "one")
            publisher.channels.remove("1", "room:2")
            publisher.publish("room:2", "after the removal")
            publisher.publish("room:1", "two")

        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(distant.stream(token).opened())
            between = Between(proxy, reads_history, act)
            if breaks:
                proxy.cut()
            else:
                again = distant.stream(token, after=stream.position).opened()
                stream = stack.enter_context(again)
            eventually(lambda: between.is_done)
            eventually(lambda: is_ready(distant))
            publisher.publish("room:1", "end")
            assert [stream.next().data for _ in range(3)] == ["one", "two", "end"]

    def test_a_channel_that_is_added_while_a_daemon_comes_back_misses_nothing(
        self, distant: Daemon, proxy: Proxy, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        has_read, has_published = threading.Event(), threading.Event()

        def up(link: Link, data: bytes) -> bytes:
            if link.is_subscriber and b"$6\r\nroom:1\r\n" in data:
                publisher.channels.add("1", "room:2")
            elif link.is_subscriber and b"$6\r\nroom:2\r\n" in data:
                has_read.wait(1)  # Bounded: it need not come before.
                publisher.publish("room:2", "one")
                has_published.set()
            return data

        def down(link: Link, data: bytes) -> bytes:
            if b"sinapse:retained:room:1" in link.sent:
                has_read.set()
            return data

        with distant.stream(token).opened() as stream:
            proxy.up, proxy.down = up, down
            proxy.cut()
            assert has_published.wait(EVENT_TIMEOUT)
            proxy.up = proxy.down = unchanged
            eventually(lambda: is_ready(distant))
            publisher.publish("room:2", "two")
            assert [stream.next().data for _ in range(2)] == ["one", "two"]

    def test_a_probe_that_arrives_late_is_not_taken_for_the_mark_of_a_later_connection(
        self, distant: Daemon, proxy: Proxy, publisher: Publisher
    ) -> None:
        """What lies between the node and Redis has kept it for longer than its connection lived."""
        token = subscribe(publisher, "room:1", "room:2")
        late = threading.Event()
        is_kept, is_done = threading.Event(), threading.Event()

        def up(link: Link, data: bytes) -> bytes:
            if link.is_subscriber or b"sinapse:nodes:" not in data:
                return data
            if not is_kept.is_set():
                is_kept.set()
                late.wait(EVENT_TIMEOUT)
            elif not is_done.is_set():
                with publisher_of_marks(proxy) as heard:
                    late.set()
                    heard.wait(EVENT_TIMEOUT)
                publisher.channels.remove("1", "room:2")
                publisher.publish("room:2", "after the removal")
                is_done.set()
            return data

        with distant.stream(token).opened() as stream:
            proxy.up = up
            assert is_done.wait(EVENT_TIMEOUT)
            proxy.up = unchanged
            eventually(lambda: is_ready(distant))
            publisher.publish("room:1", "end")
            assert stream.next().data == "end"


@pytest.mark.parametrize(
    "written",
    [
        ("sinapse:retention", "counter", "abc"),
        ("sinapse:retention", "counter", "9" * 40),
        ("sinapse:retention", "counter", "-5"),
        ("sinapse:retention", "epoch", "XYZ!"),
        ("sinapse:retention", "epoch", b"\xff"),
        ("sinapse:retention", "floor", "abc"),
        ("sinapse:epochs", "aa", "abc"),
        ("sinapse:epochs", b"\xff", "9" * 5000),
    ],
)
def test_what_others_write_where_ids_are_kept_stops_nobody(
    distant: Daemon,
    proxy: Proxy,
    publisher: Publisher,
    redis_client: redis.Redis,
    written: tuple[str, str | bytes, str | bytes],
) -> None:
    key, field, value = written
    token = subscribe(publisher, "room:1")
    publisher.publish("room:1", "former")
    with distant.stream(token).opened() as stream:
        redis_client.hset(key, field, value)
        if key != PLAIN.retention or field == "floor":  # Otherwise a probe finds it.
            proxy.cut()
        eventually(lambda: distant.metrics()["sinapse_redis_connects_total"] == 2)
        with distant.stream(token).opened() as another:
            publisher.publish("room:1", "later")
            assert another.message().data == "later"
        stream.wait_for_message("later")
    redis_client.delete("sinapse:epochs")


def test_a_list_of_another_type_is_told_with_its_key_and_without_the_token(
    daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
) -> None:
    token = subscribe(publisher, "room:1")
    other = subscribe(publisher, "room:1", subject="2")
    redis_client.delete("sinapse:channels:1")
    redis_client.set("sinapse:channels:1", "no set")
    with daemon.stream(token) as stream, daemon.stream(other).opened() as another:
        assert stream.next().event == "position"  # It is told to come back.
        publisher.publish("room:1", "hello")
        assert another.message().data == "hello"
    assert "one of these keys holds what is not Sinapse's: sinapse:tokens:…" in daemon.log
    assert token not in daemon.log
