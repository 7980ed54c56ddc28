"""``python -m tests.support.fuzz TARGET --seconds N``: feed one target, and say how it went.

With atheris the changes are guided by what is reached; without it they are random.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Run, and exit with 1 at the first input that breaks something; it is written down."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/fuzz"), help="where atheris keeps what it finds"
    )
    parser.add_argument("--random", action="store_true", help="without atheris")
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or arguments.random:
        _random(arguments.target, arguments.seconds)
        return
    with atheris.instrument_imports(include=["sinapse", "twisted.web", "h2", "websockets"]):
        from tests.support.fuzz.targets import TARGETS
    from tests.support.fuzz.mutation import seeds

    arguments.corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(arguments.target)):
        (arguments.corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={arguments.seconds:g}", "-max_len=4096", "-timeout=10"]
    options += ["-rss_limit_mb=1024", f"-artifact_prefix={arguments.corpus}.crash-"]
    atheris.Setup([sys.argv[0], *options, str(arguments.corpus)], TARGETS[arguments.target])
    atheris.Fuzz()


def _random(target: str, seconds: float) -> None:
    from tests.support.fuzz.mutation import mutated, seeds
    from tests.support.fuzz.targets import TARGETS

    feed: Callable[[bytes], None] = TARGETS[target]
    source = random.Random()
    known = seeds(target)
    for seed in known:
        feed(seed)
    begun = time.monotonic()
    count, slowest, first = 0, 0.0, 0
    while time.monotonic() < begun + seconds:
        data = mutated(source.choice(known), known, source)
        started = time.perf_counter()
        try:
            feed(data)
        except BaseException:
            Path(f"crash-{target}").write_bytes(data)
            sys.stderr.write(f"{target}: input written to crash-{target}\n")
            raise
        slowest = max(slowest, time.perf_counter() - started)
        count += 1
        if count == 10_000:
            first = _resident()
    sys.stdout.write(
        f"{target}: {count} inputs in {seconds:g} s, slowest {slowest * 1000:.0f} ms, "
        f"memory {first // 1024} MiB after 10,000, {_resident() // 1024} MiB at the end\n"
    )


def _resident() -> int:
    """Return KiB of memory, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
