"""Bringing streams over several Redis up to date: in each from its own part of the id."""

from collections.abc import Sequence

from sinapse.broker.replay import Replays, Resuming
from sinapse.broker.shards.hub import ShardedHub
from sinapse.errors import ResetReason
from sinapse.protocol.ids import UNKNOWN, Place


class ShardedReplays:
    """The replays of each Redis."""

    def __init__(self, hub: ShardedHub, replays: Sequence[Replays]) -> None:
        self._hub = hub
        self._replays = tuple(replays)

    def begin(self, whole: Resuming, last_event_id: str) -> None:
        """Resume a stream that gets nothing yet: see :meth:`sinapse.broker.replay.Replays.begin`.

        Where its id has no part that is known, it goes on from here, and is told so once; as a
        loss only if it may listen to something there.
        """
        bundle = self._hub.bundle(whole)
        place = Place.parse(last_event_id, len(self._replays))
        unknown = [
            number
            for number, replays in enumerate(self._replays)
            if place[number] == UNKNOWN or not replays.may_know(place[number])
        ]
        if unknown:
            here = self._hub.here
            place = Place(
                here[number] if number in unknown else part for number, part in enumerate(place)
            )
        bundle.begin_at(place)
        if unknown:
            subjects = [bundle.members[number].subject for number in unknown]
            channels = set().union(*(each.channels for each in subjects if each is not None))
            framing = whole.framing
            text = str(place)
            if channels:
                self._hub.count_reset()
                whole.send(framing.reset(ResetReason.UNKNOWN_ID, channels, text))
            else:
                whole.send(framing.position(text))
        for number, replays in enumerate(self._replays):
            member = bundle.members[number]
            if number in unknown:
                self._hub.hubs[number].go_live(member)
            else:
                replays.resume(member, place[number])
