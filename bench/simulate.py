"""The computed tables of docs/scaling.md, simulated: many nodes with fake streams on a real Redis.

Usage: python bench/simulate.py [--nodes 100 --streams 20000 --load rooms --seconds 20 ...]

Everything is on this machine: a Redis of its own, a few processes with all nodes
(bench/nodes.py), and this one, which publishes. A node is one subscriber of Redis, with a broker of
its own; its streams are opened and resumed as any other, but have no sockets. Messages, changes of
lists and returns of streams come at the rates of the load. Beside each figure is what
bench/scaling.py computes for as many nodes and streams, without the cost of sockets. Ends with 1 if
any stream did not get exactly what it should.

With --kill Redis is killed in the midst, and started again: it says how long the nodes take to be
back and to have caught up. Costs are not measured then, because Redis writes to its disk.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from machine import description  # noqa: E402
from scaling import (  # noqa: E402
    WORKLOADS,
    Costs,
    Workload,
    core_of_a_process,
    core_of_a_redis,
    memory_of_redis,
    number,
    size,
)
from simulation import Simulation  # noqa: E402

from tests.support import running_redis  # noqa: E402

#: Messages of a channel that are retained at most, by default.
MOST_RETAINED = 1000

#: Part of the messages that were to be published.
ENOUGH = 0.95

#: Faults that are shown.
SHOWN = 20

#: What a fake stream does not cost: writes to its socket.
WITHOUT_SOCKETS = replace(Costs(), delivery=0, keep_alive=0)


class Figure(NamedTuple):
    """What was measured, and what is computed."""

    name: str
    simulated: float
    computed: float
    shown: Callable[[float], str] = number

    @property
    def row(self) -> tuple[str, ...]:
        """Both, and the ratio."""
        if not self.computed:
            return self.name, self.shown(self.simulated), "", ""
        ratio = f"{self.simulated / self.computed:.2f}"
        return self.name, self.shown(self.simulated), self.shown(self.computed), ratio


def percent(part: float) -> str:
    """Return a part of a core."""
    return f"{100 * part:.1f}%"


def hastened(workload: Workload, speed: float) -> Workload:
    """Return a workload in which everything happens `speed` times as often."""
    return replace(
        workload,
        own_rate=workload.own_rate * speed,
        shared_rate=workload.shared_rate * speed,
        common_rate=workload.common_rate * speed,
        life=workload.life / speed,
        changes=workload.changes / speed,
    )


def figures(it: Simulation, nodes: int) -> list[Figure]:
    """Return what a simulation with so many nodes has measured, unless Redis was killed."""
    busy, idle, traffic, published = it.busy, it.idle, it.traffic, it.people.published
    if busy is None:
        return []
    redis = core_of_a_redis(traffic, Costs(), nodes, 1)
    all_nodes = core_of_a_process(traffic, WITHOUT_SOCKETS, nodes) * nodes
    retained = sum(min(each, MOST_RETAINED) for each in published.values())
    memory = memory_of_redis(Costs(), traffic.streams, len(published), retained)
    rows = [
        Figure("messages/s", published.total() / busy.seconds, traffic.published),
        Figure("— heard by nodes/s", busy.nodes.messages / busy.seconds, traffic.heard(nodes)),
        Figure("deliveries/s", it.people.delivered / busy.seconds, traffic.delivered),
        Figure("Redis, of a core", busy.redis / busy.seconds, redis, percent),
        Figure("all nodes, of a core", busy.nodes.seconds / busy.seconds, all_nodes, percent),
        Figure("memory of Redis", it.bytes, memory, size),
    ]
    if idle is not None:
        rows.insert(4, Figure("— without messages", idle.redis / idle.seconds, 0, percent))
        rows.insert(6, Figure("— without messages", idle.nodes.seconds / idle.seconds, 0, percent))
    return rows


def simulate(options: argparse.Namespace, workload: Workload) -> list[str]:
    """Simulate a load with a Redis of its own; return what was wrong."""
    print(f"\n**{workload.name}**\n", flush=True)
    # Written before it answers: who is killed has everything that it has acknowledged.
    kept = () if options.kill is None else ("--appendonly", "yes")
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder), *kept) as server:
        simulation = Simulation(options, hastened(workload, options.speed), server)
        faults = simulation.run()
    if simulation.busy is not None:
        nodes, changes = simulation.busy.nodes, simulation.people.changes
        print(f"{nodes.returned} streams came back, {changes} times a list changed.\n")
        if nodes.losses:
            print(f"{nodes.losses} times a node lost Redis: there is too much on this machine.\n")
    if rows := figures(simulation, options.nodes):
        print("| | simulated | computed | ratio |\n|---|---|---|---|")
        print("\n".join(f"| {' | '.join(each.row)} |" for each in rows), end="\n\n")
        if rows[0].simulated < ENOUGH * rows[0].computed:
            print("The messages were fewer than computed: this machine cannot keep up.\n")
    for fault in faults[:SHOWN]:
        print(f"FAULT: {fault}")
    print(f"{len(faults)} faults" if faults else "Each stream got exactly what it should.")
    return faults


def main() -> int:
    """Run it, and return the status to exit with."""
    loads = {each.name.partition(":")[0]: each for each in WORKLOADS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--nodes", type=_at_least_one, default=100, help="subscribers of Redis")
    add("--streams", type=_at_least_one, default=20_000, help="in all")
    add("--load", choices=loads, action="append", help="one of them, or again; by default all")
    add("--seconds", type=float, default=20, help="that each load lasts")
    add("--idle", type=float, default=10, help="seconds of open streams without messages before it")
    add("--speed", type=float, default=1, help="times as often as in the load everything happens")
    add("--processes", type=_at_least_one, default=os.cpu_count(), help="that have the nodes")
    add("--kill", type=float, nargs="?", const=1, metavar="SECONDS", help="Redis is away so long")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(description())
    try:
        faults = [simulate(options, loads[name]) for name in options.load or loads]
    except KeyboardInterrupt:
        return 1
    return 1 if any(faults) else 0


def _at_least_one(text: str) -> int:
    """Return a number from 1 on; raises ValueError."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
