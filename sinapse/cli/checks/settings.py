"""Whether a Redis is set as it should be."""

import re
import time
from collections.abc import Iterator, Mapping

from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.cli.checks.server import Server
from sinapse.errors import BrokerUnavailable

#: Seconds that clocks may differ: logs and expiry times of applications rest on them.
CLOCK_SKEW = 2.0

#: Bytes that wait for a subscriber: with less, a burst can cut a daemon off.
SMALL_BUFFER = 8 * 1024 * 1024

_UNSEEN = "cannot be seen: neither INFO nor CONFIG tells it"
_LOOK = "Look in the console of the service, or ask as an administrator: CONFIG GET"


def check_settings(server: Server, information: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what a Redis keeps, at its limits and at its clock."""
    yield _policy(server, information)
    yield _persistence(server, information)
    yield from _clients(server, information)
    yield _buffer(server)
    yield from _clock(server)


def _policy(server: Server, information: Mapping[str, str]) -> Finding:
    what = f"{server.name}, maxmemory-policy"
    policy = information.get("maxmemory_policy") or server.setting("maxmemory-policy")
    if policy is None:
        advice = f"{_LOOK} maxmemory-policy. It must be noeviction."
        return Finding(Verdict.DOUBT, what, _UNSEEN, advice)
    if policy == "noeviction" or information.get("maxmemory") == "0":
        return Finding(Verdict.FINE, what, policy)
    if policy.startswith("volatile"):
        # Lists have no end: they stay.
        advice = "Tokens and retained messages can be evicted: set it to noeviction."
        return Finding(Verdict.DOUBT, what, policy, advice)
    advice = "Tokens, lists and messages can be evicted: noeviction is what an authority needs."
    return Finding(Verdict.WRONG, what, policy, advice)


def _persistence(server: Server, information: Mapping[str, str]) -> Finding:
    what = f"{server.name}, append-only file"
    told = information.get("aof_enabled") or {"yes": "1", "no": "0"}.get(
        server.setting("appendonly") or ""
    )
    if told is None:
        advice = f"{_LOOK} appendonly. It should be yes: a restart takes what is not written."
        return Finding(Verdict.DOUBT, what, _UNSEEN, advice)
    if told == "1":
        return Finding(Verdict.FINE, what, "on")
    advice = "A restart takes tokens, lists and retained messages: appendonly yes."
    return Finding(Verdict.DOUBT, what, "off", advice)


def _clients(server: Server, information: Mapping[str, str]) -> Iterator[Finding]:
    clients, most = (
        int(information.get(name) or 0) for name in ("connected_clients", "maxclients")
    )
    if most:
        is_near = clients > most * 0.8
        yield Finding(
            Verdict.DOUBT if is_near else Verdict.FINE,
            f"{server.name}, clients",
            f"{clients} of {most}",
            "Raise maxclients." if is_near else "",
        )


def _buffer(server: Server) -> Finding:
    what = f"{server.name}, output buffer of subscribers"
    told = server.setting("client-output-buffer-limit") or ""
    found = re.search(r"\bpubsub (\d+)", told)
    if found is None:
        advice = (
            f"{_LOOK} client-output-buffer-limit. Its pubsub should be 32mb 8mb 60, or more: "
            "with less, a burst can cut a daemon off."
        )
        return Finding(Verdict.DOUBT, what, "cannot be seen: CONFIG does not tell it", advice)
    limit = int(found[1])
    is_small = 0 < limit < SMALL_BUFFER
    return Finding(
        Verdict.DOUBT if is_small else Verdict.FINE,
        what,
        f"{limit // 1024 // 1024} MiB" if limit else "unlimited",
        "A burst can cut a daemon off, which then has to read it again: "
        'client-output-buffer-limit "pubsub 32mb 8mb 60".'
        if is_small
        else "",
    )


def _clock(server: Server) -> Iterator[Finding]:
    before = time.time()
    try:
        seconds, microseconds = server.ask("TIME")
    except BrokerUnavailable:  # An ACL: the permissions tell.
        return
    middle = (before + time.time()) / 2
    skew = int(seconds) + int(microseconds) / 1e6 - middle
    is_off = abs(skew) > CLOCK_SKEW
    yield Finding(
        Verdict.DOUBT if is_off else Verdict.FINE,
        f"{server.name}, clock",
        f"{skew:+.1f} s from ours",
        "Let a time service set both; Sinapse itself goes by Redis' clock." if is_off else "",
    )
