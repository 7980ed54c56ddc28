"""Whether Redis is what is needed, and is set as it should be."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from sinapse.cli.checks.finding import ANSWER_TIMEOUT, Finding, Verdict, text_of
from sinapse.cli.checks.prefixes import check_prefixes
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher import Publisher
from sinapse.publisher.connections import Connections

#: Redis knows the commands that are needed from here on.
OLDEST_REDIS = (6, 2)

#: Seconds that clocks may differ: logs and expiry times of applications rest on them.
CLOCK_SKEW = 2.0


def check_redis(publisher: Publisher) -> Iterator[Finding]:
    """Look at each Redis that `publisher` has."""
    for url in publisher.urls:
        name = f"Redis {url}"
        try:
            with _connected(url) as ask:
                yield from _one_redis(name, ask)
                yield _databases(name, url, ask)
                yield from check_prefixes(f"{name}, daemons", url.prefix, ask)
        except BrokerUnavailable as error:
            yield Finding(
                Verdict.WRONG,
                name,
                text_of(error),
                "Start it, or say with --redis or REDIS_URL where it is.",
            )


@contextmanager
def _connected(url: RedisURL) -> Iterator[Callable[..., Any]]:
    """Yield what asks the Redis of `url`."""
    connections = Connections(url, size=1, connect_timeout=ANSWER_TIMEOUT, timeout=ANSWER_TIMEOUT)
    try:
        yield connections.execute
    finally:
        connections.close()


def _one_redis(name: str, ask: Callable[..., Any]) -> Iterator[Finding]:
    information = _information(ask("INFO"))
    version = information.get("valkey_version") or information["redis_version"]
    kind = "Valkey" if "valkey_version" in information else "Redis"
    numbers = tuple(int(part) for part in version.split(".")[:2])
    is_old = kind == "Redis" and numbers < OLDEST_REDIS
    yield Finding(
        Verdict.WRONG if is_old else Verdict.FINE,
        name,
        f"{kind} {version}",
        "Redis 6.2 or newer, or any Valkey, is needed." if is_old else "",
    )
    if information["role"] != "master":
        yield Finding(
            Verdict.WRONG,
            name,
            "a replica",
            "Name the master, or its Sentinels: redis+sentinel://host:port/name.",
        )
    if information.get("redis_mode") == "cluster":
        yield Finding(
            Verdict.WRONG,
            name,
            "a cluster",
            "It keeps apart what a script needs together: name one Redis, or several of them.",
        )
    yield _scripts(name, ask)
    policy = information.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and int(information.get("maxmemory", 0)):
        yield Finding(
            Verdict.WRONG if policy.startswith("allkeys") else Verdict.DOUBT,
            f"{name}, maxmemory-policy",
            policy,
            "Tokens, lists and messages can be evicted: noeviction is what an authority needs.",
        )
    else:
        yield Finding(Verdict.FINE, f"{name}, maxmemory-policy", policy)
    is_kept = information.get("aof_enabled") == "1"
    yield Finding(
        Verdict.FINE if is_kept else Verdict.DOUBT,
        f"{name}, append-only file",
        "on" if is_kept else "off",
        "" if is_kept else "A restart takes tokens, lists and retained messages: appendonly yes.",
    )
    clients, most = int(information["connected_clients"]), int(information.get("maxclients", 0))
    if most:
        is_near = clients > most * 0.8
        yield Finding(
            Verdict.DOUBT if is_near else Verdict.FINE,
            f"{name}, clients",
            f"{clients} of {most}",
            "Raise maxclients." if is_near else "",
        )
    yield from _buffer(name, ask)
    yield _clock(name, ask)


def _information(answer: bytes) -> dict[str, str]:
    lines = answer.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _scripts(name: str, ask: Callable[..., Any]) -> Finding:
    what = f"{name}, scripts"
    try:
        ask("EVAL", "return 1", "0")
    except BrokerUnavailable as error:
        return Finding(
            Verdict.WRONG, what, text_of(error), "Allow EVAL and EVALSHA: all is done so."
        )
    return Finding(Verdict.FINE, what, "run")


def _databases(name: str, url: RedisURL, ask: Callable[..., Any]) -> Finding:
    """Look whether a second Sinapse uses other databases of this Redis."""
    others = []
    for database in _information(ask("INFO", "keyspace")):
        number = int(database.removeprefix("db"))
        with _connected(replace(url, db=number)) as ask_there, suppress(BrokerUnavailable):  # ACL
            if number != url.db and ask_there("EXISTS", url.names.retention):
                others.append(str(number))
    return Finding(
        Verdict.DOUBT if others else Verdict.FINE,
        f"{name}, other databases",
        f"Sinapse is in {', '.join(others)} as well" if others else "without Sinapse",
        "Each hears what is published in the other: give one of them a --prefix." if others else "",
    )


def _buffer(name: str, ask: Callable[..., Any]) -> Iterator[Finding]:
    try:
        answer = ask("CONFIG", "GET", "client-output-buffer-limit")
    except BrokerUnavailable:  # An ACL, or a service that has no CONFIG.
        return
    words = answer[1].decode().split()
    limits = dict(zip(words[::4], words[1::4], strict=True))
    limit = int(limits["pubsub"])
    is_small = 0 < limit < 8 * 1024 * 1024
    yield Finding(
        Verdict.DOUBT if is_small else Verdict.FINE,
        f"{name}, output buffer of subscribers",
        f"{limit // 1024 // 1024} MiB" if limit else "unlimited",
        "A burst can cut a daemon off, which then has to read it again: "
        'client-output-buffer-limit "pubsub 32mb 8mb 60".'
        if is_small
        else "",
    )


def _clock(name: str, ask: Callable[..., Any]) -> Finding:
    before = time.time()
    seconds, microseconds = ask("TIME")
    middle = (before + time.time()) / 2
    skew = int(seconds) + int(microseconds) / 1e6 - middle
    is_off = abs(skew) > CLOCK_SKEW
    return Finding(
        Verdict.DOUBT if is_off else Verdict.FINE,
        f"{name}, clock",
        f"{skew:+.1f} s from ours",
        "Let a time service set both; Sinapse itself goes by Redis' clock." if is_off else "",
    )
