"""Rights that have ended beside others: since when a subject may listen without a break.

The right that is left may have begun later than the one that has ended. What was published before
it is for the subject all the same, as long as there was always one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

#: From which counter up to which one a right was there.
Times: TypeAlias = Sequence[tuple[int, int]]

#: By channel, the rights that have ended.
Former: TypeAlias = Mapping[bytes, Times]

#: That none has, as mostly.
NONE: Former = MappingProxyType({})

#: Channels of a group of which a node remembers more, for a while, than Redis does.
MOST = 2000


def unbroken(at: int, times: Iterable[tuple[int, int]]) -> int:
    """Return since when there was always a right, if the first of those that are left began `at`.

    Where nothing was published between two of them, there was no break.
    """
    for start, end in sorted(times, key=_end, reverse=True):
        if end < at:
            break
        at = min(at, start)
    return at


def clipped(times: Times, since: int, last: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the parts of times from one counter on, and up to another one."""
    for start, end in times:
        start, end = max(start, since), end if last is None else min(end, last)  # noqa: PLW2901
        if start <= end:
            yield start, end


def with_former(former: Former, ended: Iterable[tuple[bytes, int, int]]) -> Former:
    """Return `former` with further rights: channels, and the counters of beginning and end.

    Of many channels those whose rights ended first are left out.
    """
    found = dict(former)
    for name, start, end in ended:
        if start <= end:
            found[name] = (*found.get(name, ()), (start, end))
    if len(found) > MOST:
        latest = sorted(found, key=lambda name: found[name][-1][1])[MOST // 2 :]
        return {name: found[name] for name in latest}
    return found


def ended_after(former: Former, counter: int) -> set[bytes]:
    """Return the channels of which a right has ended after a counter."""
    return {name for name, times in former.items() if any(end > counter for _, end in times)}


def _end(time: tuple[int, int]) -> int:
    return time[1]
