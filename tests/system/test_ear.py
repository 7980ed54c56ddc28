"""One subscriber for all workers of a node: as exact as with one each, whatever breaks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import NODES
from sinapse.publisher import Publisher
from tests.support import (
    EVENT_TIMEOUT,
    RedisServer,
    end,
    eventually,
    running_redis,
    running_several,
)
from tests.support.daemon import Daemon, Stream
from tests.support.workers import Workers, running_workers, serving

WORKERS = 3


@pytest.fixture(scope="module")
def shared(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Return workers that no test breaks."""
    folder = tmp_path_factory.mktemp("ear")
    with running_workers(folder, redis_process.url, count=WORKERS) as workers:
        yield workers
        assert "Traceback" not in workers.daemon.log


@pytest.fixture
def workers(shared: Workers, redis_server: RedisServer) -> Workers:
    return shared


@pytest.fixture
def token(publisher: Publisher) -> str:
    publisher.channels.add("1", "room:1")
    return publisher.tokens.generate("1")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis that may be killed, and keeps its data."""
    with running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


class Publishing:
    """Publishes numbers in a thread until it is left, each until it is accepted."""

    def __init__(self, url: str, channel: str = "room:1") -> None:
        # However long a break is: nothing may be gone.
        self.publisher = Publisher(url, connect_timeout=1, timeout=5, retain_messages=100_000)
        self.channel = channel
        self.accepted = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ends.is_set():
            number = str(self.accepted)
            with contextlib.suppress(BrokerUnavailable):
                self.publisher.publish(self.channel, number, message_id=f"{self.channel} {number}")
                self.accepted += 1
            self._ends.wait(0.001)

    def goes_on(self, count: int = 100) -> None:
        """Return when so many more have been accepted."""
        goal = self.accepted + count
        eventually(lambda: self.accepted >= goal, "messages are accepted")

    def end(self) -> int:
        """Publish no more; returns how many there were."""
        self._ends.set()
        self._thread.join(EVENT_TIMEOUT)
        return self.accepted

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.publisher.close()


def subscribers(server: RedisServer) -> int:
    with server.client() as client:
        return len(client.client_list(_type="pubsub"))


def numbers(stream: Stream, count: int) -> list[int]:
    """Return what a stream gets until the last of so many; it must be nothing but numbers."""
    seen: list[int] = []
    while not seen or seen[-1] != count - 1:
        event = stream.next()
        assert event.event is None
        seen.append(int(event.data))
    return seen


def test_redis_has_one_subscriber_for_all(tmp_path: Path, own_redis: RedisServer) -> None:
    with (
        running_workers(tmp_path, own_redis.url, count=WORKERS) as workers,
        Publisher(own_redis.url) as publisher,
        own_redis.client() as client,
    ):
        publisher.channels.add("1", "room:1")
        with workers.one_of_each(publisher.tokens.generate("1")):
            assert subscribers(own_redis) == 1
            assert client.pubsub_numpat() == 1
            assert client.pubsub_numsub(NODES, "room:1") == [(NODES.encode(), 1), (b"room:1", 1)]
        eventually(lambda: client.pubsub_numsub("room:1") == [(b"room:1", 0)], "nobody hears it")


def test_streams_of_all_workers_get_everything_in_order(
    workers: Workers, publisher: Publisher, token: str, redis_server: RedisServer
) -> None:
    with workers.one_of_each(token) as streams, Publishing(redis_server.url) as publishing:
        publishing.goes_on(500)
        # Others come and go meanwhile, with channels of their own.
        for user in range(20):
            publisher.channels.add(f"other {user}", "room:1")
            publisher.channels.add(f"other {user}", f"room:{user}")
            with workers.daemon.stream(publisher.tokens.generate(f"other {user}")).opened():
                pass
        count = publishing.end()
        for stream in streams.values():
            assert numbers(stream, count) == list(range(count))


def test_a_removal_takes_effect_at_once_on_every_worker(
    workers: Workers, publisher: Publisher, redis_server: RedisServer
) -> None:
    publisher.channels.add("1", "room:1")
    publisher.channels.add("1", "room:2")
    token = publisher.tokens.generate("1")
    rounds = 100
    with workers.one_of_each(token) as streams, Publishing(redis_server.url, "room:2") as others:
        for number in range(rounds):
            publisher.channels.remove("1", "room:1")
            publisher.publish("room:1", "not for you", retain=number % 2 * 60)
            publisher.channels.add("1", "room:1")
            publisher.publish("room:1", f"for you {number}")
        publisher.publish("room:1", "end")
        count = others.end()
        for stream in streams.values():
            seen: list[str] = []
            while "end" not in seen or str(count - 1) not in seen:
                seen.append(stream.next().data)
            assert [data for data in seen if not data.isdecimal()] == [
                *(f"for you {number}" for number in range(rounds)),
                "end",
            ]
            assert [int(data) for data in seen if data.isdecimal()] == list(range(count))


def test_an_ear_that_is_killed_is_replaced_and_nothing_is_lost(
    tmp_path: Path, redis_server: RedisServer, token: str
) -> None:
    with (
        running_workers(tmp_path, redis_server.url, count=WORKERS) as workers,
        workers.one_of_each(token) as streams,
        Publishing(redis_server.url) as publishing,
    ):
        before = serving(workers.daemon)
        for ears in range(1, 4):
            publishing.goes_on()
            os.kill(workers.ear(ears), signal.SIGKILL)
            workers.ear(ears + 1)
            publishing.goes_on()
        workers.all_serve()
        publishing.goes_on()
        count = publishing.end()
        for stream in streams.values():
            assert numbers(stream, count) == list(range(count))
        assert serving(workers.daemon) == before
        log = workers.daemon.log
        delays = re.findall(r"the ear ended: SIGKILL after .* s; another one is .* in (\S+) s", log)
        assert [float(delay) for delay in delays] == [0.1, 0.2, 0.4]
        told = workers.daemon.metrics()
        assert told["sinapse_worker_ends_total"] == 3
        assert "Traceback" not in log


def test_a_redis_that_is_killed_is_heard_again(tmp_path: Path, own_redis: RedisServer) -> None:
    with (
        Publisher(own_redis.url) as publisher,
        running_workers(tmp_path, own_redis.url, count=WORKERS) as workers,
    ):
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with workers.one_of_each(token) as streams, Publishing(own_redis.url) as publishing:
            ear = workers.ear()
            publishing.goes_on()
            own_redis.kill()
            eventually(lambda: not workers.daemon.is_ready(), "it is noticed")
            own_redis.start()
            workers.all_serve()
            publishing.goes_on()
            count = publishing.end()
            for stream in streams.values():
                assert numbers(stream, count) == list(range(count))
            assert workers.ear() == ear
            assert subscribers(own_redis) == 1


def test_a_redis_that_hangs_is_left_and_heard_again(tmp_path: Path, own_redis: RedisServer) -> None:
    with (
        Publisher(own_redis.url) as publisher,
        running_workers(tmp_path, own_redis.url) as workers,
    ):
        publisher.channels.add("1", "room:1")
        with workers.one_of_each(publisher.tokens.generate("1")) as streams:
            with own_redis.suspended():
                eventually(lambda: "hears redis://" in workers.daemon.log)
                eventually(lambda: re.search(r"hears \S+ no more: ", workers.daemon.log), "left")
                eventually(lambda: not workers.daemon.is_ready(), "it is noticed")
            workers.all_serve()
            publisher.publish("room:1", "here again")
            for stream in streams.values():
                assert stream.next().data == "here again"


def test_a_worker_that_dies_leaves_nothing_behind(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, token: str
) -> None:
    publisher.channels.add("2", "room:2")
    other = publisher.tokens.generate("2")
    before = subscribers(redis_server)  # Of the daemons of other tests.
    with (
        running_workers(tmp_path, redis_server.url, count=WORKERS) as workers,
        workers.one_of_each(token) as streams,
        workers.daemon.stream(other).opened() as stream,
        redis_server.client() as client,
        Publishing(redis_server.url) as publishing,
    ):
        publishing.goes_on()
        assert client.pubsub_numsub("room:2") == [(b"room:2", 1)]
        dead = workers.owner(stream)
        os.kill(dead, signal.SIGKILL)
        eventually(lambda: client.pubsub_numsub("room:2") == [(b"room:2", 0)], "given up")
        eventually(lambda: dead not in workers.all_serve().values(), "another one serves")
        publishing.goes_on()
        count = publishing.end()
        for pid, each in streams.items():
            if pid != dead:
                assert numbers(each, count) == list(range(count))
        assert subscribers(redis_server) == before + 1


#: Bytes that may wait for a worker in the test of that.
SMALL = 512 * 1024


def patched(daemon: Daemon, module: str, statement: str) -> None:
    """Have the processes of a node run a statement on a module of ours before they start."""
    child = f"import {module} as it; {statement}; from twisted.scripts.twistd import run; run()"
    at = daemon.command.index("-c") + 1
    daemon.command[at] = (
        "import sinapse.daemon.workers.supervisor as supervisor; "
        f"supervisor.TWISTD = ('-c', {child!r}); {daemon.command[at]}"
    )


def test_a_worker_that_does_not_read_holds_up_nobody_and_catches_up(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, token: str
) -> None:
    daemon = Daemon(tmp_path, redis_server.url, "--workers=2")
    patched(daemon, "sinapse.ear.wire", f"it.MOST_PENDING = {SMALL}")
    count = 200
    try:
        daemon.start()
        workers = Workers(daemon, 2)
        workers.all_serve()
        with workers.one_of_each(token) as streams:
            (stopped, late), (_, other) = streams.items()
            os.kill(stopped, signal.SIGSTOP)
            try:
                for number in range(count):
                    publisher.publish("room:1", f"{number}".rjust(8 * SMALL // count))
                    assert int(other.next().data) == number
                eventually(lambda: "a worker does not read" in daemon.log, "it is cut off")
            finally:
                os.kill(stopped, signal.SIGCONT)
            for number in range(count):
                assert int(late.next().data) == number
            workers.all_serve()
            publisher.publish("room:1", "here again")
            assert [stream.next().data for stream in streams.values()] == ["here again"] * 2
    finally:
        if daemon.process is not None:
            end(daemon.process)


def test_while_streams_end_they_hear_everything(
    tmp_path: Path, redis_server: RedisServer, token: str
) -> None:
    """The ear outlives the workers, even if everybody is told to end at once."""
    with (
        running_workers(tmp_path, redis_server.url, "--drain=5") as workers,
        workers.one_of_each(token) as streams,
        Publishing(redis_server.url) as publishing,
    ):
        publishing.goes_on()
        os.kill(workers.ear(), signal.SIGTERM)
        process = workers.daemon.process
        assert process is not None
        process.terminate()
        eventually(lambda: workers.daemon.log.count("Received SIGTERM") == 4, "all of them end")
        for stream in streams.values():
            seen = []
            while True:
                event = stream.next()
                if event.event == "position":
                    break
                seen.append(int(event.data))
            assert seen == list(range(len(seen)))
        assert process.wait(EVENT_TIMEOUT) == -signal.SIGTERM
        assert not re.search(r"the ear ended|unavailable|Traceback", workers.daemon.log)


def test_an_ear_that_is_told_to_end_serves_on_while_there_are_workers(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, token: str
) -> None:
    """Whoever tells all processes at once to end also tells the ear, and a drain may be long."""
    daemon = Daemon(tmp_path, redis_server.url, "--workers=2")
    at = daemon.command.index("-c") + 1
    daemon.command[at] = (
        "import sinapse.daemon.workers.process as process; "
        "process.HANG_TIMEOUT = 6; process.LAST_WORDS = 0.5; " + daemon.command[at]
    )
    try:
        daemon.start()
        workers = Workers(daemon, 2)
        with workers.one_of_each(token) as streams:
            ear = workers.ear()
            os.kill(ear, signal.SIGTERM)
            eventually(lambda: "Received SIGTERM" in daemon.log, "it is told")
            # Silence is noticed by then.
            (stopped, _), (_, stream) = streams.items()
            os.kill(stopped, signal.SIGSTOP)
            eventually(lambda: "has said nothing for 6 s, and is killed" in daemon.log)
            eventually(lambda: stopped not in workers.all_serve().values(), "another one serves")
            publisher.publish("room:1", "hello")
            assert stream.next().data == "hello"
            status = json.loads(daemon.admin("/status").text)  # type: ignore[attr-defined]
            assert status["ear"] == {"pid": ear, "serves": True, "answers": True, "ends": 0}
        daemon.stop()
        assert not re.search("the ear ended|the ear has said nothing", daemon.log)
    finally:
        if daemon.process is not None:
            end(daemon.process)


def test_each_of_several_redis_has_one_subscriber(tmp_path: Path) -> None:
    with (
        running_several(tmp_path, 2) as (servers, urls),
        Publisher(urls.split()) as publisher,
        running_workers(tmp_path, urls) as workers,
    ):
        for number in range(8):
            publisher.channels.add("1", f"room:{number}")
        with workers.one_of_each(publisher.tokens.generate("1")) as streams:
            assert [subscribers(server) for server in servers] == [1, 1]
            for number in range(8):
                publisher.publish(f"room:{number}", str(number))
            for stream in streams.values():
                assert {stream.next().data for _ in range(8)} == set(map(str, range(8)))


def test_names_have_the_prefix_of_their_redis(
    workers: Workers, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, token: str
) -> None:
    with (
        Publisher(redis_server.url, prefix="staging:") as other,
        running_workers(tmp_path, redis_server.url, "--prefix=staging:") as there,
        workers.one_of_each(token) as here,
    ):
        other.channels.add("1", "room:1")
        with there.one_of_each(other.tokens.generate("1")) as streams:
            publisher.publish("room:1", "here")
            other.publish("room:1", "there")
            assert {stream.next().data for stream in here.values()} == {"here"}
            assert {stream.next().data for stream in streams.values()} == {"there"}


def test_a_password_that_is_wrong_is_named_once_and_may_be_mended(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        client.acl_setuser("node", enabled=True, passwords=["+right"], keys=["*"], channels=["*"],
                           commands=["+@all"])  # fmt: skip
    url = own_redis.url.replace("//", "//node:right@")
    with (
        running_workers(tmp_path, url) as workers,
        Publisher(own_redis.url) as publisher,
        own_redis.client() as client,
    ):
        publisher.channels.add("1", "room:1")
        with workers.one_of_each(publisher.tokens.generate("1")) as streams:
            client.acl_setuser("node", enabled=False)
            client.client_kill_filter(_type="pubsub")
            eventually(lambda: not workers.daemon.is_ready(), "it is noticed")
            client.acl_setuser("node", enabled=True)
            workers.all_serve()
            publisher.publish("room:1", "hello")
            for stream in streams.values():
                assert stream.next().data == "hello"
        assert "right" not in workers.daemon.log


def test_without_workers_there_is_no_ear(
    daemon: Daemon, redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    assert "the ear" not in daemon.log
    assert "hears redis://" not in daemon.log
