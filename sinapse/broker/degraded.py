"""Telling streams which of several Redis are away, and when all are back: the event ``degraded``.

Its data are a JSON array of the names of those from which a stream gets nothing for now. A stream
that opens without one is told at once. An open stream is told of a loss that lasts; and each is
told again when that Redis is there for it: what it lacks follows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import coiterate

from sinapse.broker.broker import RedisBroker
from sinapse.broker.bundle import Bundle
from sinapse.broker.interface import Resuming
from sinapse.broker.late import LateStreams

#: Seconds after which open streams are told of a loss: most are over by then.
PATIENCE = 1

EVENT = "degraded"


class Degraded:
    """Watches `parts`, which are called `names`; `late` are the streams that wait for each.

    `bundles` are the open streams.
    """

    def __init__(
        self,
        names: Sequence[str],
        parts: Sequence[RedisBroker[Any]],
        late: Sequence[LateStreams],
        bundles: Mapping[Resuming, Bundle],
        reactor: Any,
    ) -> None:
        self._names = names
        self._late = late
        self._bundles = bundles
        self._reactor = reactor
        self._away: set[int] = set()
        self._losses: dict[int, IDelayedCall] = {}
        for number, part in enumerate(parts):
            part.ready_watchers.append(partial(self._told, number))

    def start(self) -> None:
        """Begin: none is there yet."""
        for number in range(len(self._names)):
            self._told(number, False)

    def stop(self) -> None:
        """Tell nobody any more."""
        for number in list(self._losses):
            self._losses.pop(number).cancel()

    def opened(self, bundle: Bundle) -> None:
        """Tell a new stream what it lacks, behind its first bytes."""
        self._reactor.callLater(0, self.tell, bundle)

    def tell(self, bundle: Bundle) -> None:
        """Tell a stream what it lacks, if that has changed."""
        if bundle.stream not in self._bundles:
            return
        lacks = tuple(
            name
            for number, name in enumerate(self._names)
            if number in self._away or bundle in self._late[number]
        )
        if lacks != bundle.lacks:
            bundle.lacks = lacks
            bundle.stream.notice(EVENT, json.dumps(lacks))

    def _told(self, number: int, is_ready: bool) -> None:
        if (loss := self._losses.pop(number, None)) is not None:
            loss.cancel()
        if not is_ready:
            self._losses[number] = self._reactor.callLater(PATIENCE, self._lost, number)
        elif number in self._away:
            self._away.discard(number)
            self._tell_all()

    def _lost(self, number: int) -> None:
        del self._losses[number]
        self._away.add(number)
        self._tell_all()

    def _tell_all(self) -> None:
        """Tell them one after the other, with turns of the reactor between."""

        def one_by_one() -> Iterator[None]:
            for bundle in list(self._bundles.values()):
                self.tell(bundle)
                yield

        coiterate(one_by_one())
