"""The last event ID of a stream over several Redis: it has a part for each.

The parts have dots between them, in the order of the list: ``1f-7.a0-12.3c-5``. Where the Redis
have names, each part says its own: ``a_1f-7.b_a0-12``. So the order does not matter, and an id can
be read after the list has changed. Parts without names are those of the numbers from 0, which are
the names of Redis without one.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sinapse.protocol.ids import UNKNOWN, EventID
from sinapse.protocol.sharding import Shards, name_fault

#: What stands between the parts of an id.
SEPARATOR = "."

#: What stands between the name of a Redis and its part: neither names nor ids have it, and header
#: fields and URLs take it as it is.
_TAG = "_"


class Place(NamedTuple):
    """Where a stream is: the id of the last message of each Redis of a list."""

    parts: tuple[EventID, ...]
    former: Shards | None = None
    """All Redis that the id names, if some of them are not in the list any more."""
    gone: frozenset[str] = frozenset()
    """The names of these."""

    def has_lost(self, channel: bytes) -> bool:
        """Whether a channel was in a Redis that is gone: what it missed there is unknown.

        By rendezvous hashing any other one is where it was, or where the id says nothing of.
        """
        former = self.former
        return former is not None and former.names[former.of(channel)] in self.gone


def tag(shards: Shards, number: int) -> str:
    """Return what the part of a Redis begins with."""
    return shards.names[number] + _TAG if shards.are_named else ""


def join(shards: Shards, parts: Iterable[object]) -> str:
    """Return the id that has these parts, in the order of the list."""
    texts = (f"{tag(shards, number)}{part}" for number, part in enumerate(parts))
    return SEPARATOR.join(texts)


def parse(text: str, shards: Shards) -> Place:
    """Read the id of a stream over these Redis; an invalid part counts as unknown.

    So does a part that lacks: its Redis was added since. Without names, an id with more parts than
    there are Redis is unknown as a whole, because it does not say which of them are gone; with
    names, one of which most are gone is, because to find its channels would take long.
    """
    count = len(shards)
    named = _by_name(text.split(SEPARATOR, 2 * count))
    nothing_known = Place((UNKNOWN,) * count)
    if named is None or len(named) > 2 * count:
        return nothing_known
    gone = named.keys() - shards.names
    if gone and not shards.are_named and _TAG not in text:
        return nothing_known
    parts = tuple(EventID.parse(named.get(name, "")) or UNKNOWN for name in shards.names)
    return Place(parts, Shards(named), frozenset(gone)) if gone else Place(parts)


def part_of(channel: bytes, text: str, shards: Shards, number: int | None = None) -> EventID:
    """Return the part of an id that tells of a channel, in its place or in the one of `number`."""
    place = parse(text, shards)
    if place.has_lost(channel):
        return UNKNOWN
    return place.parts[shards.of(channel) if number is None else number]


def is_place(text: str) -> bool:
    """Whether `text` has the form of an id of a stream, over whatever Redis."""
    named = _by_name(text.split(SEPARATOR))
    return named is not None and all(map(EventID.parse, named.values()))


def _by_name(texts: list[str]) -> dict[str, str] | None:
    """Return parts by the names of their Redis; None if they are not those of one id."""
    pairs = [each.rpartition(_TAG) for each in texts]
    if not any(between for _, between, _ in pairs):
        return {str(number): each for number, each in enumerate(texts)}
    named = {name: part for name, _, part in pairs}
    if len(named) < len(pairs) or any(map(name_fault, named)):
        return None
    return named
