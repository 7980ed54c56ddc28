"""Whether a Redis runs the scripts that Sinapse consists of."""

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.cli.checks.refusals import Refusal, refusal_of
from sinapse.cli.checks.server import Server
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import RESERVED

#: Returns its argument; ``unpack`` is of Lua 5.1, which Redis has.
ECHO = "return (unpack(ARGV))"

#: What the epoch of ids rests on.
_RUN = "return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''"

#: Scripts build the names of keys.
_UNDECLARED = "return redis.call('EXISTS', ARGV[1])"

#: What a user lacks is for the permissions to tell.
_DENIED = (Refusal.COMMAND, Refusal.KEY)

_UNFIT = "All is done by scripts, and ids of messages rest on this: such a server will not do."


class Scripts(NamedTuple):
    """What came of scripts."""

    finding: Finding
    is_cluster: bool = False


def check_scripts(server: Server, information: Mapping[str, str]) -> Scripts:
    """Run scripts that change nothing, as a cluster refuses them too."""
    names = server.url.names
    word = secrets.token_hex(8)
    is_cluster = information.get("redis_mode") == "cluster"
    found, advice = "run", ""
    try:
        # Two keys, which a cluster has on different nodes.
        said = server.ask("EVAL", ECHO, "2", names.retention, names.last, word)
    except BrokerUnavailable as error:
        found = server.reason(error)
        refusal = refusal_of(found)
        is_cluster = is_cluster or refusal is Refusal.CLUSTER
        if refusal is Refusal.KEY:
            advice = f"Give the user the keys: ~{names.prefix}{RESERVED}*"
        elif refusal in (Refusal.COMMAND, Refusal.UNKNOWN):
            advice = "Allow EVAL and EVALSHA: all is done so."
        else:
            advice = _UNFIT
    else:
        if said != word.encode():
            found = f"a script answers {said!r}, and not what it should"
            advice = "Something answers in the place of Redis: name Redis itself."
        elif fault := _fault(server):
            found, advice = fault
    verdict = Verdict.WRONG if advice else Verdict.FINE
    return Scripts(Finding(verdict, f"{server.name}, scripts", found, advice), is_cluster)


def _fault(server: Server) -> tuple[str, str] | None:
    """Return what scripts do not get of a server, and what to do about it."""
    try:
        if not server.ask("EVAL", _RUN, "0"):
            return "INFO tells them no run_id", _UNFIT
    except BrokerUnavailable as error:
        reason = server.reason(error)
        if refusal_of(reason) not in _DENIED:
            return f"INFO is refused to them: {reason}", _UNFIT
    reason = server.refusal("EVAL", _UNDECLARED, "0", server.url.names.nothing) or ""
    if not reason or refusal_of(reason) in _DENIED:
        return None
    return (
        f"not with keys that they build: {reason}",
        "Allow it: dragonfly --default_lua_flags=allow-undeclared-keys.",
    )
