"""Who listens to what, what is published, what each has to get and has: for bench/simulate.py."""

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from scaling import Traffic

#: Bytes of data of a message, as bench/scaling.py assumes.
DATA_SIZE = 128


#: For each channel ranges of numbers of messages: the first, and the one behind the last.
Ranges: TypeAlias = dict[str, list[list[int]]]


class Due(NamedTuple):
    """What happens so many seconds after the begin: a message, or without a channel a change."""

    at: float
    channel: str | None


class Change(NamedTuple):
    """A channel that is added to the list of a user, or removed from it."""

    user: int
    channel: str
    is_added: bool


class Received:
    """What a client has received: the ranges of numbers, in the order in which they came.

    It is one for each channel, if nothing is missing or doubled, and all came in order.
    """

    def __init__(self) -> None:
        self.ranges: Ranges = {}

    def add(self, channel: str, number: int) -> None:
        """Note a message."""
        ranges = self.ranges.setdefault(channel, [])
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] += 1
        else:
            ranges.append([number, number + 1])


class Population:
    """Users with a stream each, whose lists are those of a workload.

    A user whose list changes does not come back, and the other way round: what is removed while a
    client is away is not for it, so nobody could say how much of it must have come.
    """

    def __init__(self, traffic: Traffic, chance: random.Random) -> None:
        self.traffic = traffic
        self._chance = chance
        workload, streams = traffic.workload, traffic.streams
        self.lists: list[list[str]] = [
            [f"own:{user}:{number}" for number in range(workload.own)] for user in range(streams)
        ]
        self.own = [channel for each in self.lists for channel in each]
        self.shared: list[str] = []
        for number in range(workload.shared):
            self._share(number, workload.group)
        self.common = ["all"] if workload.common_rate else []
        for channels in self.lists:
            channels.extend(self.common)
        #: Messages of each channel by now.
        self.published: Counter[str] = Counter()
        #: Channels that were added to lists, with the numbers of the first message since then, and
        #: of the first that is not for them any more.
        self._granted: dict[int, dict[str, list[int | None]]] = {}
        self._removable: list[tuple[int, str]] = []
        #: Changes of lists by now.
        self.changes = 0

    def _share(self, number: int, size: int) -> None:
        """Put everybody into one of some more channels, with `size` others at random."""
        users = list(range(len(self.lists)))
        self._chance.shuffle(users)
        for first in range(0, len(users), size):
            channel = f"room:{number}:{first // size}"
            self.shared.append(channel)
            for user in users[first : first + size]:
                self.lists[user].append(channel)

    @property
    def returning(self) -> range:
        """The users who come back now and then."""
        return range(1, len(self.lists), 2)

    def due(self) -> Iterator[Due]:
        """Yield for ever what happens, at the rates of the load; each channel comes in turn."""
        it = self.traffic
        kinds = [
            self._evenly(it.own, self.own),
            self._evenly(it.shared, self.shared),
            self._evenly(it.workload.common_rate, self.common),
            self._evenly(it.changes, [None]),
        ]
        return heapq.merge(*kinds, key=attrgetter("at"))

    def _evenly(self, rate: float, channels: "list[str] | list[None]") -> Iterator[Due]:
        order: list[str | None] = [*channels]
        self._chance.shuffle(order)
        if not rate or not order:
            return
        for number in count():
            yield Due((number + 1) / rate, order[number % len(order)])

    def message(self, channel: str) -> str:
        """Return the data of the next message of a channel: its name, and a number."""
        number = self.published[channel]
        self.published[channel] += 1
        return f"{channel} {number} ".ljust(DATA_SIZE, "x")

    def change(self, *, may_remove: bool) -> Change:
        """Return the next change of a list: every second one takes back an addition."""
        self.changes += 1
        if may_remove and self.changes % 2 == 0 and self._removable:
            user, channel = self._removable.pop(0)
            self._granted[user][channel][1] = self.published[channel]
            return Change(user, channel, is_added=False)
        user = self._chance.randrange(0, len(self.lists), 2)
        granted = self._granted.setdefault(user, {})
        channel = self._chance.choice(self.shared or self.own or [f"quiet:{self.changes}"])
        while channel in granted or channel in self.lists[user]:
            channel = f"quiet:{self.changes}"
        granted[channel] = [self.published[channel], None]
        self._removable.append((user, channel))
        return Change(user, channel, is_added=True)

    def expected(self, user: int) -> Ranges:
        """Return what a user must have received: for each channel the range of its messages."""
        ranges = {channel: [[0, self.published[channel]]] for channel in self.lists[user]}
        for channel, (first, last) in self._granted.get(user, {}).items():
            end = self.published[channel] if last is None else last
            ranges[channel] = [[first or 0, end]]
        return {channel: each for channel, each in ranges.items() if each[0][0] < each[0][1]}

    @property
    def delivered(self) -> int:
        """Messages by now, each counted as often as it must have been received."""
        everybody = map(self.expected, range(len(self.lists)))
        return sum(last - first for each in everybody for ((first, last),) in each.values())
