"""The past of channels that are new to a stream: retained messages from before its id.

A new stream gets the past of all its channels that have one, in the order of ids across them, then
what follows. A stream that is open, or comes back, and was granted such a channel after its id,
gets what was published before the grant, then the past of the channel, then what follows: one grant
after the other. While it gets a past its id says how far, see :mod:`sinapse.protocol.ids`; so a
stream that breaks in the midst goes on from there.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sinapse.hub.subscribers import Subject
from sinapse.protocol.ids import EventID, Past


class Reading(NamedTuple):
    """What a stream is to get next, from its id on."""

    wants: Mapping[bytes, int]
    """Channels, and the counter after which each is read."""
    pasts: Mapping[bytes, int]
    """Those of which it is the past, with the counters of their grants; all or none of them."""
    before: EventID
    """The id."""
    limit: int | None = None
    """The counter up to which it is read; None for all that there is."""

    def place(self, counter: int) -> EventID:
        """Return the id of the stream when it has got everything up to a counter."""
        epoch, after, past = self.before
        if not self.pasts:
            return EventID(epoch, max(after, counter))
        of_all = past is not None and past.of_all
        if of_all and counter >= after:
            return EventID(epoch, after)
        return EventID(epoch, after, Past(counter, of_all))


class Pasts:
    """What is known of the pasts that one stream gets, while it is in a replay."""

    def __init__(self) -> None:
        #: Where the past of a channel begins, for the grant of a counter; None if it has none.
        self._starts: dict[bytes, tuple[int, int | None]] = {}

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
            self._starts[name] = at, starts.get(name)

    def reading(self, subject: Subject, place: EventID) -> Reading:
        """Return what the stream is to get after `place`; nothing may be unknown."""
        due = {
            name: at
            for name, at in _new(subject, place).items()
            if self._starts[name][1] is not None
        }
        past, upto = place.past, place.counter
        if past is not None and past.of_all:
            now = {name: at for name, at in due.items() if at <= upto}
            if now and past.upto < upto:
                return Reading(self._begin(now, past), now, place, upto)
            past = None
        now = {name: at for name, at in due.items() if at == upto + 1}
        if now and (past is None or past.upto <= upto):
            return Reading(self._begin(now, past), now, place._replace(past=past), upto + 1)
        wants = {name: max(upto, subject.granted_at(name) or 0) for name in subject.heard()}
        later = [at - 1 for at in due.values() if at > upto + 1]
        return Reading(wants, {}, place._replace(past=None), min(later, default=None))

    def _begin(self, names: Mapping[bytes, int], past: Past | None) -> dict[bytes, int]:
        upto = 0 if past is None else past.upto
        return {name: max(upto, self._starts[name][1] or 0) for name in names}


def _new(subject: Subject, place: EventID) -> dict[bytes, int]:
    """Return the channels that are new to a stream at `place`, and when each was granted."""
    grants = {name: subject.granted_at(name) or 0 for name in subject.heard()}
    if place.past is not None and place.past.of_all:
        return grants
    return {name: at for name, at in grants.items() if at > place.counter}
