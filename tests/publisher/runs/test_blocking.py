"""Runs of threads: one thread carries them all, for as long as there are any; and forks."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from sinapse.errors import BrokerUnavailable, RunOver
from sinapse.publisher import Publisher
from sinapse.publisher.runs import RunState
from sinapse.testing import capture
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, eventually
from tests.support.daemon import ROOT
from tests.support.publishing import exit_status, forks, in_child
from tests.support.running import pieces, told


def carriers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "sinapse runs"]


def test_one_thread_carries_all_runs_and_ends_with_the_last(publisher: Publisher) -> None:
    with publisher.run("1") as one:
        with publisher.run("2") as other:
            one.send(1)
            other.send(2)
            assert len(carriers()) == 1
        assert len(carriers()) == 1
    eventually(lambda: not carriers())
    with publisher.run("1"):
        assert len(carriers()) == 1


def test_threads_share_a_run(publisher: Publisher, redis_client: redis.Redis) -> None:
    with publisher.run("42") as run, ThreadPoolExecutor(4) as pool:
        list(pool.map(run.send, range(400)))
    assert sorted(pieces(told(redis_client, run.channel))) == [*range(400)]


def test_many_runs_at_once_are_told_each_in_its_order(
    publisher: Publisher, redis_client: redis.Redis
) -> None:
    def work(number: int) -> str:
        with publisher.run(number, name="work") as run:
            for piece in range(50):
                run.send(piece)
        return run.channel

    with ThreadPoolExecutor(20) as pool:
        channels = list(pool.map(work, range(60)))
    for channel in channels:
        messages = told(redis_client, channel)
        assert pieces(messages) == [*range(50)]
        assert messages[-1].event == "end"


@forks
def test_a_forked_child_has_runs_of_its_own_and_none_of_its_parent(
    publisher: Publisher, redis_client: redis.Redis
) -> None:
    def in_the_child() -> None:
        with pytest.raises(RunOver, match="different process"):
            run.send("child")
        run.__exit__(None, None, None)
        with publisher.run("43", name="child") as own:
            own.send("piece")
        assert pieces(told(redis_client, own.channel)) == ["piece"]

    with publisher.run("42") as run:
        run.send("before")
        assert exit_status(in_child(in_the_child)) == 0
        run.send("after")
    messages = told(redis_client, run.channel)
    assert pieces(messages) == ["before", "after"]
    assert [each.event for each in messages][-1] == "end"


def test_ctrl_c_ends_the_run_as_failed(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    program = """
import sys, time
from sinapse.publisher import Publisher
with Publisher(sys.argv[1]).run("42") as run:
    print(run.channel, flush=True)
    while True:
        run.send("x" * 1000)
"""
    process = subprocess.Popen(
        [PYTHON, "-c", program, redis_server.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    channel = process.stdout.readline().strip()
    eventually(lambda: len(told(redis_client, channel)) > 10)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=EVENT_TIMEOUT)
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
    assert told(redis_client, channel)[-1].event == "error"


def test_a_thread_that_cannot_be_started_is_an_error_of_the_beginning(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"), publisher.run("42"):
            pytest.fail("it has begun")
    with publisher.run("42") as run:
        run.send("piece")
    assert publisher.runs.get(run.id).state is RunState.ENDED  # type: ignore[union-attr]


def test_what_goes_wrong_with_the_carrier_is_told_to_its_runs(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(BrokerUnavailable, match="MemoryError"), publisher.run("42") as run:  # noqa: PT012, SIM117
        with monkeypatch.context() as patch:
            patch.setattr(publisher._connections, "run_each", fail)
            while True:
                run.send("piece")
                time.sleep(0.001)


def test_the_api_of_a_daemon_has_no_runs() -> None:
    with Publisher("http+sinapse://key@127.0.0.1:1") as publisher:
        with pytest.raises(ValueError, match="runs need Redis"), publisher.run("42"):
            pytest.fail("it has begun")
        with pytest.raises(ValueError, match="runs need Redis"):
            publisher.runs.get("unknown")


def test_tests_of_applications_capture_what_is_told(publisher: Publisher) -> None:
    with capture() as messages:
        with publisher.run("42", name="answer") as run:
            assert publisher.channels.has("42", run.channel)
            run.send("a")
            run.send("b")
            status = publisher.runs.get(run.id)
            assert status is not None
            assert (status.name, status.subject, status.state) == ("answer", "42", "running")
        assert publisher.runs.get(run.id).state == "ended"  # type: ignore[union-attr]
        assert not publisher.runs.stop(run.id)
        with publisher.run("42") as other:
            assert publisher.runs.stop(other.id)
            while True:
                other.send("piece")
    assert {each.channel for each in messages} == {run.channel, other.channel}
    own = [each for each in messages if each.channel == run.channel]
    assert own[-1].event == "end"
    assert [piece for each in own[:-1] for piece in each.message["pieces"]] == ["a", "b"]
    assert [each.event for each in messages if each.channel == other.channel][-1] == "stopped"
