"""A load of docs/scaling.md on a real Redis and many nodes: for bench/simulate.py."""

import argparse
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import redis
from nodeprocesses import NodeFigures, NodeProcesses
from population import Population, Ranges
from redis_costs import processor_seconds
from scaling import Traffic, Workload

from sinapse.publisher import Publisher
from tests.support import RedisServer

#: Users whose lists and tokens are written in one round trip.
CHUNK = 1000

#: Times the seconds asked for that publishing may take. Who cannot keep up is not given time for
#: ever: the figures show it.
LATE = 2


class Usage(NamedTuple):
    """What something took: seconds, those of Redis on a processor, and what the nodes did."""

    seconds: float
    redis: float
    nodes: NodeFigures


class Simulation:
    """It prints what happens."""

    def __init__(
        self, options: argparse.Namespace, workload: Workload, server: RedisServer
    ) -> None:
        self._options = options
        self._server = server
        self.traffic = Traffic(workload, options.streams)
        self.people = Population(self.traffic, random.Random(1))  # noqa: S311
        #: What the open streams took without messages, if that was asked for, and with them, if
        #: Redis was not killed; and the bytes that Redis used more than an empty one.
        self.idle: Usage | None = None
        self.busy: Usage | None = None
        self.bytes = 0
        #: When Redis was killed, and when it answered again.
        self._broken: tuple[float, float] | None = None

    def run(self) -> list[str]:
        """Run it; return what was wrong."""
        options = self._options
        with contextlib.closing(self._server.client()) as client:
            empty = memory(client)
            users = self._write()
            with NodeProcesses(self._server.url, options.nodes, options.processes) as processes:
                processes.ask("ready", 1)
                began = time.monotonic()
                processes.open(users)
                print(f"All streams were open after {time.monotonic() - began:.1f} s.", flush=True)
                if options.kill is not None:
                    self._work(processes)
                else:
                    if options.idle:
                        self.idle = self._usage(lambda: time.sleep(options.idle), processes, client)
                    self.busy = self._usage(lambda: self._work(processes), processes, client)
                    self.bytes = memory(client) - empty
                received, faults = processes.received()
        return [*faults, *self._differences(received)]

    def _usage(
        self, work: Callable[[], object], processes: NodeProcesses, client: redis.Redis
    ) -> Usage:
        began, used, nodes = time.monotonic(), processor_seconds(client), processes.figures()
        work()
        nodes = processes.figures().since(nodes)
        used = processor_seconds(client) - used
        seconds = time.monotonic() - began
        return Usage(seconds, used, nodes)

    # What happens

    def _write(self) -> list[tuple[int, str]]:
        """Write all lists and tokens, before there are nodes that hear of each; return these."""
        users: list[tuple[int, str]] = []
        lists = self.people.lists
        with Publisher(self._server.url) as publisher:
            for first in range(0, len(lists), CHUNK):
                pending = []
                with publisher.pipeline() as pipeline:
                    for user, channels in enumerate(lists[first : first + CHUNK], first):
                        for channel in channels:
                            pipeline.channels.add(user, channel)
                        pending.append((user, pipeline.tokens.generate(user)))
                users += [(user, token.result) for user, token in pending]
        return users

    def _work(self, processes: NodeProcesses) -> None:
        """Let streams come back and messages be published, until everything has arrived."""
        coming = [str(user) for user in self.people.returning]
        processes.ask("begin", [len(processes) / self.traffic.returns, coming])
        self._publish()
        if self._broken is not None:
            killed, back = self._broken
            answers = processes.ask("ready", 2)
            ready = [each - back for answer in answers for each in answer["at"]]
            used = sum(answer["used"] for answer in answers)
            print(
                f"Redis was killed, and answered after {back - killed:.1f} s. Nodes were back, and"
                f" had caught up: the first {min(ready):.2f} s after that, half of them"
                f" {median(ready):.2f} s, all {max(ready):.2f} s. That took {used:.1f} s of the"
                " cores that they share."
            )
        processes.ask("settle")

    def _publish(self) -> None:
        """Publish, and change lists, for as long as is asked for; kill Redis if that is."""
        seconds, away = self._options.seconds, self._options.kill
        with contextlib.ExitStack() as stack:
            publisher = stack.enter_context(Publisher(self._server.url))
            began = time.monotonic()
            latest = began + seconds * LATE + (away or 0)
            for due in self.people.due():
                if away is not None and self._broken is None and due.at >= seconds / 2:
                    self._break(away)
                    publisher = stack.enter_context(Publisher(self._server.url))
                if due.at > seconds or time.monotonic() > latest:
                    break
                time.sleep(max(0, began + due.at - time.monotonic()))
                if due.channel is None:
                    self._change(publisher)
                else:
                    publisher.publish(due.channel, self.people.message(due.channel))

    def _change(self, publisher: Publisher) -> None:
        """Change a list: only add, if Redis is killed.

        What was published before a removal, and not received before a break, is not for the user.
        """
        user, channel, is_added = self.people.change(may_remove=self._options.kill is None)
        if is_added:
            publisher.channels.add(user, channel)
        else:
            publisher.channels.remove(user, channel)

    def _break(self, seconds: float) -> None:
        killed = time.monotonic()
        self._server.kill()
        time.sleep(seconds)
        self._server.start()
        self._broken = killed, time.monotonic()

    def _differences(self, received: Mapping[str, Ranges]) -> list[str]:
        """Return for whom something is missing, doubled, out of order or too much."""
        faults = []
        for user in range(len(self.people.lists)):
            got, expected = received.get(str(user)), self.people.expected(user)
            if got != expected:
                faults.append(f"user {user} received {got} and should have {expected}")
        return faults


def memory(client: redis.Redis) -> int:
    """Return the bytes that Redis uses."""
    return int(client.info("memory")["used_memory"])
