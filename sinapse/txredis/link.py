"""A connection to Redis for commands.

Commands are sent without waiting for earlier answers. Each costs one Deferred, and all share one
timer; txredisapi makes two Deferreds and a timer for each. A stream that opens sends one command.
"""

from collections import deque
from typing import Any

import hiredis
import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sinapse.protocol.names import Names
from sinapse.protocol.role import QUESTION, is_master


class Link(txredisapi.RedisProtocol):  # type: ignore[misc]  # untyped
    """One connection for commands, which is closed when an answer is late.

    Every failure raises ``txredisapi.RedisError``: ``ResponseError`` if Redis refuses a command,
    ``ConnectionError`` or ``TimeoutError`` if it is unknown whether it was carried out.
    """

    #: The reactor, and the names that Sinapse uses there; the code that makes the link sets them.
    clock: Any
    names: Names

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parser = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError
        )
        #: The time at which each answer is due, and its Deferred.
        self._asked: deque[tuple[float, Deferred[Any]]] = deque()
        self._deadline: IDelayedCall | None = None

    @property
    def waiting(self) -> "Deferred[Any] | None":
        """The answer to the last command; None if all were answered."""
        return self._asked[-1][1] if self._asked else None

    def execute_command(self, *words: str | bytes | float) -> "Deferred[Any]":
        """Return the answer to a command; text in it is sent as UTF-8."""
        if not self.connected:
            raise txredisapi.ConnectionError("not connected")
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # its hint is wrong
        answer: Deferred[Any] = Deferred()
        due = self.clock.seconds() + self.replyTimeout
        self._asked.append((due, answer))
        if self._deadline is None:
            self._deadline = self.clock.callLater(self.replyTimeout, self._look_at_deadline)
        return answer

    async def is_master(self) -> bool:
        """Return whether this is a master."""
        answer: Any = await self.execute_command(*QUESTION)
        return is_master(answer)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002, N802
        """Handle every whole reply of a read."""
        parser = self._parser
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not False:
                self.replyReceived(reply)
        except txredisapi.InvalidData:  # The peer does not use Redis' protocol.
            self.transport.abortConnection()

    def replyReceived(self, reply: Any) -> None:  # noqa: N802
        """Complete the oldest command."""
        if not self._asked:
            return  # An error that Redis sends before it closes the connection.
        _, answer = self._asked.popleft()
        if isinstance(reply, Exception):
            answer.errback(reply)
        else:
            answer.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Fail the commands without an answer, once the connection is known to be lost."""
        super().connectionLost(reason)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._fail(txredisapi.ConnectionError("connection lost"))

    def _look_at_deadline(self) -> None:
        """Close the connection if the oldest answer is late."""
        self._deadline = None
        if not self._asked:
            return
        left = self._asked[0][0] - self.clock.seconds()
        if left > 0:
            self._deadline = self.clock.callLater(left, self._look_at_deadline)
            return
        self.transport.abortConnection()
        self._fail(txredisapi.TimeoutError(f"no answer within {self.replyTimeout:g} s"))

    def _fail(self, error: Exception) -> None:
        asked, self._asked = self._asked, deque()
        for _, answer in asked:
            answer.errback(error)
