"""The benchmark: Sinapse and its peers, on this machine, in the same run. See README.md.

Usage: python bench/run.py [--quick] [--scenarios a,b,...] [--peers NAME,...] [--rounds N]
       python bench/run.py --goals

The exit status is 1 if Sinapse has failed: has ended, has refused or ended a stream, or has lost,
repeated or disordered a message.
"""

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

import goals  # noqa: E402
from machine import Cores  # noqa: E402
from peers import centrifugo, faye, floor, mercure, nchan, python, sinapse  # noqa: E402
from peers.server import Failed, Missing, Peer  # noqa: E402
from report import Results, line  # noqa: E402
from scenarios import SCENARIOS, Scenario, run  # noqa: E402

PEERS = (
    sinapse.PEER,
    nchan.PEER,
    centrifugo.PEER,
    mercure.PEER,
    python.STARLETTE,
    python.AIOHTTP,
    python.DJANGO,
    faye.PEER,
    floor.PEER,
    floor.BATCHING,
)

#: Those that take long are in the first rounds only, unless they are named.
SELDOM = {
    python.STARLETTE.name: 2,
    python.AIOHTTP.name: 2,
    mercure.PEER.name: 1,
    python.DJANGO.name: 1,
    faye.PEER.name: 1,
}

#: Those that have to be named.
ON_DEMAND = sinapse.WORKERS


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the streams")
    parser.add_argument(
        "--goals", action="store_true", help="only those that the goals are about, three rounds"
    )
    parser.add_argument(
        "--scenarios", type=_words, default=[], help="such as a,b,f2; h is ha, hb and hc"
    )
    parser.add_argument("--peers", type=_words, default=[], help="parts of names")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "results")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> tuple[list[Scenario], list[Peer]]:
    """Return what is to be run: with no wish, all that Sinapse can do and with all peers."""
    keys, names = options.scenarios, options.peers
    if options.goals:
        keys, names = keys or goals.SCENARIOS, names or [name.lower() for name in goals.PEERS]
    scenarios = [
        each
        for each in SCENARIOS
        if (sinapse.PEER.can(each.key) if not keys else each.key in keys or each.key[0] in keys)
    ]
    peers = [
        each
        for each in (*PEERS, *(ON_DEMAND if names else ()))
        if not names or any(name in each.name.lower() for name in names)
    ]
    if options.quick:
        scenarios = [each.quick() for each in scenarios]
    return scenarios, peers


def _run_all(
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    rounds: int,
    results: Results,
    *,
    seldom: Mapping[str, int],
) -> None:
    cores = Cores.split()
    os.sched_setaffinity(0, cores.load)
    for number in range(rounds):
        for scenario in scenarios:
            # The order goes round, so that none always has what another has left behind.
            turn = number % len(peers)
            for peer in [*peers[turn:], *peers[:turn]]:
                if not peer.can(scenario.key) or number >= seldom.get(peer.name, rounds):
                    continue
                own = scenario.for_peer(peer)
                begun = time.monotonic()
                try:
                    figures = run(own, peer, cores)
                except Missing as reason:
                    results.skip(own, peer.name, str(reason))
                    said = f"skipped: {reason}"
                except Failed as reason:
                    # That of a peer is no reason not to compare with the others.
                    results.fail(own, peer.name, str(reason).partition("\n")[0])
                    said = f"failed: {reason}"
                else:
                    results.add(own, peer.name, figures)
                    said = line(own, figures)
                results.write()
                print(
                    f"round {number + 1} ({scenario.key}) {peer.name:18} {said}"
                    f"  [{time.monotonic() - begun:.1f} s]",
                    file=sys.stderr,
                    flush=True,
                )


def main() -> None:
    """Run what is asked for, and write the results."""
    options = _options()
    scenarios, peers = _chosen(options)
    if not scenarios or not peers:
        sys.exit("no such scenario, or no such peer")
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # As many descriptors as there may be.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rounds = options.rounds or (1 if options.quick else 3)
    results = Results(scenarios, [peer.name for peer in peers], options.output, quick=options.quick)
    begun = time.monotonic()
    try:
        _run_all(scenarios, peers, rounds, results, seldom={} if options.peers else SELDOM)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(results.table())
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes. Written to {options.output}:")
    print("results.txt, results.json, results.svg")
    faults = results.faults()
    for fault in faults:
        print(f"FAULT: {fault}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
