"""What a user may do in a Redis: what daemons and publishers do there, tried one by one.

Nothing is changed: the key is one that is never there, or is gone with the script that tries.
"""

import secrets
from collections.abc import Iterator
from hashlib import sha1

from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.cli.checks.refusals import Refusal, refusal_of
from sinapse.cli.checks.scripts import ECHO
from sinapse.cli.checks.server import Server
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import CONTROL_PATTERN, RESERVED

#: Commands that daemons and publishers need, with operands with which they change nothing.
_OF_BOTH = {
    "del": "key",
    "exists": "key",
    "get": "key",
    "hdel": "key, 'a'",
    "hget": "key, 'a'",
    "hgetall": "key",
    "hkeys": "key",
    "hlen": "key",
    "hmget": "key, 'a'",
    "hset": "key, 'a', 'b', 'one too many'",
    "hsetnx": "key, 'a', 'b'",
    "info": "'server'",
    "pexpire": "key, 1",
    "pttl": "key",
    "publish": "channel, ''",
    "smembers": "key",
    "srem": "key, 'a'",
    "time": "",
    "xrange": "key, '-', '+'",
    "zcount": "key, 0, 1",
    "zrange": "key, 0, 1",
    "zrem": "key, 'a'",
    "zscore": "key, 'a'",
}
_OF_DAEMONS = {"type": "key", "xrevrange": "key, '+', '-'", "zmscore": "key, 'a'"}
_OF_PUBLISHERS = {
    "hexists": "key, 'a'",
    "hincrby": "key, 'a', 'no number'",
    "hrandfield": "key",
    "lindex": "key, 0",
    "lpop": "key",
    "persist": "key",
    "pubsub": "'NUMSUB', channel",
    "rpush": "key, 'a'",
    "sadd": "key, 'a'",
    "set": "key, '', 'XX'",
    "sismember": "key, 'a'",
    "xadd": "key, 'NOMKSTREAM', '*', 'a', 'b'",
    "xdel": "key, '0-1'",
    "xtrim": "key, 'MAXLEN', 0",
    "zadd": "key, 'XX', 1, 'a'",
    "zremrangebyscore": "key, 0, 1",
}

#: Of these, those that make the key all the same: it is deleted again, or they are not tried.
_MAKING = ("hsetnx", "rpush", "sadd")

_SUBSCRIBING = frozenset({"psubscribe", "subscribe"})
_RUNNING = frozenset({"eval", "evalsha"})

#: All that a daemon needs; presence and runs need more.
DAEMON = frozenset({*_OF_BOTH, *_OF_DAEMONS, *_RUNNING, *_SUBSCRIBING, "ping", "unsubscribe"})

#: All that a publisher needs.
PUBLISHER = frozenset({*_OF_BOTH, *_OF_PUBLISHERS, *_RUNNING})

#: Of each, what the other has no use for: who may do none of it is not meant to be one.
_ROLES = {
    "daemon": (DAEMON, _SUBSCRIBING),
    "publisher": (PUBLISHER, frozenset({"set"})),
}

_TRIALS = {**_OF_BOTH, **_OF_DAEMONS, **_OF_PUBLISHERS}
_ORDER = sorted(_TRIALS, key=_MAKING.__contains__)  # DEL stays the first.

_SCRIPT = "\n".join(
    (
        "local key, channel, said = ARGV[1], ARGV[2], {}",
        "local function try(...)",
        "  local answer = redis.pcall(...)",
        "  said[#said + 1] = type(answer) == 'table' and answer.err or ''",
        "end",
        *(
            f"if said[1] == '' then try({name!r}, {_TRIALS[name]}) redis.call('DEL', key) end"
            if name in _MAKING
            else f"try({', '.join(filter(None, (repr(name), _TRIALS[name])))})"
            for name in _ORDER
        ),
        "return said",
    )
)


class Permissions:
    """What the user of `server` may not do there."""

    def __init__(self, server: Server) -> None:
        names = server.url.names
        channel = f"{names.nodes}:{secrets.token_hex(8)}"
        #: Commands that are refused, and why.
        self.refused: dict[str, Refusal] = {}
        try:
            said = server.ask("EVAL", _SCRIPT, "0", names.nothing, channel)
        except BrokerUnavailable as error:
            said = []
            self._note("eval", server.reason(error))
        for name, text in zip(_ORDER, said, strict=False):
            self._note(name, text.decode(errors="replace"))
        sha = sha1(ECHO.encode(), usedforsecurity=False).hexdigest()
        self._note("evalsha", server.refusal("EVALSHA", sha, "0", "a") or "")
        pattern = names.prefix + CONTROL_PATTERN
        with server.subscriber() as subscriber:
            for name, *names_of in (
                ("psubscribe", pattern),
                ("subscribe", channel),
                ("ping",),
                ("unsubscribe", channel),
            ):
                try:
                    subscriber.ask(name.upper(), *names_of)
                except BrokerUnavailable as error:
                    self._note(name, server.reason(error))

    def _note(self, name: str, text: str) -> None:
        if refusal := refusal_of(text):
            self.refused[name] = refusal

    def of(self, refusal: Refusal) -> frozenset[str]:
        """Return the commands that are refused for that reason."""
        return frozenset(name for name, why in self.refused.items() if why is refusal)

    @property
    def may_subscribe(self) -> bool:
        """Whether nothing stands against hearing what is published."""
        return not self.refused.keys() & {*_SUBSCRIBING, "eval", "exists", "hmget", "publish"}


def check_permissions(server: Server, permissions: Permissions) -> Iterator[Finding]:
    """Look whether the user may do what a daemon does, or a publisher, or both."""
    own = server.url.prefix + RESERVED
    user = repr(server.url.username or "default")
    what = f"{server.name}, user {user}"
    if unknown := permissions.of(Refusal.UNKNOWN):
        yield Finding(
            Verdict.WRONG,
            f"{server.name}, commands",
            f"does not know {_listed(unknown)}",
            "Redis 6.2 or newer, or any Valkey, knows them, unless somebody has taken them away.",
        )
    # That of INFO is told with the scripts.
    if inside := permissions.of(Refusal.SCRIPT) - {"info"}:
        yield Finding(
            Verdict.WRONG,
            f"{server.name}, commands",
            f"scripts may not use {_listed(inside)}",
            "All is done by scripts: such a server will not do.",
        )
    if permissions.of(Refusal.KEY):
        advice = f"ACL SETUSER {user} ~{own}*, or the same in the console of the service."
        yield Finding(Verdict.WRONG, what, f"may not use the keys {own}*", advice)
        return  # It hides what else is refused.
    if names := permissions.of(Refusal.CHANNEL):
        given = f"&{own}* &{server.url.prefix}{CONTROL_PATTERN}"
        yield Finding(
            Verdict.WRONG,
            what,
            f"may not use the channels {own}* with {_listed(names)}",
            f"ACL SETUSER {user} {given}, and the channels of your application; or &* for all.",
        )
    yield from _roles(what, user, permissions.of(Refusal.COMMAND))


def _roles(what: str, user: str, denied: frozenset[str]) -> Iterator[Finding]:
    roles = {
        role: needed & denied for role, (needed, meant) in _ROLES.items() if not meant <= denied
    }
    if not roles:
        yield Finding(
            Verdict.WRONG,
            what,
            f"is none for a daemon or a publisher: may not {_listed(denied)}",
            "Give it what docs/operations.md says of Redis users.",
        )
    for role, lacking in roles.items():
        rights = " ".join(f"+{_right(name)}" for name in sorted(lacking))
        yield Finding(
            Verdict.WRONG if lacking else Verdict.FINE,
            f"{what} as a {role}",
            f"may not {_listed(lacking)}" if lacking else "may use all commands that it needs",
            f"ACL SETUSER {user} {rights}, or the same in the console of the service."
            if lacking
            else "",
        )


def _right(name: str) -> str:
    return "pubsub|numsub" if name == "pubsub" else name


def _listed(names: frozenset[str]) -> str:
    return ", ".join(name.upper() for name in sorted(names))
