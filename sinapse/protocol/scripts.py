"""The Lua scripts of publisher and daemon: each is one step, in one round trip.

Each is a file in ``lua/``, and says at its head what it takes and returns. It reads first, then
writes, which Redis could refuse, and publishes last: a script that fails without memory, or on a
replica, has changed nothing, and nothing is announced that was not written. Only a grant whose time
has come is ended by whatever script finds it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha1
from pkgutil import get_data
from textwrap import indent

from sinapse.protocol import keys
from sinapse.protocol.keys import ADD, END, INBOXES, PAST, REMOVE, REPLAYED, WITHDRAW
from sinapse.protocol.names import PLAIN, Names

#: The comment at the head of a file, which is for readers only.
_HEAD = re.compile(r"\A(?:--[^\n]*\n)+\n")

#: A line in whose place another file stands, as far indented as it is.
_INCLUDE = re.compile(r"^([ ]*)-- include: (\w+)\n", re.MULTILINE)

#: What stands for the prefix of an application, before the name of a channel that is published to.
_PREFIX = "'$PREFIX' .. "

#: What stands for a name in Redis that a file uses without being given it.
_NAMED = re.compile(r"'\$PREFIX' \.\. |\$[A-Z]+")


@dataclass(frozen=True)
class Script:
    """The script in the file of its `name`, which is read when it is first needed."""

    name: str
    names: Names = PLAIN
    """Those that it uses: its text depends on the prefix of the application."""

    def under(self, names: Names) -> "Script":
        """Return the same script for the application of these `names`."""
        return self if names is self.names else _under(self.name, names)

    @cached_property
    def source(self) -> str:
        """What Redis is given."""
        return _read(self.name, _named(self.names))

    @cached_property
    def sha(self) -> str:
        """The SHA-1 by which Redis knows it once it has run."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def _under(name: str, names: Names) -> Script:
    return Script(name, names)


def _named(names: Names) -> Mapping[str, str]:
    """Return what stands in the place of each name."""
    return {
        _PREFIX: f"'{names.prefix}' .. " if names.prefix else "",
        "$ENDS": names.ends,
        "$RETENTION": names.retention,
        "$CHANNELS": names.channels_key(""),
        "$GRANTS": names.grants_key(""),
        "$GROUPS": names.groups_key(""),
        "$GROUP": names.group_key(""),
        "$MEMBERS": names.members_key(""),
        "$FORMER": names.former_key(""),
        "$FORMEROF": names.former_of_group_key(""),
        "$END": END,
        "$REMOVE": REMOVE,
        "$WITHDRAW": WITHDRAW,
        "$REPLAYED": REPLAYED,
        "$REPLAY": names.replay,
        "$MOVE": names.move,
        "$REVOKED": names.revoked_key(""),
        "$INBOXES": INBOXES,
        "$ADD": ADD,
        "$GRANT": keys.GRANT,
        "$PAST": PAST,
    }


def _read(name: str, named: Mapping[str, str]) -> str:
    file = get_data(__name__, f"lua/{name}.lua") or b""
    code = _NAMED.sub(lambda it: named[it[0]], _HEAD.sub("", file.decode()))
    return _INCLUDE.sub(lambda it: indent(_read(f"include/{it[2]}", named), it[1]), code)


ADD_CHANNEL = Script("add_channel")
REMOVE_CHANNEL = Script("remove_channel")
CLEAR_CHANNELS = Script("clear_channels")
JOIN_GROUP = Script("join_group")
LEAVE_GROUP = Script("leave_group")
LEAVE_GROUPS = Script("leave_groups")
ADD_TO_GROUP = Script("add_to_group")
REMOVE_FROM_GROUP = Script("remove_from_group")
CLEAR_GROUP = Script("clear_group")
CHANNELS_OF = Script("channels_of")
HAS_CHANNEL = Script("has_channel")
GRANT = Script("grant")
GENERATE_TOKEN = Script("generate_token")
CLEAR_TOKEN = Script("clear_token")
REVOKE_TOKEN = Script("revoke_token")
RENEW_TOKEN = Script("renew_token")
OBTAIN_TOKEN = Script("obtain_token")
OPEN_SESSION = Script("open_session")
RENEW_SESSION = Script("renew_session")
END_SESSIONS = Script("end_sessions")
LIST_SESSIONS = Script("list_sessions")
SEE_SESSIONS = Script("see_sessions")
READ_TOKEN = Script("read_token")
WRITE_TOKEN = Script("write_token")
READ_TOKENS = Script("read_tokens")
WRITE_TOKENS = Script("write_tokens")
READ_SESSION = Script("read_session")
WRITE_SESSION = Script("write_session")
PUBLISH_PLAIN = Script("publish_plain")
PUBLISH_ONCE = Script("publish_once")
PUBLISH_RETAINED = Script("publish_retained")
PUBLISH_ALL = Script("publish_all")
ATTACH = Script("attach")
MARK = Script("mark")
LAST_IDS = Script("last_ids")
LOOK_UP = Script("look_up")
LIST_CHANNELS = Script("list_channels")
END_GRANTS = Script("end_grants")
READ_HISTORY = Script("read_history")
STARTS = Script("starts")
HISTORY = Script("history")
HOLD_PRESENCE = Script("hold_presence")
JOIN_PRESENCE = Script("join_presence")
LEAVE_PRESENCE = Script("leave_presence")
SWEEP_PRESENCE = Script("sweep_presence")
IS_ONLINE = Script("is_online")
ONLINE_IN = Script("online_in")
AUDIENCE = Script("audience")
BEGIN_RUN = Script("begin_run")
TELL_RUN = Script("tell_run")
HOLD_RUNS = Script("hold_runs")
STOP_RUN = Script("stop_run")
SWEEP_RUNS = Script("sweep_runs")
