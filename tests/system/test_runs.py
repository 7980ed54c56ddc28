"""Runs, as pages see them: whole for whoever comes, in the midst or later, and their end told."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from sinapse.errors import RunStopped
from sinapse.protocol.names import PLAIN
from sinapse.protocol.runs import LEASE
from sinapse.protocol.scripts import SWEEP_RUNS
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher
from sinapse.publisher.runs import Run, RunState
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.running import Told, dying, pieces
from tests.support.subscribing import subscribe

#: The events that are the last ones of a run.
LAST = {"end", "error", "stopped", "lost"}

#: Pieces of a run that lasts for a second or so.
PIECES = 200

#: Seconds of retention, for what has to expire.
SHORT = 1


def shown(stream: Stream, *runs: str) -> list[Told]:
    """Return what a stream gets of those runs until all are over."""
    messages: list[Told] = []
    left = set(runs)
    while left:
        event = stream.next()
        if event.event in {"piece", *LAST}:
            message = Told(event.event, json.loads(event.data))
            assert message.data["run"] in left, f"{message} after the end, or of another run"
            messages.append(message)
            if event.event in LAST:
                left.discard(message.data["run"])
    return messages


def until(stream: Stream, data: str = "end") -> list[Told]:
    """Return what a stream gets of runs before a message of `room:1`."""
    messages = []
    while (event := stream.next()).data != data:
        if event.event in {"piece", *LAST}:
            messages.append(Told(event.event, json.loads(event.data)))
    return messages


def work(run: Run, *, seed: int = 0, meanwhile: Any = None) -> None:
    """Send pieces as a language model makes them: now fast, now slow."""
    chance = random.Random(seed)
    with run:
        if meanwhile is not None:
            meanwhile.set()
        for number in range(PIECES):
            run.send(number)
            if chance.random() < 0.3:
                time.sleep(chance.random() / 50)


@contextlib.contextmanager
def working(run: Run) -> Iterator[threading.Thread]:
    """Let a thread do the work of a run, which has begun when the with block does."""
    begun = threading.Event()
    thread = threading.Thread(target=work, args=(run,), kwargs={"meanwhile": begun})
    thread.start()
    try:
        begun.wait()
        yield thread
    finally:
        thread.join()


def has_looked(server: RedisServer) -> bool:
    """Whether a daemon has looked for runs that are lost: then Redis knows its script."""
    with server.client() as client:
        return bool(client.script_exists(SWEEP_RUNS.sha)[0])


def lease_is_over(client: redis.Redis, run: str) -> None:
    """Let the time of a run's last sign of life have passed."""
    assert client.zadd(PLAIN.runs, {run: 1}, xx=True, ch=True) == 1


@pytest.fixture
def token(publisher: Publisher) -> str:
    return subscribe(publisher, "room:1")


class TestStreams:
    """Whoever comes gets all of it, once and in order."""

    def test_one_that_is_open_gets_it_from_the_beginning(
        self, nodes: list[Daemon], publisher: Publisher, token: str
    ) -> None:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
            run = publisher.run("1", name="answer")
            work(run)
            for stream in streams:
                messages = shown(stream, run.id)
                assert pieces(messages) == [*range(PIECES)]
                assert messages[-1] == Told("end", {"run": run.id, "name": "answer"})

    def test_those_that_open_in_the_midst_get_it_whole(
        self, nodes: list[Daemon], publisher: Publisher, token: str
    ) -> None:
        run = publisher.run("1", name="answer")
        streams: list[Stream] = []
        with contextlib.ExitStack() as stack, working(run) as thread:
            while thread.is_alive():
                node = nodes[len(streams) % 2]
                streams.append(stack.enter_context(node.stream(token).opened()))
                time.sleep(random.random() / 10)
            assert len(streams) > 3
            for stream in streams:
                messages = shown(stream, run.id)
                assert pieces(messages) == [*range(PIECES)]
                assert messages[-1].event == "end"

    def test_those_that_break_in_the_midst_go_on_from_there(
        self, nodes: list[Daemon], publisher: Publisher, token: str
    ) -> None:
        run = publisher.run("1", name="answer")
        got: list[Any] = []
        last, count = None, 0
        with working(run):
            while True:
                count += 1
                with nodes[count % 2].stream(token, after=last).opened() as stream:
                    for _ in range(random.randint(1, 5)):
                        event = stream.next()
                        last = event.id or last
                        if event.event == "piece":
                            got += json.loads(event.data)["pieces"]
                        elif event.event == "end":
                            break
                    if event.event == "end":
                        break
        assert count > 1
        assert got == [*range(PIECES)]

    def test_several_at_once_are_each_in_order(
        self, daemon: Daemon, publisher: Publisher, token: str
    ) -> None:
        runs = [publisher.run("1", name=f"run {number}") for number in range(5)]
        threads = [
            threading.Thread(target=work, args=(run,), kwargs={"seed": number})
            for number, run in enumerate(runs)
        ]
        with daemon.stream(token).opened() as early:
            for thread in threads:
                thread.start()
            eventually(lambda: len(publisher.channels.list("1")) == 1 + len(runs))
            with daemon.stream(token).opened() as late:
                for stream in (early, late):
                    messages = shown(stream, *(run.id for run in runs))
                    for run in runs:
                        own = [each for each in messages if each.data["run"] == run.id]
                        assert pieces(own) == [*range(PIECES)]
                        assert {each.data["name"] for each in own} == {run.name}
        for thread in threads:
            thread.join()

    def test_after_the_end_a_new_one_gets_all_of_it_until_it_expires(
        self, daemon: Daemon, publisher: Publisher, token: str
    ) -> None:
        with publisher.run("1", retain=SHORT) as run:
            run.send("a piece")
        with daemon.stream(token).opened() as stream:
            assert pieces(shown(stream, run.id)) == ["a piece"]
        eventually(lambda: publisher.runs.get(run.id) is None, "it is forgotten")
        with daemon.stream(token).opened() as stream:
            publisher.publish("room:1", "end")
            assert until(stream) == []

    def test_nothing_of_one_expires_before_its_end(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, token: str
    ) -> None:
        """It lasts for longer than its messages are kept after that, and is silent for as long."""

        def wait() -> None:
            before = redis_client.time()[0]
            eventually(lambda: redis_client.time()[0] > before + SHORT)

        with publisher.run("1", retain=SHORT) as run:
            run.send("first")
            wait()
            with daemon.stream(token).opened() as midst:
                run.send("second")
                wait()
                run.send("third")
                run.flush()
                publisher.publish("room:1", "end")
                assert pieces(until(midst)) == ["first", "second", "third"]
        with daemon.stream(token).opened() as stream:
            assert pieces(shown(stream, run.id)) == ["first", "second", "third"]
        eventually(lambda: publisher.history(run.channel).messages == ())

    def test_nobody_else_gets_any_of_it(self, daemon: Daemon, publisher: Publisher) -> None:
        other = subscribe(publisher, "room:1", subject="2")
        with daemon.stream(other).opened() as early, publisher.run("1") as run:
            run.send("a piece")
            run.flush()
            with daemon.stream(other).opened() as late:
                publisher.publish("room:1", "end")
                assert until(late) == until(early) == []

    def test_one_that_ended_before_any_daemon_began_is_shown_too(self, tmp_path: Path) -> None:
        with running_redis(tmp_path) as server, Publisher(server.url) as publisher:
            token = subscribe(publisher, "room:1")
            with publisher.run("1") as run:
                run.send("a piece")
            with (
                running_daemon(tmp_path, server.url) as daemon,
                daemon.stream(token).opened() as stream,
            ):
                assert [each.event for each in shown(stream, run.id)] == ["piece", "end"]


class TestEnds:
    """How it ends, its pages are told."""

    def test_an_error_has_the_text_that_was_chosen(
        self, daemon: Daemon, publisher: Publisher, token: str
    ) -> None:
        with daemon.stream(token).opened() as stream:
            with (  # noqa: PT012  # What it sends is told before.
                pytest.raises(ZeroDivisionError),
                publisher.run("1", name="report", error_text="Try again later.") as run,
            ):
                run.send("a piece")
                raise ZeroDivisionError("secret")
            with publisher.run("1", name="report") as other:
                other.fail("No such film.")
            messages = shown(stream, run.id, other.id)
        errors = [each.data for each in messages if each.event == "error"]
        assert errors == [
            {"run": run.id, "name": "report", "error": "Try again later."},
            {"run": other.id, "name": "report", "error": "No such film."},
        ]
        assert "secret" not in repr(messages)

    def test_a_stop_by_another_process_reaches_page_and_producer(
        self,
        daemon: Daemon,
        redis_server: RedisServer,
        publisher: Publisher,
        token: str,
    ) -> None:
        def produce() -> None:
            with contextlib.suppress(RunStopped), run:
                begun.set()
                while True:
                    try:
                        run.send("piece")
                    except RunStopped as error:
                        raised.append(error)
                        raise
                    time.sleep(0.005)

        begun, raised = threading.Event(), list[RunStopped]()
        run = publisher.run("1", name="answer")
        producer = threading.Thread(target=produce)
        with daemon.stream(token).opened() as stream, Publisher(redis_server.url) as other:
            producer.start()
            begun.wait()
            assert stream.next().event == "piece"
            assert other.runs.stop(run.id) is True
            assert other.runs.stop(run.id) is False
            assert shown(stream, run.id)[-1] == Told("stopped", {"run": run.id, "name": "answer"})
            producer.join()
            assert run.stopped
            assert raised
            # Nothing follows.
            publisher.publish("room:1", "end")
            assert until(stream) == []

    def test_a_stop_is_known_to_a_run_that_sends_nothing(
        self, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        with publisher.run("1") as run, Publisher(redis_server.url) as other:
            run.send("a piece")
            run.flush()
            other.runs.stop(run.id)
            eventually(lambda: run.stopped)

    def test_a_process_that_dies_is_told_once_though_there_are_two_nodes(
        self,
        nodes: list[Daemon],
        redis_server: RedisServer,
        publisher: Publisher,
        token: str,
    ) -> None:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
            run, process = stack.enter_context(dying(redis_server.url, "1"))
            process.kill()
            for stream in streams:
                messages = shown(stream, run)
                assert pieces(messages) == ["before"]
                assert messages[-1] == Told("lost", {"run": run, "name": "answer"})
            publisher.publish("room:1", "end")
            assert [until(stream) for stream in streams] == [[], []]
            late = stack.enter_context(nodes[0].stream(token).opened())
            assert [each.event for each in shown(late, run)] == ["piece", "lost"]
        status = publisher.runs.get(run)
        assert status is not None
        assert status.state is RunState.LOST

    def test_one_that_sends_nothing_is_not_lost(
        self, nodes: list[Daemon], publisher: Publisher, redis_client: redis.Redis, token: str
    ) -> None:
        with nodes[0].stream(token).opened() as stream, publisher.run("1") as run:
            begun = redis_client.zscore(PLAIN.runs, run.id)
            assert begun is not None
            eventually(
                lambda: (redis_client.zscore(PLAIN.runs, run.id) or 0) > begun, "a sign of life"
            )
            run.send("a piece")
            run.flush()
            publisher.publish("room:1", "end")
            assert [each.event for each in until(stream)] == ["piece"]

    def test_a_redis_that_stands_still_loses_none_whose_process_is_there(
        self, tmp_path: Path
    ) -> None:
        """It hears the daemon, which asked for the lost ones, before it hears the process."""
        with (
            running_redis(tmp_path) as server,
            Publisher(server.url) as publisher,
            running_daemon(tmp_path, server.url) as daemon,
            daemon.stream(subscribe(publisher, "room:1")).opened() as stream,
            publisher.run("1") as run,
        ):
            run.send("before")
            run.flush()
            # It looks for the first time a while after it has connected.
            eventually(lambda: has_looked(server), timeout=2 * EVENT_TIMEOUT)
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE / 1000 + 1)  # So long that signs of life do not hold.
            server.process.send_signal(signal.SIGCONT)
            run.send("after")
            run.flush()
            publisher.publish("room:1", "end")
            assert pieces(until(stream)) == ["before", "after"]

    def test_one_that_dies_while_there_is_no_daemon_is_told_when_there_is(
        self, tmp_path: Path
    ) -> None:
        with running_redis(tmp_path) as server, Publisher(server.url) as publisher:
            token = subscribe(publisher, "room:1")
            with dying(server.url, "1") as (run, process):
                process.kill()
                process.wait()
            with server.client() as client:
                lease_is_over(client, run)
            with (
                running_daemon(tmp_path, server.url) as daemon,
                daemon.stream(token).opened() as stream,
            ):
                assert [each.event for each in shown(stream, run)] == ["piece", "lost"]


class TestGrants:
    """Its subject may listen for as long as there is something to hear."""

    def test_it_ends_by_itself_on_open_streams_of_all_nodes(
        self, nodes: list[Daemon], publisher: Publisher, token: str
    ) -> None:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(node.stream(token).opened()) for node in nodes]
            with publisher.run("1", retain=SHORT) as run:
                run.send("a piece")
            eventually(lambda: publisher.channels.list("1") == {"room:1"}, "the grant ends")
            publisher.publish(run.channel, "after")
            publisher.publish("room:1", "end")
            for stream in streams:
                assert [each.event for each in until(stream)] == ["piece", "end"]

    def test_who_may_listen_to_nothing_else_is_sent_away(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = publisher.tokens.generate("1")
        with publisher.run("1", retain=SHORT) as run:
            run.send("a piece")
            stream = daemon.stream(token).opened()
        with stream:
            shown(stream, run.id)
            stream.wait_for_end()
        with daemon.stream(token) as refused:
            assert refused.status == 401

    def test_it_lasts_while_the_run_does(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, token: str
    ) -> None:
        """Though nothing is sent for longer than what is sent is kept."""
        with daemon.stream(token).opened() as stream:
            with publisher.run("1", retain=SHORT / 4) as run:
                run.send("first")
                run.flush()
                begun = publisher.runs.get(run.id)
                assert begun is not None

                def is_old() -> bool:
                    seconds, _ = redis_client.time()
                    return seconds > begun.begun + 2 * SHORT

                eventually(is_old)
                run.send("second")
            assert pieces(shown(stream, run.id)) == ["first", "second"]

    def test_it_lasts_until_it_is_said_that_the_run_is_lost(
        self,
        daemon: Daemon,
        redis_server: RedisServer,
        token: str,
    ) -> None:
        with (
            daemon.stream(token).opened() as stream,
            dying(redis_server.url, "1", retain=SHORT) as (run, process),
        ):
            process.kill()
            assert [each.event for each in shown(stream, run)] == ["piece", "lost"]


class TestSeveralRedis:
    """One Redis has all of a run, and a stream has those of all."""

    COUNT = 2

    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[list[RedisServer]]:
        with contextlib.ExitStack() as stack:
            servers = []
            for number in range(self.COUNT):
                folder = tmp_path / f"redis-{number}"
                folder.mkdir()
                servers.append(stack.enter_context(running_redis(folder)))
            yield servers

    def shard(self, run: str) -> int:
        return shard_of(f"run:{run}".encode(), self.COUNT)

    def of_each(self, publisher: Publisher) -> list[Run]:
        """Return a run for each Redis."""
        found: dict[int, Run] = {}
        while len(found) < self.COUNT:
            run = publisher.run("1", name="answer")
            found[self.shard(run.id)] = run
        return [found[number] for number in range(self.COUNT)]

    def test_runs_of_all_are_shown_stopped_and_lost(
        self, servers: list[RedisServer], tmp_path: Path
    ) -> None:
        url = " ".join(server.url for server in servers)
        with (
            running_daemon(tmp_path, url) as daemon,
            Publisher(url) as publisher,
            Publisher(url) as other,
        ):
            token = subscribe(publisher, "room:1")
            with daemon.stream(token).opened() as early:
                runs = self.of_each(publisher)
                with contextlib.ExitStack() as stack:
                    threads = [stack.enter_context(working(run)) for run in runs]
                    with daemon.stream(token).opened() as late:
                        for stream in (early, late):
                            messages = shown(stream, *(run.id for run in runs))
                            for run in runs:
                                own = [each for each in messages if each.data["run"] == run.id]
                                assert pieces(own) == [*range(PIECES)]
                                assert own[-1].event == "end"
                    for thread in threads:
                        thread.join()
                for run in self.of_each(publisher):
                    with run:
                        assert other.runs.stop(run.id)
                        assert [each.event for each in shown(early, run.id)] == ["stopped"]
                        eventually(partial(getattr, run, "stopped"))
                lost: dict[int, str] = {}
                while len(lost) < self.COUNT:
                    with dying(url, "1") as (name, process):
                        process.kill()
                        process.wait()
                    if self.shard(name) in lost:
                        continue
                    lost[self.shard(name)] = name
                for name in lost.values():
                    with servers[self.shard(name)].client() as client:
                        lease_is_over(client, name)
                messages = until_lost(early, set(lost.values()))
                assert sorted(each.data["run"] for each in messages) == sorted(lost.values())
            assert "Traceback" not in daemon.log


def until_lost(stream: Stream, runs: set[str]) -> list[Told]:
    """Return what says that those runs are lost."""
    found: list[Told] = []
    while {each.data["run"] for each in found} < runs:
        event = stream.next()
        if event.event == "lost" and (data := json.loads(event.data))["run"] in runs:
            found.append(Told(event.event, data))
    return found
