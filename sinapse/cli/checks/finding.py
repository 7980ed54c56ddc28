"""What a check has found, and what to do about it."""

from enum import Enum
from typing import NamedTuple

#: Seconds in which whatever is asked has to answer: Redis, the daemon, a stream.
ANSWER_TIMEOUT = 5.0


class Verdict(Enum):
    """How good or bad it is."""

    FINE = ("ok", "green")
    DOUBT = ("warning", "yellow")
    WRONG = ("wrong", "red")


class Finding(NamedTuple):
    """What was checked, what was found, and what to do."""

    verdict: Verdict
    what: str
    found: str
    advice: str = ""


def text_of(error: Exception) -> str:
    """Return the text of `error` without line breaks."""
    return " ".join(str(error).split())
