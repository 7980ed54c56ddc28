"""What it means when a Redis refuses a command: in its texts, and in those of its kin."""

import re
from enum import Enum, auto


class Refusal(Enum):
    """Why a command is refused."""

    COMMAND = auto()
    """The user may not use the command."""
    KEY = auto()
    """The user may not use the key."""
    CHANNEL = auto()
    """The user may not use the channel."""
    UNKNOWN = auto()
    """There is no such command."""
    SCRIPT = auto()
    """Not in a script."""
    UNDECLARED = auto()
    """The script was not given the key."""
    CLUSTER = auto()
    """Keys are on different nodes, or on another one."""


#: What is in texts of Redis 6.2 to 8, Valkey and Dragonfly; redis-py has taken the first word away.
#: The first that is found counts.
_TEXTS = (
    (r"undeclared key", Refusal.UNDECLARED),
    (r"same slot|slot not served|^\d+ \S*:\d+$", Refusal.CLUSTER),
    (r"not allowed from script", Refusal.SCRIPT),
    (r"unknown", Refusal.UNKNOWN),
    (r"no permissions to run|can't run this command", Refusal.COMMAND),
    (r"one of the keys|access a key", Refusal.KEY),
    (r"channel", Refusal.CHANNEL),
)


def refusal_of(text: str) -> Refusal | None:
    """Return why a command is refused with that text; None if it is for something else."""
    for pattern, refusal in _TEXTS:
        if re.search(pattern, text, re.IGNORECASE):
            return refusal
    return None
