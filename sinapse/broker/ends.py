"""Grants that end: this node ends them in Redis when their time has come.

Redis knows when each grant ends, and it is Redis that ends one: a script removes the channel from
the list, and announces that as it does any removal, so every node hears it in the order of
messages. Scripts that publish do so on the way, and look-ups leave out what has ended; so nothing
that is published after the end is heard, whatever nodes are doing. They see to it that streams and
lists change when the time comes, and not with the next message: each waits for the first end of
all, and whichever asks first does it for all.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.ids import parse_counter

#: Grants that one script ends: it blocks Redis for about a millisecond.
GRANTS_PER_STEP = 200

#: Seconds between two questions at least: grants that end together are asked for together.
STEP_PAUSE = 0.005

#: Seconds until Redis is asked again at the latest: no timer of a year is needed.
MAX_WAIT = 3600.0

#: Seconds until Redis is asked again that has refused: it may take no writes for now.
RETRY_DELAY = 1.0

#: Ends the grants whose time has come, up to so many. Returns in how many milliseconds the next one
#: ends: 0 if there are more, a negative number if there is none.
EndGrants = Callable[[int], Coroutine[Any, Any, int]]


class Ends:
    """Waits for the first grant of a Redis to end, and lets `end_grants` end it.

    `end_grants` raises :class:`~sinapse.errors.BrokerUnavailable`.
    """

    _log = Logger()

    def __init__(self, end_grants: EndGrants, reactor: Any) -> None:
        self._end_grants = end_grants
        self._reactor = reactor
        self._waiting: Any = None
        self._is_connected = False

    def connected(self) -> None:
        """Begin: what is to end is asked now."""
        self._is_connected = True
        self._wait(0)

    def disconnected(self) -> None:
        """Forget what was known: the next session asks."""
        self._is_connected = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def announced(self, value: bytes) -> None:
        """Note the announcement of a grant that ends before all others, in some milliseconds."""
        if (milliseconds := parse_counter(value)) is not None:
            self._wait(min(milliseconds / 1000, MAX_WAIT))

    def _wait(self, seconds: float) -> None:
        """Ask in so many seconds, unless that is done earlier anyway."""
        if not self._is_connected:
            return
        if self._waiting is not None:
            if self._waiting.getTime() <= self._reactor.seconds() + seconds:
                return
            self._waiting.cancel()
        self._waiting = self._reactor.callLater(seconds, self._ask)

    def _ask(self) -> None:
        self._waiting = None
        Deferred.fromCoroutine(self._end_what_is_over()).addErrback(self._failed)

    async def _end_what_is_over(self) -> None:
        try:
            left = await self._end_grants(GRANTS_PER_STEP)
        except BrokerUnavailable:
            self._wait(RETRY_DELAY)
            return
        if left >= 0:
            self._wait(max(left / 1000, STEP_PAUSE))

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("grants were not ended", failure=failure)
