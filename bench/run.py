"""The benchmark: Sinapse and its peers, on this machine, in the same run. See README.md.

Usage: python bench/run.py [--quick] [--scenarios abcdefghi] [--peers NAMES] [--rounds N]
"""

import argparse
import dataclasses
import os
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

import report  # noqa: E402
from machine import Cores  # noqa: E402
from peers import faye, floor, nchan, python, sinapse  # noqa: E402
from peers.server import Missing  # noqa: E402
from scenarios import SCENARIOS, run  # noqa: E402

PEERS = (
    sinapse.PEER,
    nchan.PEER,
    python.STARLETTE,
    python.AIOHTTP,
    python.DJANGO,
    faye.PEER,
    floor.PEER,
)


def main() -> None:
    """Run what is asked for, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the streams")
    parser.add_argument("--scenarios", default="".join(each.key for each in SCENARIOS))
    parser.add_argument("--peers", default="", help="parts of names with commas between")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "results")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    scenarios = [each for each in SCENARIOS if each.key in options.scenarios]
    if options.quick:
        scenarios = [
            dataclasses.replace(each, streams=each.streams // 4, messages=each.messages // 2)
            for each in scenarios
        ]
    names = [name for name in options.peers.lower().split(",") if name]
    peers = [
        each for each in PEERS if not names or any(name in each.name.lower() for name in names)
    ]
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # As many descriptors as there may be, and everything but the servers on the other cores.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = Cores.split()
    os.sched_setaffinity(0, cores.load)

    results = report.Results(scenarios, [peer.name for peer in peers])
    for number in range(rounds):
        for scenario in scenarios:
            # The order goes round, so that none always has what another has left behind.
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                if scenario.key not in peer.scenarios:
                    continue
                begun = time.monotonic()
                try:
                    figures = run(scenario, peer, cores)
                except Missing as reason:
                    results.skip(scenario, peer.name, str(reason))
                    said = f"skipped: {reason}"
                else:
                    results.add(scenario, peer.name, figures)
                    said = report.line(scenario, figures)
                seconds = time.monotonic() - begun
                print(
                    f"round {number + 1} ({scenario.key}) {peer.name:14} {said}  [{seconds:.0f} s]",
                    file=sys.stderr,
                    flush=True,
                )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(results.json())
    (options.output / "results.txt").write_text(results.table())
    (options.output / "results.svg").write_text(results.svg())
    print(results.table())
    print(f"Written to {options.output}: results.txt, results.json, results.svg")


if __name__ == "__main__":
    main()
