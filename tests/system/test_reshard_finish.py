"""``sinapse reshard --finish`` goes on when every node has said that it knows, and not before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from click.testing import CliRunner

from sinapse.cli import main
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from sinapse.publisher.resharding import finishing
from sinapse.publisher.resharding.knowing import Nodes
from sinapse.publisher.resharding.parties import Parties
from tests.support import PYTHON, RedisServer, eventually, running_named
from tests.support.daemon import Daemon, running_daemon
from tests.support.monitoring import Monitor
from tests.support.workers import running_workers

CHANNELS = [f"room:{number}" for number in range(24)]


class Moved(NamedTuple):
    """What has moved from `a` to `b`, but that it is not removed from `a` yet."""

    servers: dict[str, RedisServer]

    def url(self, query: str = "") -> str:
        return f"a={self.servers['a'].url} b={self.servers['b'].url}?tokens=no{query}"

    @property
    def channels(self) -> set[str]:
        """Those that are at `b` now."""
        shards = shards_of(parse_all([self.url()]))
        return {name for name in CHANNELS if shards.names[shards.of(name.encode())] == "b"}

    def grant(self) -> tuple[str, str]:
        """Copy rights to `b`; return a token, and an id of before `b` has its share."""
        with Publisher(self.url("&state=joining")) as publisher:
            for name in CHANNELS:
                publisher.channels.add("1", name)
            token = publisher.tokens.generate("1")
        assert "all is there" in said(self.url("&state=joining"))
        with Publisher(self.url()) as publisher:
            return token, publisher.position()

    def left(self) -> set[str]:
        """Return the rights that are at `a` though the channel is at `b`."""
        with contextlib.closing(self.servers["a"].client()) as raw:
            client: Any = raw
            return {each.decode() for each in client.smembers("sinapse:channels:1")} & self.channels


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Moved]:
    with running_named(tmp_path, "ab") as servers:
        yield Moved(servers)


@contextlib.contextmanager
def daemons(folder: Path, url: str, count: int) -> Iterator[list[Daemon]]:
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(count):
            (folder / f"node-{number}").mkdir()
            found.append(stack.enter_context(running_daemon(folder / f"node-{number}", url)))
        yield found


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def said(url: str, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["reshard", "--redis", url, *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


def nodes_of(url: str, number: int = 1) -> Nodes:
    them = Parties(parse_all([url]))
    try:
        return Nodes(them.urls[number], them.parts[number])
    finally:
        them.close()


def begin(url: str) -> None:
    """Begin to finish, until all nodes but one know it."""
    them = Parties(parse_all([url]))
    try:
        begun = finishing.Finishing(them)
        since = begun.begin_share(begun.check())["b"]
    finally:
        them.close()
    eventually(lambda: nodes_of(url).behind(since) == 1, "all but one know it")


def since_of(client: redis.Redis) -> str:
    found: Any = client.hget("sinapse:retention", "since")
    return (found or b"").decode()


def is_told(daemon: Daemon, token: str, last: str, moved: Moved) -> bool:
    """Whether a client of before is told that it may have missed something of what has moved."""
    with Publisher(moved.url()) as publisher:  # Something comes in any case.
        publisher.publish(next(name for name in CHANNELS if name not in moved.channels), "missed")
    with daemon.stream(token, after=last).opened() as stream:
        first = stream.next()
    if first.event != "reset":
        assert first.data == "missed"
        return False
    assert set(json.loads(first.data)["channels"]) == moved.channels
    return True


def test_a_daemon_that_stands_still_is_waited_for(moved: Moved, tmp_path: Path) -> None:
    url = moved.url()
    with daemons(tmp_path, url, 2) as [awake, asleep]:
        token, last = moved.grant()
        assert not is_told(awake, token, last, moved)
        command = [PYTHON, "-m", "sinapse", "reshard", "--redis", url, "--finish"]
        with contextlib.closing(moved.servers["b"].client()) as client:
            with (
                stopped(asleep.pid),
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
            ):
                since = eventually(lambda: since_of(client))
                nodes = nodes_of(url)
                assert (nodes.count, nodes.mute) == (2, 0)
                eventually(lambda: nodes.behind(since) == 1, "one has said it")
                assert is_told(awake, token, last, moved)
                for _ in range(2):  # It lives, and waits: its lock is renewed twice.
                    eventually(lambda: left_of(moved) < 8500)
                    eventually(lambda: left_of(moved) > 9000)
                assert process.poll() is None
                assert moved.left() == moved.channels
                os.kill(asleep.pid, signal.SIGCONT)
                output, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert "nothing moves any more" in output
            assert moved.left() == set()
            # It acts by what it has said.
            assert is_told(asleep, token, last, moved)


def left_of(moved: Moved) -> int:
    """Return for how many milliseconds the lock holds."""
    with contextlib.closing(moved.servers["a"].client()) as raw:
        client: Any = raw
        return int(client.pttl("sinapse:move:lock"))


def test_who_does_not_answer_is_counted_and_nothing_is_removed(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = moved.url()
    with daemons(tmp_path, url, 2) as [_, asleep]:
        moved.grant()
        with monkeypatch.context() as patch, stopped(asleep.pid):
            begin(url)
            patch.setattr(finishing, "SAID", 1.0)
            text = said(url, "--finish", code=1)
            assert (
                "Error: 1 of 2 nodes that hear b did not say within 1 seconds that they know that"
                " it has its share: nothing was removed; begin again when they answer, or are gone"
            ) in text
            assert moved.left() == moved.channels
        assert "nothing moves any more" in said(url, "--finish")
        assert moved.left() == set()


def test_each_worker_says_it_though_they_share_a_connection(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = moved.url()
    with running_workers(tmp_path, url) as workers:
        moved.grant()
        with contextlib.closing(moved.servers["b"].client()) as raw:
            client: Any = raw
            assert client.pubsub_numsub("sinapse:nodes") == [(b"sinapse:nodes", 1)]
        asleep = workers.all_serve()[1]
        with monkeypatch.context() as patch, stopped(asleep):
            begin(url)
            patch.setattr(finishing, "SAID", 1.0)
            assert "1 of 2 nodes that hear b did not say" in said(url, "--finish", code=1)
            assert moved.left() == moved.channels
        assert "nothing moves any more" in said(url, "--finish")


def test_who_cannot_say_it_is_waited_for_some_time(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = moved.url()
    monkeypatch.setattr(finishing, "LEARNED", 0.1)
    with daemons(tmp_path, url, 1), contextlib.ExitStack() as stack:
        moved.grant()
        for server in moved.servers.values():
            former = stack.enter_context(contextlib.closing(server.client().pubsub()))
            former.subscribe("sinapse:nodes", "sinapse:nodes:0123456789abcdef")
            assert [former.get_message(timeout=10) for _ in range(2)]
        text = said(url, "--finish")
        assert "nodes of an earlier version: 1; waiting 0 seconds for them" in text
        assert "nothing moves any more" in text


def test_a_daemon_that_still_has_the_state_is_restarted_first(moved: Moved, tmp_path: Path) -> None:
    url = moved.url()
    (tmp_path / "late").mkdir()
    with daemons(tmp_path, url, 1):
        with running_daemon(tmp_path / "late", moved.url("&state=joining")):
            moved.grant()
            for arguments in (["--dry-run"], []):
                assert (
                    "Error: 1 of 2 nodes that hear b have a list in which it has a state: restart"
                    " all daemons with this list first"
                ) in said(url, "--finish", *arguments, code=1)
            assert moved.left() == moved.channels
        eventually(lambda: nodes_of(url).count == 1)
        assert "nothing moves any more" in said(url, "--finish")


def test_what_a_daemon_says_it_acts_by(moved: Moved, tmp_path: Path) -> None:
    url = moved.url()
    with (
        daemons(tmp_path, url, 1) as [daemon],
        contextlib.closing(moved.servers["b"].client()) as client,
    ):
        token, last = moved.grant()
        for _ in range(2):
            since = client.hincrby("sinapse:retention", "counter")
            client.hset("sinapse:retention", "since", since)
            nodes = nodes_of(url)
            eventually(lambda nodes=nodes, since=since: nodes.behind(str(since)) == 0)  # type: ignore[misc]
            assert is_told(daemon, token, last, moved)
            with Publisher(url) as publisher:
                last = publisher.position()
            assert not is_told(daemon, token, last, moved)


def test_a_daemon_that_is_not_found_yet_reads_what_was_said_before(
    moved: Moved, tmp_path: Path
) -> None:
    """Whoever looks for nodes after it has said something finds this one, or it has read that."""
    server = moved.servers["b"]
    with Monitor(server) as monitor, daemons(tmp_path, moved.url(), 1):
        pass
    of_nodes = [
        at
        for at, command in enumerate(monitor.commands)
        if command[0] == "subscribe" and "sinapse:nodes" in command
    ]
    reads = [
        at
        for at, command in enumerate(monitor.commands)
        if command[0] == "hmget" and command[1:] == ["sinapse:retention", "epoch", "since"]
    ]
    assert of_nodes
    assert reads[0] > of_nodes[0]
