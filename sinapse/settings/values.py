"""What an option means that was given as text: a function for each kind of value.

Each takes all texts that were given, of which mostly the last one counts, and raises ``ValueError``
with what they have to be.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sinapse.environment import is_off, is_on
from sinapse.protocol.names import prefix_fault
from sinapse.sockets.forwarded import TrustedProxies

Texts = Sequence[str]


def seconds(least: float, most: float) -> Callable[[Texts], float]:
    """Return what reads a number of seconds within these bounds."""

    def read(texts: Texts) -> float:
        try:
            value = float(texts[-1])
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return value

    return read


def number(least: int, most: int | None = None, unit: str = "") -> Callable[[Texts], int]:
    """Return what reads a whole number within these bounds; `unit` is for the error."""
    upto = "" if most is None else f" to {most}"

    def read(texts: Texts) -> int:
        text = texts[-1]
        # Not more digits than any number has that is meant: int() refuses thousands of them.
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if not least <= value or (most is not None and value > most):
            raise ValueError(f"must be a number{unit} from {least}{upto}")
        return value

    return read


def size(least: int, most: int | None = None) -> Callable[[Texts], int]:
    """Return what reads a number of bytes within these bounds."""
    return number(least, most, " of bytes")


def size_or_off(least: int, most: int | None = None) -> Callable[[Texts], int | None]:
    """Return what reads a number of bytes within these bounds, or off."""
    read_size = size(least, most)

    def read(texts: Texts) -> int | None:
        try:
            return None if is_off(texts[-1]) else read_size(texts)
        except ValueError as error:
            raise ValueError(f"{error}, or off") from None

    return read


def share(texts: Texts) -> float:
    """Read a part of all, in percent; returns it as a part of 1."""
    match = re.fullmatch(r"([0-9]{1,3})%", texts[-1])
    if match is None or int(match[1]) > 100:
        raise ValueError("must be a share from 0% to 100%")
    return int(match[1]) / 100


def flag(texts: Texts) -> bool:
    """Read what may have no value on the command line; most words in the environment mean yes."""
    return is_on(texts[-1])


def word(*words: str) -> Callable[[Texts], str]:
    """Return what reads one of `words`, in capitals or not."""
    meant = {each.lower(): each for each in words}

    def read(texts: Texts) -> str:
        if texts[-1].lower() not in meant:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return meant[texts[-1].lower()]

    return read


def switch(texts: Texts) -> bool:
    """Read on or off."""
    return not is_off(texts[-1]) and word("on", "off")(texts) == "on"


def endpoints(texts: Texts) -> tuple[str, ...]:
    """Read endpoint descriptions, of which a text may have several with spaces between."""
    found = tuple(each for text in texts for each in text.split())
    if not found:
        raise ValueError("names no endpoint")
    return found


def endpoint(texts: Texts) -> str | None:
    """Read one endpoint description, or off."""
    found = endpoints(texts[-1:])
    if len(found) > 1:
        raise ValueError("names more than one endpoint")
    return None if is_off(found[0]) else found[0]


def proxies(texts: Texts) -> tuple[str, ...]:
    """Read addresses and networks of proxies, or none."""
    entries = tuple(filter(None, re.split(r"[\s,]+", " ".join(texts))))
    if not entries:
        raise ValueError("names no proxy")
    if len(entries) == 1 and is_off(entries[0]):
        return ()
    TrustedProxies(entries)
    return entries


def hosts(texts: Texts) -> tuple[str, ...]:
    """Read host names, of which a text may have several with spaces between."""
    names = tuple(name.lower() for text in texts for name in text.split())
    if not names:
        raise ValueError("names no host")
    for name in names:
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
            raise ValueError(f"{name!r} is not a host name: write it without scheme and port")
    return names


def cookie(texts: Texts) -> bytes | None:
    """Read the name of a cookie, or off."""
    name = texts[-1]
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("is not a cookie name (RFC 6265 §4.1.1)")
    return None if is_off(name) else name.encode()


def prefix(texts: Texts) -> str:
    """Read what all names in Redis begin with, or none."""
    if is_off(texts[-1]):
        return ""
    if fault := prefix_fault(texts[-1]):
        raise ValueError(fault)
    return texts[-1]


def processes(texts: Texts) -> int:
    """Read a number of processes, or auto for one for each CPU."""
    text = texts[-1]
    if text.lower() == "auto":
        # Those that this process may run on, where the system tells.
        own = getattr(os, "sched_getaffinity", None)
        return len(own(0)) if own is not None else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise ValueError("must be a number of processes from 1 to 1024, or auto")
    return int(text)


def file(texts: Texts) -> Path | None:
    """Read the path of a file, or off."""
    if not texts[-1]:
        raise ValueError("names no file")
    return None if is_off(texts[-1]) else Path(texts[-1])
