"""Which applications share a Redis: their daemons tell, by the prefixes of their names."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import NODES
from sinapse.protocol.names import prefix_fault


def check_prefixes(what: str, prefix: str, ask: Callable[..., Any]) -> Iterator[Finding]:
    """Look at the prefixes of the daemons that a Redis has, of which `prefix` is ours.

    PUB/SUB knows no databases, so it is all of them. Nothing is said where there is no daemon.
    """
    try:
        answer = ask("PUBSUB", "CHANNELS", f"*{NODES}")
    except BrokerUnavailable:  # An ACL.
        return
    there = sorted(
        found
        for name in answer
        if not (found := name.decode(errors="replace").removesuffix(NODES))
        or not prefix_fault(found)
    )
    others = [each for each in there if each != prefix]
    if there and prefix not in there:
        yield Finding(
            Verdict.WRONG,
            what,
            f"none {_shown(prefix)}, but {_listed(others)}",
            "They hear nothing of ours: give daemons and publishers the same SINAPSE_PREFIX.",
        )
    elif there:
        clashes = [each for each in others if _clash(each, prefix)]
        yield Finding(
            Verdict.DOUBT if any(clashes) and prefix else Verdict.FINE,
            what,
            _shown(prefix) + (f"; of other applications: {_listed(others)}" if others else ""),
            _advice(prefix, clashes),
        )


def _clash(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _advice(prefix: str, clashes: Collection[str]) -> str:
    """Return what there is to do about prefixes that begin with each other."""
    longer = sorted({max(prefix, each, key=len) for each in clashes})
    if not longer:
        return ""
    names = " or ".join(map(repr, longer))
    return (
        f"No channel of the application whose prefix is shorter, or none, may begin like {names}."
    )


def _shown(prefix: str) -> str:
    return f"with prefix {prefix!r}" if prefix else "without a prefix"


def _listed(prefixes: Collection[str]) -> str:
    return ", ".join(map(_shown, prefixes))
