"""Rights that have ended beside others: since when a subject may listen without a break.

The right that is left may have begun later than the one that has ended. What was published before
it is for the subject all the same, as long as there was always one of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

#: From which counter up to which one a right was there.
Times: TypeAlias = Sequence[tuple[int, int]]

#: By channel, the rights that have ended.
Former: TypeAlias = Mapping[bytes, Times]

#: That none has, as mostly.
NONE: Former = MappingProxyType({})


def unbroken(at: int, times: Times) -> int:
    """Return since when there was always a right, if the first of those that are left began `at`.

    Where nothing was published between two of them, there was no break.
    """
    for start, end in sorted(times, key=_end, reverse=True):
        if end < at:
            break
        at = min(at, start)
    return at


def with_former(former: Former, ended: Iterable[tuple[bytes, int, int]]) -> Former:
    """Return `former` with further rights: channels, and the counters of beginning and end."""
    found = dict(former)
    for name, start, end in ended:
        if start <= end:
            found[name] = (*found.get(name, ()), (start, end))
    return found


def _end(time: tuple[int, int]) -> int:
    return time[1]
