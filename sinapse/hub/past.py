"""The past of channels that are new to a stream: retained messages from before its id.

A new stream gets the past of all its channels that have one; a stream that is open, or comes back,
gets that of channels that were granted after its id. Messages come in the order of ids across all
channels, and while they are from before a grant, the id of the stream says how far it has got them:
see :mod:`sinapse.protocol.ids`. So a stream that breaks in the midst goes on from there.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sinapse.hub.subscribers import Subject
from sinapse.protocol.ids import EventID, Past


class Reading(NamedTuple):
    """What a stream is to get from its id on."""

    wants: Mapping[bytes, int]
    """Its channels, and the counter after which each is read."""
    pasts: Mapping[bytes, int]
    """Those of which it gets the past, with the counters of their grants."""
    bound: int
    """The counter up to which there may be messages from before a grant."""
    before: EventID
    """The id."""

    def place(self, counter: int) -> EventID:
        """Return the id of the stream when it has got everything up to a counter."""
        epoch, after, past = self.before
        if counter >= self.bound:
            return EventID(epoch, counter)
        of_all = past is not None and past.of_all
        return EventID(epoch, max(after, counter), Past(counter, of_all))

    def expected(self, name: bytes) -> int:
        """Return the counter up to which the loss of a message of that channel is none.

        Nobody is promised more of a past than what is retained.
        """
        if name not in self.pasts:
            return 0
        return max(self.before.counter, self.pasts[name])


class Pasts:
    """What is known of the pasts that one stream gets, while it is in a replay."""

    def __init__(self, place: EventID) -> None:
        #: Where the past of a channel begins, for the grant of a counter; None if it has none.
        self._starts: dict[bytes, tuple[int, int | None]] = {}
        # The last messages are others by now: from here on, nothing is left out.
        self._is_begun = place.past is not None and place.past.upto > 0

    def unknown(self, subject: Subject, place: EventID) -> dict[bytes, int]:
        """Return the channels of which is not known where their past begins, with their grants."""
        return {
            name: at
            for name, at in _new(subject, place).items()
            if self._starts.get(name, (-1, None))[0] != at
        }

    def learn(self, asked: Mapping[bytes, int], starts: Mapping[bytes, int]) -> None:
        """Take the answer for `asked`: the counters after which the past of each begins."""
        for name, at in asked.items():
            start = starts.get(name)
            self._starts[name] = at, 0 if start is not None and self._is_begun else start

    def reading(self, subject: Subject, place: EventID) -> Reading:
        """Return what the stream is to get after `place`."""
        since = subject.since or {}
        wants = {name: max(place.counter, since.get(name, 0)) for name in subject.channels}
        upto = 0 if place.past is None else place.past.upto
        pasts, bound = {}, 0
        for name, at in _new(subject, place).items():
            start = self._starts[name][1]
            if start is not None:
                pasts[name] = at
                bound = max(bound, wants[name])
                wants[name] = max(upto, min(start, wants[name]))
        return Reading(wants, pasts, bound, place)


def _new(subject: Subject, place: EventID) -> dict[bytes, int]:
    """Return the channels that are new to a stream at `place`, and when each was granted."""
    since = subject.since or {}
    if place.past is not None and place.past.of_all:
        return {name: since.get(name, 0) for name in subject.channels}
    names: Iterable[bytes] = subject.channels & since.keys()
    return {name: since[name] for name in names if since[name] > place.counter}
