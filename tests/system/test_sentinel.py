"""Redis Sentinel: real failovers, seen by the daemon, the publisher and an open stream."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

from sinapse.errors import BrokerUnavailable
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.flavours import FLAVOURS
from tests.support.sentinel import MASTER, Sentinel
from tests.support.workers import running_workers


class Cluster:
    """One master, two replicas, three Sentinels, all of which know each other."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.nodes: list[RedisServer] = []
        for number in range(3):
            of = ["--replicaof", f"127.0.0.1 {self.nodes[0].port}"] if self.nodes else []
            home = folder / str(number)
            home.mkdir()
            node = RedisServer(home, "--repl-diskless-sync-delay", "0", *of)
            stack.callback(node.stop)
            node.start()
            self.nodes.append(node)
        self.sentinels = []
        for _ in range(3):
            sentinel = Sentinel(folder, self.nodes[0].port, quorum=2)
            stack.callback(end, sentinel.process)
            self.sentinels.append(sentinel)
        eventually(self._is_complete, "every Sentinel knows every node and every Sentinel")
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{MASTER}/0"

    def _is_complete(self) -> bool:
        try:
            return all(
                len(sentinel.ask("SENTINEL", kind, MASTER)) == 2  # type: ignore[arg-type]
                for sentinel in self.sentinels
                for kind in ("REPLICAS", "SENTINELS")
            )
        except redis.RedisError:
            return False

    def role(self, node: RedisServer) -> str | None:
        with contextlib.closing(node.client()) as client:
            try:
                return str(client.role()[0], "ascii")
            except redis.ConnectionError:  # A Sentinel drops all connections of one it promotes.
                return None

    def listeners(self, node: RedisServer) -> int:
        """Return how many daemons are connected to `node`."""
        with contextlib.closing(node.client()) as client:
            return client.pubsub_numpat()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path, stack)


class Publishing:
    """Publishes one message after the other, each until it is accepted, in a thread."""

    def __init__(self, url: str) -> None:
        self.publisher = Publisher(url, connect_timeout=1, timeout=1)
        self.accepted: list[int] = []
        self.refusals: list[BrokerUnavailable] = []
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._ends.is_set():
            self._may_go_on.wait()
            try:
                self.publisher.publish("room:1", str(number), message_id=f"message {number}")
            except BrokerUnavailable as error:
                self.refusals.append(error)
            else:
                self.accepted.append(number)
                number += 1
            self._ends.wait(0.005)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self._may_go_on.clear()
        yield
        self._may_go_on.set()

    def goes_on(self) -> None:
        """Return when a hundred more have been accepted."""
        goal = len(self.accepted) + 100
        eventually(lambda: len(self.accepted) >= goal, "messages are accepted")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._may_go_on.set()
        self._thread.join(EVENT_TIMEOUT)
        self.publisher.close()


def received(stream: Stream, last: str) -> list[str]:
    """Return the data of all messages up to `last`, and the names of other events."""
    seen: list[str] = []
    while not seen or seen[-1] != last:
        event = stream.next()
        seen.append(event.event or event.data)
    return seen


def states(daemon: Daemon) -> list[str]:
    """Return what the log says of Redis, line by line."""
    return [
        line.partition("/0: ")[2] for line in daemon.log.splitlines() if "redis+sentinel://" in line
    ]


def opened(daemon: Daemon, publisher: Publisher) -> Stream:
    publisher.channels.add("1", "room:1")
    return daemon.stream(publisher.tokens.generate("1")).opened()


def test_a_planned_failover_loses_nothing(tmp_path: Path, cluster: Cluster) -> None:
    former, *replicas = cluster.nodes
    with (
        running_daemon(tmp_path, cluster.url) as daemon,
        Publishing(cluster.url) as publishing,
        opened(daemon, publishing.publisher) as stream,
    ):
        publishing.goes_on()
        # The Sentinel that both have asked is lost, too.
        end(cluster.sentinels[0].process)
        publishing.goes_on()
        with publishing.paused(), contextlib.closing(former.client()) as client:
            # What it accepts after the promotion of another would be forgotten: it shall not.
            client.config_set("min-replicas-to-write", 2)
            cluster.sentinels[1].ask("SENTINEL", "FAILOVER", MASTER)
            eventually(lambda: any(cluster.role(each) == "master" for each in replicas))
        publishing.goes_on()
        eventually(lambda: cluster.listeners(former) == 0, "the former master is left")
        # Nobody has told it yet that it is a master no more.
        assert cluster.role(former) == "master"
        publishing.goes_on()
        last = publishing.accepted[-1]
        seen = received(stream, str(last))
        assert seen[-300:] == [str(number) for number in range(last - 299, last + 1)]
        assert seen == [str(number) for number in range(int(seen[0]), last + 1)]
        master = next(each for each in replicas if cluster.role(each) == "master")
        assert states(daemon) == [
            f"connected to 127.0.0.1:{former.port}",
            f"unavailable: the master is now 127.0.0.1:{master.port}",
            f"connected to 127.0.0.1:{master.port}",
        ]
        # Refused, which is better than forgotten.
        assert {error.delivered for error in publishing.refusals} == {False}
        assert "Traceback" not in daemon.log


def test_workers_follow_the_master_with_one_subscriber(tmp_path: Path, cluster: Cluster) -> None:
    former, *replicas = cluster.nodes
    with (
        running_workers(tmp_path, cluster.url) as workers,
        Publishing(cluster.url) as publishing,
    ):
        publishing.publisher.channels.add("1", "room:1")
        token = publishing.publisher.tokens.generate("1")
        with workers.one_of_each(token) as streams:
            publishing.goes_on()
            with publishing.paused(), contextlib.closing(former.client()) as client:
                client.config_set("min-replicas-to-write", 2)
                cluster.sentinels[1].ask("SENTINEL", "FAILOVER", MASTER)
                eventually(lambda: any(cluster.role(each) == "master" for each in replicas))
            eventually(lambda: cluster.listeners(former) == 0, "the former master is left")
            workers.all_serve()
            publishing.goes_on()
            last = publishing.accepted[-1]
            for stream in streams.values():
                seen = received(stream, str(last))
                assert seen == [str(number) for number in range(int(seen[0]), last + 1)]
                assert len(seen) > 100
            master = next(each for each in replicas if cluster.role(each) == "master")
            with contextlib.closing(master.client()) as client:
                assert len(client.client_list(_type="pubsub")) == 1 + len(cluster.sentinels)


def test_a_killed_master_is_replaced_under_an_open_stream(tmp_path: Path, cluster: Cluster) -> None:
    former, *replicas = cluster.nodes
    with (
        running_daemon(tmp_path, cluster.url) as daemon,
        Publishing(cluster.url) as publishing,
        opened(daemon, publishing.publisher) as stream,
    ):
        publishing.goes_on()
        former.kill()
        eventually(lambda: any(cluster.role(each) == "master" for each in replicas))
        eventually(lambda: states(daemon)[-1].startswith("connected") and len(states(daemon)) > 1)
        first = len(publishing.accepted) + 1
        publishing.goes_on()
        last = publishing.accepted[-1]
        seen = received(stream, str(last))
        wanted = [str(number) for number in range(first, last + 1)]
        assert seen[-len(wanted) :] == wanted
        numbers = [int(text) for text in seen if text != "reset"]
        assert numbers == sorted(set(numbers))
        if "reset" not in seen:  # It may have died with messages that no replica had yet.
            assert numbers == list(range(numbers[0], last + 1))
        changes = states(daemon)
        assert changes[0] == f"connected to 127.0.0.1:{former.port}"
        assert changes[-1] in [f"connected to 127.0.0.1:{each.port}" for each in replicas]
        assert all(before != after for before, after in itertools.pairwise(changes))
        assert len(changes) < 10
        assert "Traceback" not in daemon.log


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[RedisServer, Sentinel, str]]:
    """One node, one Sentinel, and their URL."""
    with contextlib.ExitStack() as stack:
        home = tmp_path / "node"
        home.mkdir()
        node = RedisServer(home)
        stack.callback(node.stop)
        node.start()
        sentinel = Sentinel(tmp_path, node.port, quorum=1)
        stack.callback(end, sentinel.process)
        eventually(sentinel.answers)
        yield node, sentinel, f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0"


def test_who_knows_the_master_goes_on_without_sentinels(
    tmp_path: Path, alone: tuple[RedisServer, Sentinel, str]
) -> None:
    node, sentinel, url = alone
    with (
        running_daemon(tmp_path, url) as daemon,
        contextlib.ExitStack() as stack,
    ):
        publishers = [stack.enter_context(flavour(url)) for flavour in FLAVOURS.values()]
        streams = [stack.enter_context(opened(daemon, publisher)) for publisher in publishers[:1]]
        for publisher in publishers:
            assert publisher.channels.has("1", "room:1")
        end(sentinel.process)
        for publisher in publishers:
            publisher.publish("room:1", "hello")
            publisher.close()
            publisher.publish("room:1", "again")
            heard = [stream.message().data for stream in streams * 2]
            assert heard == ["hello", "again"]
        assert states(daemon) == [f"connected to 127.0.0.1:{node.port}"]
        for flavour in FLAVOURS.values():
            with flavour(url) as another, pytest.raises(BrokerUnavailable) as raised:
                another.publish("room:1", "hello")
            assert raised.value.delivered is False


def test_nobody_takes_for_a_master_what_is_none(
    tmp_path: Path, alone: tuple[RedisServer, Sentinel, str]
) -> None:
    node, _, url = alone
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(node.client()))
        publishers = [stack.enter_context(flavour(url)) for flavour in FLAVOURS.values()]
        for publisher in publishers:
            publisher.publish("room:1", "hello", retain=0)
        client.replicaof("127.0.0.1", free_port())
        for publisher in publishers:
            for reason in ("read only replica", "is no master", "is no master"):
                # The first one goes over a connection that was made before.
                with pytest.raises(BrokerUnavailable, match=reason) as raised:
                    publisher.publish("room:1", "hello")
                assert raised.value.delivered is False
            with pytest.raises(BrokerUnavailable, match="is no master"):
                publisher.publish("room:1", "hello", retain=0)
        with running_daemon(tmp_path, url, ready=False) as daemon:
            eventually(lambda: "it is no master" in daemon.log)
            client.replicaof("NO", "ONE")
            eventually(lambda: daemon.get("/ready").status == 200)
            assert len(states(daemon)) == 2
        for publisher in publishers:
            publisher.publish("room:1", "hello")


def test_a_sentinel_that_wants_a_password_gets_it_and_the_nodes_get_theirs(
    tmp_path: Path,
) -> None:
    home = tmp_path / "node"
    home.mkdir()
    with contextlib.ExitStack() as stack:
        node = RedisServer(home)
        stack.callback(node.stop)
        node.start()
        with contextlib.closing(node.client()) as client:
            client.execute_command("ACL SETUSER bob on >secret-bob ~* &* +@all")
            client.execute_command("ACL SETUSER default off")
        sentinel = Sentinel(
            tmp_path,
            node.port,
            1,
            f"sentinel auth-user {MASTER} bob\nsentinel auth-pass {MASTER} secret-bob\n"
            "requirepass secret-sentinel\n",
        )
        stack.callback(end, sentinel.process)
        place = f"127.0.0.1:{sentinel.port}/{MASTER}"
        url = f"redis+sentinel://bob:secret-bob@{place}?sentinel_password=secret-sentinel"
        daemon = stack.enter_context(running_daemon(tmp_path, url))
        for flavour in FLAVOURS.values():
            publisher = stack.enter_context(flavour(url))
            stream = stack.enter_context(opened(daemon, publisher))
            assert publisher.publish("room:1", "hello") == 1
            assert stream.message().data == "hello"
        assert "secret-" not in daemon.log
        for wrong, reason in [
            (url.replace("secret-sentinel", "wrong"), "WRONGPASS"),
            (url.replace("secret-bob", "wrong"), "WRONGPASS"),
            (f"redis+sentinel://bob:secret-bob@{place}", "NOAUTH"),
            (url.replace(MASTER, "another"), "knows no master of the name another"),
            (url.replace(str(sentinel.port), str(free_port())), "refused"),
        ]:
            with running_daemon(tmp_path, wrong, ready=False) as other:
                eventually(lambda: reason in other.log, reason)  # noqa: B023
                assert other.get("/ready").status == 503
                assert "secret-" not in other.log
                assert len(states(other)) == 1
            for flavour in FLAVOURS.values():
                with flavour(wrong) as publisher, pytest.raises(BrokerUnavailable) as raised:
                    publisher.publish("room:1", "hello")
                assert raised.value.delivered is False
                assert "secret-" not in str(raised.value)
