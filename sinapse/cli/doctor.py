"""``sinapse doctor``: whether everything is as it should be, and what to do if it is not."""

import json
import queue
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import click

from sinapse import __version__
from sinapse.cli.address import url_argument
from sinapse.cli.publishing import connected
from sinapse.cli.trial import Trial
from sinapse.client import printable
from sinapse.errors import BrokerUnavailable
from sinapse.listen.bounds import BACKLOG, FEW_FILES
from sinapse.protocol.keys import RETENTION
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher import Publisher
from sinapse.publisher.connections import Connections

#: Redis knows the commands that are needed from here on.
OLDEST_REDIS = (6, 2)

#: Seconds that clocks may differ: logs and expiry times of applications rest on them.
CLOCK_SKEW = 2.0

#: Seconds in which the first bytes of a stream, and a message, have to arrive.
ANSWER_TIMEOUT = 5.0


class Verdict(Enum):
    """What a look has found."""

    FINE = ("ok", "green")
    DOUBT = ("warning", "yellow")
    WRONG = ("wrong", "red")


class Finding(NamedTuple):
    """What was looked at, what was found, and what to do."""

    verdict: Verdict
    what: str
    found: str
    advice: str = ""


@click.command("doctor")
@url_argument
@click.option("--redis", metavar="URL", help="Where Redis is.  [default: REDIS_URL]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
def command(url: str, redis: str | None, as_json: bool) -> None:
    """Look at Redis, at the daemon at URL, and at this machine.

    Each finding says what to do. Exit code 1 if something is wrong.
    """
    with connected(redis) as publisher:
        findings = []
        for finding in _all(publisher, url):
            findings.append(finding)
            _show(finding, as_json=as_json)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise click.exceptions.Exit(1)


def _all(publisher: Publisher, url: str) -> Iterator[Finding]:
    has_redis = False
    for finding in _redis(publisher):
        has_redis = has_redis or finding.verdict is Verdict.FINE
        yield finding
    yield from _daemon(url)
    if has_redis:
        yield from _path(publisher, url)
    yield from _machine()


def _show(finding: Finding, *, as_json: bool) -> None:
    word, colour = finding.verdict.value
    if as_json:
        fields = {**finding._asdict(), "verdict": word}
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    found = printable(finding.found)  # Some of it is what others have answered.
    click.echo(f"{click.style(f'{word:8}', colour)} {finding.what}: {found}")
    if finding.advice:
        click.echo(f"         {finding.advice}")


# Redis


def _redis(publisher: Publisher) -> Iterator[Finding]:
    for url in publisher.urls:
        name = f"Redis {url}"
        try:
            with _connected(url) as ask:
                yield from _one_redis(name, ask)
                yield _databases(name, url, ask)
        except BrokerUnavailable as error:
            yield Finding(
                Verdict.WRONG,
                name,
                _line(error),
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


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
        return Finding(Verdict.WRONG, what, _line(error), "Allow EVAL and EVALSHA: all is done so.")
    return Finding(Verdict.FINE, what, "run")


def _databases(name: str, url: RedisURL, ask: Callable[..., Any]) -> Finding:
    """Look whether a second Sinapse uses other databases of this Redis."""
    others = []
    for database in _information(ask("INFO", "keyspace")):
        number = int(database.removeprefix("db"))
        with _connected(replace(url, db=number)) as ask_there, suppress(BrokerUnavailable):  # ACL
            if number != url.db and ask_there("EXISTS", RETENTION):
                others.append(str(number))
    return Finding(
        Verdict.DOUBT if others else Verdict.FINE,
        f"{name}, other databases",
        f"Sinapse is in {', '.join(others)} as well" if others else "without Sinapse",
        "Each hears what is published in the other: give channels and subjects other names there."
        if others
        else "",
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


# The daemon


def _daemon(url: str) -> Iterator[Finding]:
    for path, meaning, advice in (
        ("status", "alive", "Start it: sinapse serve; or name another URL."),
        ("ready", "Redis is there", "See its log for why it does not reach Redis."),
    ):
        try:
            with urlopen(urljoin(url, path), timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310
                server = answer.headers.get("Server", "unknown")
        except HTTPError as error:
            error.close()
            is_lost = error.code == HTTPStatus.NOT_FOUND
            yield Finding(
                Verdict.WRONG,
                f"{url} {path}",
                f"answers {error.code}",
                "Does the proxy pass the path on? The daemon answers at / only."
                if is_lost
                else advice,
            )
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            yield Finding(Verdict.WRONG, f"{url} {path}", str(reason), advice)
            return
        yield Finding(Verdict.FINE, f"{url} {path}", meaning)
    if server.startswith("Sinapse/") and server != f"Sinapse/{__version__}":
        yield Finding(
            Verdict.DOUBT, url, f"is {server}, this is {__version__}", "Update the older one."
        )


def _path(publisher: Publisher, url: str) -> Iterator[Finding]:
    """Look whether a message that is published here arrives there, and at once."""
    what = f"from Redis through {url}"
    try:
        with Trial(publisher, url) as trial:
            start = time.perf_counter()
            publisher.publish(trial.name, "x", retain=0)
            trial.next(ANSWER_TIMEOUT)
            took = 1000 * (time.perf_counter() - start)
    except queue.Empty:
        yield Finding(
            Verdict.WRONG,
            what,
            f"nothing arrives within {ANSWER_TIMEOUT:g} s",
            "Is it the Redis of that daemon? Does a proxy hold streams back? In nginx: "
            "proxy_buffering off; nowhere may text/event-stream be compressed.",
        )
    except HTTPError as error:
        yield Finding(
            Verdict.WRONG, what, f"answers {error.code}", "Is it the Redis of that daemon?"
        )
    except (OSError, BrokerUnavailable) as error:
        yield Finding(Verdict.WRONG, what, _line(error), "See above.")
    else:
        yield Finding(Verdict.FINE, what, f"a message takes {took:.1f} ms")


# This machine


def _machine() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    yield Finding(
        Verdict.DOUBT if most < FEW_FILES else Verdict.FINE,
        "open files here",
        f"{soft} (hard limit {'none' if most == sys.maxsize else most})",
        "A stream needs one: raise it where the daemon runs (LimitNOFILE in systemd, ulimit -Hn)."
        if most < FEW_FILES
        else "",
    )
    somaxconn = Path("/proc/sys/net/core/somaxconn")
    if somaxconn.exists():
        backlog = int(somaxconn.read_text())
        yield Finding(
            Verdict.DOUBT if backlog < BACKLOG else Verdict.FINE,
            "net.core.somaxconn here",
            str(backlog),
            f"Where the daemon runs: sysctl net.core.somaxconn={BACKLOG}, or many who connect at "
            "once wait for a second."
            if backlog < BACKLOG
            else "",
        )
