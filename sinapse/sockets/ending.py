"""The end of a connection in good order, with a deadline.

To close a connection is to write what waits first. Over TLS both sides then say that this was all
(RFC 8446 §6.1), and Twisted waits for the client to say so: for ever, if its process is frozen.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: Seconds that a client has to confirm the end, or, if it was refused, to read why.
CLOSE_TIMEOUT = 2

#: Seconds without progress after which a client that does not read its answer is closed: as long as
#: TCP waits for an acknowledgement of data.
READ_TIMEOUT = 60


def unwritten(transport: Any) -> int:
    """Return how many bytes `transport`, one of Twisted's sockets, keeps until there is room."""
    waiting = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return waiting + int(getattr(transport, "_tempDataLen", 0))


class Ending:
    """Ends a connection whose `socket` is about to be closed, sooner or later.

    It waits as long as the client reads. When the kernel has all bytes, and sends them by itself,
    the client has :data:`~sinapse.sockets.ending.CLOSE_TIMEOUT` seconds to confirm the end.
    """

    __slots__ = ("_call_later", "_look", "_patience", "_socket", "_waiting")

    def __init__(self, socket: Any, call_later: Callable[..., IDelayedCall]) -> None:
        self._socket = socket
        self._call_later = call_later
        self._begin_again(unwritten(socket))

    def _begin_again(self, waiting: int) -> None:
        self._waiting = waiting
        self._patience = READ_TIMEOUT
        self._look_later()

    def _look_later(self) -> None:
        self._look = self._call_later(CLOSE_TIMEOUT, self._look_now)

    def _look_now(self) -> None:
        waiting = unwritten(self._socket)
        self._patience -= CLOSE_TIMEOUT
        if not waiting:
            self._socket.loseConnection()
        elif waiting < self._waiting:
            self._begin_again(waiting)
        elif self._patience > 0:
            self._look_later()
        else:
            self._socket.abortConnection()

    def stop(self) -> None:
        """Look no more: it has ended."""
        if self._look.active():
            self._look.cancel()
