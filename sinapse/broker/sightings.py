"""When a stream of a session was open last: reported to Redis, for the lists that people see.

Nothing depends on it, so it is never in the way of a stream that opens: what cannot be reported is
left out.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.task import deferLater

from sinapse.broker.background import BackgroundService
from sinapse.broker.broker import RedisBroker
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import session_id
from sinapse.protocol.scripts import SEE_SESSIONS

#: Seconds between two reports of sessions whose streams have opened or ended.
REPORT_INTERVAL = 1.0

#: Reports between two of all sessions with open streams: a minute.
REPORTS_PER_ROUND = 60

#: Sessions in one step: less than a millisecond of Redis.
SESSIONS_PER_COMMAND = 200


class Sightings(BackgroundService):
    """Reports each session to the Redis `parts`, of which one keeps it."""

    def __init__(self, parts: Sequence[RedisBroker[Any]], reactor: Any) -> None:
        self._parts = parts
        self._reactor = reactor
        #: How many streams each token of a session has.
        self._streams: Counter[bytes] = Counter()
        #: Those whose streams have opened or ended since the last report.
        self._changed: set[bytes] = set()

    def opened(self, token: bytes) -> None:
        """Note that a stream has opened with a token."""
        if session_id(token) is not None:
            self._streams[token] += 1
            self._changed.add(token)

    def closed(self, token: bytes) -> None:
        """Note that a stream of a token has ended."""
        if token in self._streams:
            self._streams[token] -= 1
            if not self._streams[token]:
                del self._streams[token]
            self._changed.add(token)

    async def stay(self) -> None:
        """Report what has changed, and now and then all that is open."""
        while True:
            for _ in range(REPORTS_PER_ROUND):
                await deferLater(self._reactor, REPORT_INTERVAL)
                changed, self._changed = self._changed, set()
                await self._report(changed)
            self._changed.update(self._streams)

    async def _report(self, tokens: Iterable[bytes]) -> None:
        ids = [session_id(token) or "" for token in tokens]
        for part in self._parts:
            try:
                for start in range(0, len(ids), SESSIONS_PER_COMMAND):
                    some = ids[start : start + SESSIONS_PER_COMMAND]
                    await part.run(SEE_SESSIONS, [], [part.names.session_key(""), *some])
            except BrokerUnavailable:
                continue
