"""What it takes to serve many streams, computed from what the parts cost.

Usage: python bench/scaling.py [--delivery 10 --publish 50 ...]      (--help lists all)

The costs are those of docs/scaling.md; others can be given. What is computed is processor time and
memory, each process of a node counted as a core of its own that is filled to a part. Nothing here
measures anything: bench/run.py, bench/redis_costs.py and bench/ear.py do.
"""

import argparse
import math
from dataclasses import dataclass, fields

STREAMS = (1_000, 10_000, 100_000, 1_000_000)

#: How full a core may be, so that a burst, or the clients of a node that goes, find room.
FULL = 0.6

#: Streams of one process: what was measured, not what is possible.
MOST_STREAMS = 15_000

#: Processes of a node. If there are several, one more hears Redis for them.
WORKERS = 8

#: Redis that are too many.
MOST_REDIS = 1000

HEAD = (
    "streams",
    "messages/s",
    "deliveries/s",
    "processes, of a core each",
    "nodes, and their ears",
    "Redis, of a core each",
    "memory of the nodes",
    "memory of Redis",
    "to clients",
)
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9}

#: Seconds between two keep-alives.
KEEP_ALIVE = 15


@dataclass(frozen=True)
class Costs:
    """Microseconds of processor time, and bytes."""

    # Of a node.
    delivery: float = 10
    """A message to one of the streams that get it: scenario (d) of bench/run.py."""
    message: float = 50
    """A message from Redis, without its deliveries: (c)."""
    keep_alive: float = 11
    """One to a stream: (e)."""
    resume: float = 400
    """A stream that comes back, with what it missed: (f2)."""
    control: float = 2
    """The news that a list has changed, for a node that has nobody whom that concerns."""
    stream: float = 2500
    """Memory of a stream: (e)."""

    ear: float = 20
    """A message, or a change of a list, that one process hears for its node, when thousands come in
    a second; one that comes alone costs more: bench/ear.py.
    """

    # Of Redis: bench/redis_costs.py.
    publish: float = 155
    """A retained message."""
    heard: float = 10
    """Each node that hears it."""
    change: float = 100
    """A change of a list."""
    told: float = 9
    """Each node that is told, which is every one."""
    resumed: float = 140
    """A stream that comes back."""
    subject: float = 1010
    """Memory of a subject, its token and five channels."""
    channel: float = 4520
    """Memory of a channel that has something retained."""
    retained: float = 210
    """Memory of a retained message."""

    # Of the network.
    event: float = 250
    """Bytes of a message of 128 bytes as an event, in a packet of its own."""


@dataclass(frozen=True)
class Workload:
    """What one stream is like; rates are a second."""

    name: str
    #: Channels that only this stream hears, and messages to each.
    own: int = 0
    own_rate: float = 0
    #: Channels that it shares with `group` streams in all, and messages to each.
    shared: int = 0
    group: int = 1
    shared_rate: float = 0
    #: Messages to everybody.
    common_rate: float = 0
    #: Seconds that a stream lives, and between two changes of a subject's list.
    life: float = 1800
    changes: float = 3600
    #: Seconds that messages are retained.
    retain: float = 300


WORKLOADS = (
    Workload(
        "notices: a channel of one's own with a message a minute, and one for all with one in 10 s",
        own=1,
        own_rate=1 / 60,
        common_rate=0.1,
    ),
    Workload(
        "rooms: five rooms of 50 people each, in each a message in 10 s",
        shared=5,
        group=50,
        shared_rate=0.1,
    ),
    Workload("scores: one channel for all, a message a second", common_rate=1),
)


@dataclass(frozen=True)
class Traffic:
    """What so many streams of a workload are together."""

    workload: Workload
    streams: int

    @property
    def own(self) -> float:
        """Messages a second for one stream each."""
        return self.streams * self.workload.own * self.workload.own_rate

    @property
    def shared(self) -> float:
        """Messages a second for a group each."""
        return self.groups * self.workload.shared_rate

    @property
    def groups(self) -> float:
        """Channels that are shared."""
        return self.streams * self.workload.shared / self.workload.group

    @property
    def channels(self) -> float:
        """All channels."""
        return self.streams * self.workload.own + self.groups + bool(self.workload.common_rate)

    @property
    def published(self) -> float:
        """Messages a second."""
        return self.own + self.shared + self.workload.common_rate

    @property
    def delivered(self) -> float:
        """Messages a second, each counted as often as there are streams that get it."""
        groups = self.shared * self.workload.group
        return self.own + groups + self.workload.common_rate * self.streams

    def heard(self, places: int) -> float:
        """Return the same, each counted as often as there are places with such a stream.

        Places are processes, or nodes; streams of a group are spread at random.
        """
        with_some = places * (1 - (1 - 1 / places) ** self.workload.group)
        return self.own + self.shared * with_some + self.workload.common_rate * places

    @property
    def returns(self) -> float:
        """Streams that come back in a second."""
        return self.streams / self.workload.life

    @property
    def changes(self) -> float:
        """Lists that change in a second."""
        return self.streams / self.workload.changes


def core_of_a_process(it: Traffic, costs: Costs, processes: int) -> float:
    """Return the part of a core that each of so many processes takes."""
    microseconds = (
        it.delivered * costs.delivery
        + it.heard(processes) * costs.message
        + it.streams / KEEP_ALIVE * costs.keep_alive
        + it.returns * costs.resume
        + it.changes * processes * costs.control
    )
    return microseconds / processes / 1e6


def core_of_an_ear(it: Traffic, costs: Costs, nodes: int) -> float:
    """Return the part of a core that the process takes that hears Redis, in each of so many nodes.

    All nodes hear of each change.
    """
    return (it.heard(nodes) / nodes + it.changes) * costs.ear / 1e6


def core_of_a_redis(it: Traffic, costs: Costs, nodes: int, redis: int) -> float:
    """Return the part of a core that each of so many Redis takes.

    Channels are spread over them; a stream that comes asks all.
    """
    microseconds = (
        it.published * costs.publish
        + it.heard(nodes) * costs.heard
        + it.changes * (costs.change + nodes * costs.told)
    )
    return (microseconds / redis + it.returns * costs.resumed) / 1e6


def memory_of_redis(costs: Costs, subjects: float, channels: float, retained: float) -> float:
    """Return the bytes of so many subjects, channels with something retained, and messages."""
    return subjects * costs.subject + channels * costs.channel + retained * costs.retained


def row(it: Traffic, costs: Costs) -> tuple[str, ...]:
    """Return what so many streams need: as few processes, and Redis, as are not too full."""
    processes = math.ceil(it.streams / MOST_STREAMS)
    while core_of_a_process(it, costs, processes) > FULL:
        processes += 1
    nodes = math.ceil(processes / WORKERS)
    # A node of one process hears Redis itself.
    while nodes < processes and core_of_an_ear(it, costs, nodes) > FULL:
        nodes += 1
    ears = f" at {core_of_an_ear(it, costs, nodes):.0%}" if nodes < processes else ""
    redis = 1
    while core_of_a_redis(it, costs, nodes, redis) > FULL and redis < MOST_REDIS:
        redis += 1
    retained = it.published * it.workload.retain
    return (
        f"{it.streams:,}",
        number(it.published),
        number(it.delivered),
        f"{processes} at {core_of_a_process(it, costs, processes):.0%}",
        f"{nodes}{ears}",
        f"{redis} at {core_of_a_redis(it, costs, nodes, redis):.0%}",
        size(it.streams * costs.stream),
        size(memory_of_redis(costs, it.streams, it.channels, retained)),
        f"{size(it.delivered * costs.event)}/s",
    )


def number(value: float) -> str:
    """Return a number with two digits that count, or whole."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def size(value: float) -> str:
    """Return a number of bytes."""
    unit = next((each for each in UNITS if value < 1000 * UNITS[each]), "GB")
    return f"{number(value / UNITS[unit])} {unit}"


def table(workload: Workload, costs: Costs) -> str:
    """Return the table of a workload, as Markdown."""
    rows = [row(Traffic(workload, streams), costs) for streams in STREAMS]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for each in fields(Costs):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=float, default=each.default)
    costs = Costs(**vars(parser.parse_args()))
    for workload in WORKLOADS:
        print(f"**{workload.name}**\n\n{table(workload, costs)}\n")


if __name__ == "__main__":
    main()
