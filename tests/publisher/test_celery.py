"""Publishing from the tasks of a real prefork worker, whose broker is a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from celery import Celery

from sinapse.protocol.message import Message, unpack
from sinapse.publisher import default, defaults, use
from sinapse.publisher.celery import init_app
from tests.support import PYTHON, RedisServer, end, eventually, running_redis
from tests.support.daemon import ROOT
from tests.support.listening import Listener, listening

# The worker and its children load Celery.
pytestmark = pytest.mark.timeout(240)

CONCURRENCY = 2

#: Seconds for a worker to start, and to do what it is told.
BOUND = 100


class Site(NamedTuple):
    """A running worker: an application to send tasks with, where it publishes, what it logs."""

    app: Celery
    server: RedisServer
    listener: Listener
    log: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a worker with a broker of its own, and a Redis that only it publishes to."""
    folder = tmp_path_factory.mktemp("celery")
    (folder / "publish").mkdir()
    command = [PYTHON, "-m", "celery", "--app", "tests.support.celery_site", "worker"]
    command += ["--pool", "prefork", "--concurrency", str(CONCURRENCY)]
    command += ["--loglevel", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = folder / "log"
    with (
        running_redis(folder) as broker,
        running_redis(folder / "publish") as server,
        listening(server) as listener,
        log.open("wb") as output,
        Celery("client", broker=broker.url, set_as_current=False) as app,
    ):
        worker = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "BROKER_URL": broker.url,
                "REDIS_URL": server.url,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:

            def is_ready() -> bool:
                assert worker.poll() is None, log.read_text()
                return b" ready." in log.read_bytes()

            eventually(is_ready, "the worker is ready", BOUND)
            yield Site(app, server, listener, log)
        finally:
            end(worker)


def wait_for(site: Site, channel: str, count: int) -> list[tuple[str, Message]]:
    """Return the messages since the last call, once there are `count` on `channel`."""
    found: list[tuple[str, Message]] = []

    def enough() -> bool:
        found.extend((name, unpack(payload)) for name, payload in site.listener.heard())
        return len([name for name, _ in found if name == channel]) >= count

    eventually(enough, f"{count} messages on {channel}; {site.log.read_text()}", BOUND)
    return found


def test_each_process_has_one_pool_of_its_own(site: Site) -> None:
    pids: set[int] = set()
    parent: set[int] = set()
    sent = 0
    while len(pids) < CONCURRENCY:  # Which of them takes a task is not for us to say.
        for number in range(sent, sent + 10):
            site.app.send_task("tests.support.celery_site.say", [str(number)])
        messages = wait_for(site, "once", 10)
        told = [json.loads(message.data) for name, message in messages if name == "tasks"]
        assert {each["text"] for each in told} == set(map(str, range(sent, sent + 10)))
        pids |= {each["pid"] for each in told}
        parent |= {int(message.data) for name, message in messages if name == "parent"}
        sent += 10
    assert len(parent) == 1
    assert parent.isdisjoint(pids)
    with redis.Redis(port=site.server.port) as client:
        # Ours, the two of the listener, and one a process: it does one task after the other.
        assert len(client.client_list()) == 3 + len(pids | parent)


def test_a_task_that_runs_again_says_it_once(site: Site) -> None:
    site.app.send_task("tests.support.celery_site.say", ["again"])
    messages = wait_for(site, "tasks", 2)
    site.app.send_task("tests.support.celery_site.say", ["last"])
    messages += wait_for(site, "once", 2 - len([1 for name, _ in messages if name == "once"]))
    said = [message.data for name, message in messages if name == "once"]
    assert said == ["again", "last"]


def test_the_countdown_of_the_example_tells_each_step(site: Site) -> None:
    site.app.send_task("countdown.count", ["countdown:ada", 3, 0.0])
    messages = wait_for(site, "countdown:ada", 3)
    told = [message for name, message in messages if name == "countdown:ada"]
    assert [message.event for message in told] == ["progress"] * 3
    assert [json.loads(message.data) for message in told] == [
        {"done": step, "of": 3} for step in (1, 2, 3)
    ]


class TestSettings:
    @pytest.fixture(autouse=True)
    def _as_before(self) -> Iterator[None]:
        """Leave the process's default as it was."""
        former = use(None)
        yield
        defaults.configure(None)
        use(former)

    @pytest.mark.parametrize(
        ("given", "fault"),
        [
            ({"RETIAN": 1}, "sinapse['RETIAN'] is not known: did you mean sinapse['RETAIN']?"),
            ({"BATCH": 1}, "sinapse['BATCH'] must be True or False, not 1"),
            ({"TIMEOUT": "1"}, "sinapse['TIMEOUT'] must be a number of seconds, not '1'"),
            ("redis://a.example", "sinapse must be a dictionary, not str"),
        ],
    )
    def test_bad_ones_are_told_at_the_first_use(self, given: object, fault: str) -> None:
        app = Celery("test", set_as_current=False)
        init_app(app)
        app.conf.sinapse = given
        with pytest.raises(ValueError) as told:
            default()
        assert str(told.value) == fault

    def test_without_any_the_environment_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://a.example/3")
        init_app(Celery("test", set_as_current=False))
        assert str(default().url) == "redis://a.example:6379/3"
        assert default() is default()
