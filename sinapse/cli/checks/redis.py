"""Whether Redis is what is needed."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from sinapse.cli.checks.delivery import check_delivery
from sinapse.cli.checks.finding import Finding, Verdict, text_of
from sinapse.cli.checks.permissions import Permissions, check_permissions
from sinapse.cli.checks.prefixes import check_prefixes
from sinapse.cli.checks.refusals import Refusal, refusal_of
from sinapse.cli.checks.scripts import check_scripts
from sinapse.cli.checks.server import Server
from sinapse.cli.checks.settings import check_settings
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.role import QUESTION, is_master
from sinapse.publisher import Publisher

#: Redis knows the commands that are needed from here on.
OLDEST_REDIS = (6, 2)

#: Who speaks Redis' protocol, and says so in INFO.
_KINDS = {"valkey_version": "Valkey", "dragonfly_version": "Dragonfly", "redis_version": "Redis"}


def check_redis(publisher: Publisher) -> Iterator[Finding]:
    """Look at each Redis that `publisher` has."""
    for url in publisher.urls:
        with Server(url) as server:
            try:
                yield from _check(server)
            except BrokerUnavailable as error:
                yield Finding(
                    Verdict.WRONG,
                    server.name,
                    text_of(error),
                    "Start it, or say with --redis or REDIS_URL where it is.",
                )


def _check(server: Server) -> Iterator[Finding]:
    information, refused = _asked(server)
    if information is None:
        yield Finding(
            Verdict.WRONG,
            server.name,
            f"answers, but not as a Redis: {refused}",
            "Something answers in its place, as a proxy whose Redis is away: look there, or name "
            "Redis itself.",
        )
        return
    if information:
        yield _version(server, information)
        yield from _role(server)
    scripts = check_scripts(server, information)
    if scripts.is_cluster:
        yield Finding(
            Verdict.WRONG,
            server.name,
            "a cluster",
            "It keeps apart what a script needs together: name one Redis, or several of them; a "
            "service has a mode without cluster.",
        )
        return
    yield scripts.finding
    permissions = Permissions(server)
    yield from check_permissions(server, permissions)
    if permissions.may_subscribe:
        yield check_delivery(server)
    yield from check_settings(server, information)
    yield _databases(server)
    yield from check_prefixes(f"{server.name}, daemons", server.url.prefix, server.ask)


def _asked(server: Server) -> tuple[Mapping[str, str] | None, str]:
    """Return what INFO says, nothing if this user may not ask, None and why if it is no Redis."""
    try:
        information = server.information()
    except BrokerUnavailable as error:
        reason = server.reason(error)
        if refusal_of(reason) is Refusal.COMMAND:
            return {}, reason
        # Who does not answer at all is not there, and says so itself.
        server.ask("PING")
        return None, f"INFO: {reason}"
    if "redis_version" not in information:
        return None, "INFO tells no redis_version"
    return information, ""


def _version(server: Server, information: Mapping[str, str]) -> Finding:
    field, kind = next(each for each in _KINDS.items() if each[0] in information)
    version = information[field]
    numbers = tuple(map(int, re.findall(r"\d+", information["redis_version"])[:2]))
    is_old = numbers < OLDEST_REDIS
    return Finding(
        Verdict.WRONG if is_old else Verdict.FINE,
        server.name,
        f"{kind} {version}",
        "Redis 6.2 or newer, or any Valkey, is needed." if is_old else "",
    )


def _role(server: Server) -> Iterator[Finding]:
    answer = server.ask(*QUESTION)
    if is_master(answer):
        return
    is_replica = b"role:slave" in answer
    yield Finding(
        Verdict.WRONG,
        server.name,
        "a replica" if is_replica else "does not say that it is a master",
        "Name the master, or its Sentinels: redis+sentinel://host:port/name."
        if is_replica
        else "Daemons ask it, and leave whoever does not: INFO replication must tell role:master.",
    )


def _databases(server: Server) -> Finding:
    """Look whether a second Sinapse uses other databases of this Redis."""
    others = []
    with suppress(BrokerUnavailable):  # An ACL.
        for name in server.information("keyspace"):
            number = name.removeprefix("db")
            if not number.isdigit() or int(number) == server.url.db:
                continue
            with server.database(int(number)) as there, suppress(BrokerUnavailable):
                if there.ask("EXISTS", there.url.names.retention):
                    others.append(number)
    return Finding(
        Verdict.DOUBT if others else Verdict.FINE,
        f"{server.name}, other databases",
        f"Sinapse is in {', '.join(others)} as well" if others else "without Sinapse",
        "Each hears what is published in the other: give one of them a --prefix." if others else "",
    )
