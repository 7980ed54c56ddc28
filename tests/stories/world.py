"""Real Redis and real daemons that are stopped, killed and cut off; pages of three messages."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.stories.model import KEPT
from tests.support import RedisServer, eventually, running_redis
from tests.support.constants import with_constants
from tests.support.daemon import Daemon, running_daemon
from tests.support.proxy import Proxy, running_proxy, unchanged
from tests.support.workers import EAR_SERVES

#: What is small in these daemons, so that a story of some hundred messages has many pages.
SETTINGS = {
    "sinapse.broker.history": {"PAGE_MESSAGES": 3, "FULL_PAGES": 4, "CHANNELS_PER_READ": 4},
    "sinapse.broker.recovery": {"FIRST_SLICE": 2, "RECONCILE_SLICE": 5},
}

#: Modes in which Redis comes back with older data, or with none.
LOSSY = ("loss", "databases")

LASTING = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass
class World:
    """What a mode of stories has, and keeps from story to story."""

    mode: str
    servers: list[RedisServer]
    nodes: list[Daemon]
    publisher: Publisher
    few: Publisher
    """A publisher of which few messages are retained."""
    links: list[Proxy]
    """What the connections of nodes to each Redis go through."""
    other: Publisher | None = None
    """That of another application, in another database."""
    stories: int = 0
    stopped: set[int] = field(default_factory=set)

    @property
    def has_workers(self) -> bool:
        return self.mode == "workers"

    def cut(self) -> None:
        """Cut every connection to Redis."""
        for server in self.servers:
            with contextlib.closing(server.client()) as client:
                for kind in ("pubsub", "normal"):
                    client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        self.forget_connections()

    def cut_midway(self, size: Callable[[], int]) -> None:
        """Cut every connection of nodes to Redis after `size()` more bytes."""
        for proxy in self.links:
            proxy.cut_midway(size)

    def finish_cutting(self) -> None:
        """Cut those that have not come so far."""
        for proxy in self.links:
            proxy.down = unchanged
            proxy.cut()

    def forget_connections(self) -> None:
        for publisher in (self.publisher, self.few, self.other):
            if publisher is not None:
                publisher.close()

    def stop(self, number: int) -> None:
        if number not in self.stopped:
            self.stopped.add(number)
            os.kill(self.nodes[number].pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for number in self.stopped:
            os.kill(self.nodes[number].pid, signal.SIGCONT)
        self.stopped.clear()

    def kill_node(self, number: int) -> None:
        node = self.nodes[number]
        assert node.process is not None
        self.stopped.discard(number)
        node.process.kill()
        node.process.wait()
        assert "Traceback" not in node.log, node.log
        node.launch()

    def kill_ear(self) -> None:
        """Kill the process that hears Redis for the workers, if there is one now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(EAR_SERVES.findall(self.nodes[0].log)[-1]), signal.SIGKILL)

    def restart(self, number: int, snapshot: Path | None = None) -> None:
        """Kill a Redis and start it again, from what it had written or from an older copy."""
        server = self.servers[number]
        server.kill()
        if snapshot is not None:
            shutil.copy(snapshot, server.folder / "dump.rdb")
        server.start()
        self.forget_connections()

    def wait_for_other(self) -> None:
        """Return when the node of the other application has come back, whoever else has."""
        with contextlib.closing(self.servers[0].client()) as client:
            eventually(lambda: client.pubsub_numsub(PLAIN.nodes)[0][1] > 0)

    def unheard(self) -> dict[str, tuple[int, int]]:
        """Return channels that nodes hold without being subscribed, or the other way round.

        Of each how many nodes hold it, and how many are subscribed to it.
        """
        if self.has_workers:  # A request is answered by one of several processes.
            return {}
        held: Counter[str] = Counter()
        for number, node in enumerate(self.nodes):
            if not node.is_ready():  # It was killed, and is starting.
                return {f"node {number}": (0, 0)}
            found = json.loads(node.admin("/channels?top=1000").text)  # type: ignore[attr-defined]
            held.update(each["channel"] for each in found["channels"])
        subscribed: Counter[str] = Counter()
        for server in self.servers:
            with contextlib.closing(server.client()) as client:
                answer: Any = client.pubsub_numsub(*held) if held else ()
                for name, count in answer:
                    subscribed[name.decode()] += count
        return {
            name: (count, subscribed[name])
            for name, count in held.items()
            if count != subscribed[name]
        }

    def save(self, number: int, to: Path) -> None:
        server = self.servers[number]
        with contextlib.closing(server.client()) as client:
            client.save()
        shutil.copy(server.folder / "dump.rdb", to)


@contextlib.contextmanager
def world(folder: Path, mode: str) -> Iterator[World]:
    """Build what a mode needs: nodes, loss, databases, workers, or two or three Redis."""
    environment = with_constants(folder, SETTINGS)
    count = {"two": 2, "three": 3}.get(mode, 1)
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(count):
            place = folder / f"redis-{number}"
            place.mkdir()
            lasting = () if mode in LOSSY else LASTING
            servers.append(stack.enter_context(running_redis(place, *lasting)))
        links = [stack.enter_context(running_proxy(server.port)) for server in servers]
        url = " ".join(server.url for server in servers)
        through = " ".join(link.url for link in links)
        options = ("--workers", "2") if mode == "workers" else ()
        nodes = []
        for number in range(1 if mode == "workers" else 2):
            place = folder / f"node-{number}"
            place.mkdir()
            daemon = running_daemon(place, through, *options, environment=environment)
            nodes.append(stack.enter_context(daemon))
        other = None
        if mode == "databases":
            place = folder / "other"
            place.mkdir()
            elsewhere = url.replace("/0", "/1")
            stack.enter_context(running_daemon(place, elsewhere, environment=environment))
            other = stack.enter_context(Publisher(elsewhere))
        made = World(
            mode,
            servers,
            nodes,
            stack.enter_context(Publisher(url)),
            stack.enter_context(Publisher(url, retain_messages=KEPT)),
            links,
            other,
        )
        yield made
        made.go_on()
        for node in nodes:
            assert "Traceback" not in node.log, node.log
