"""Bringing streams over several Redis up to date: in each from its own part of the id."""

from collections.abc import Sequence

from sinapse.eventid import UNKNOWN, Place
from sinapse.replay import Replays
from sinapse.shards.hub import ShardedHub, Whole


class ShardedReplays:
    """The replays of each Redis."""

    def __init__(self, hub: ShardedHub, replays: Sequence[Replays]) -> None:
        self._hub = hub
        self._replays = tuple(replays)

    def begin(self, whole: Whole, last_event_id: str, position: Place) -> None:
        """Resume a stream that was opened replaying: see :meth:`sinapse.replay.Replays.begin`."""
        bundle = self._hub.bundle(whole)
        place = Place.parse(last_event_id, len(self._replays))
        bundle.begin_at(place)
        for number, replays in enumerate(self._replays):
            known = None if place[number] == UNKNOWN else place[number]
            replays.resume(bundle.members[number], known, position[number])
