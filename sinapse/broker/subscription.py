"""The connection that messages and control messages arrive on, in Redis' order.

Replies are handled as they are parsed, without a Deferred each, and when everything that one
read brought has been handled, the hub is flushed. That needs the parser of hiredis: the one in
pure Python takes three turns of the reactor a message.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any

import hiredis
import txredisapi
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sinapse.keys import CONTROL_PATTERN

#: Channels in one SUBSCRIBE: Redis handles each command whole, and 50,000 names take it 90 ms.
CHANNELS_PER_COMMAND = 1000


class Subscription(txredisapi.SubscriberProtocol):  # type: ignore[misc]  # untyped
    """One connection in subscriber mode.

    `read` is called when something has come, `published` with channel and payload, `controlled`
    with the name of a control channel and its payload, `handled` after each read.
    """

    read: Callable[[], None]
    published: Callable[[bytes, bytes], None]
    controlled: Callable[[bytes, bytes], None]
    handled: Callable[[], None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parser = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError
        )
        self._subscribed: set[bytes] = set()
        self._barriers: deque[Deferred[None]] = deque()
        #: What comes is not handled for now.
        self.is_held = False
        # AUTH and SELECT are answered before there is anything to do with messages.
        self.read = self.handled = lambda: None

    # Subscribing

    def subscribe_control(self) -> None:
        """Subscribe to the control messages of all subjects."""
        self._command(b"PSUBSCRIBE", CONTROL_PATTERN.encode())

    def subscribe_for_good(self, *channels: bytes) -> None:
        """Subscribe to channels that no subject has."""
        self._command(b"SUBSCRIBE", *channels)

    def set_interest(self, channels: Iterable[bytes], wanted: Container[bytes]) -> None:
        """Be subscribed to those of `channels` that are in `wanted`, and to no other of them."""
        channels = set(channels)
        drop = [name for name in channels & self._subscribed if name not in wanted]
        add = [name for name in channels - self._subscribed if name in wanted]
        self._subscribed.update(add)
        self._subscribed.difference_update(drop)
        for command, names in ((b"SUBSCRIBE", add), (b"UNSUBSCRIBE", drop)):
            for start in range(0, len(names), CHANNELS_PER_COMMAND):
                self._command(command, *names[start : start + CHANNELS_PER_COMMAND])

    def barrier(self) -> "Deferred[None]":
        """Fire when everything that Redis had done before now has been handled here.

        Redis answers in order on one connection, so the answer to a PING comes after the
        confirmations of every SUBSCRIBE before it, and after every message published until then.
        Fails with ``txredisapi.ConnectionError`` when the connection is lost.
        """
        if not self.connected:
            return fail(txredisapi.ConnectionError("connection lost"))
        fired: Deferred[None] = Deferred()
        self._barriers.append(fired)
        self._command(b"PING")
        return fired

    def _command(self, *words: bytes) -> None:
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # its hint is wrong

    # Receiving

    def hold(self) -> None:
        """Handle nothing more for now, and let Redis keep what it has for us."""
        self.is_held = True
        self.transport.pauseProducing()

    def release(self) -> None:
        """Handle what was held, and go on."""
        self.is_held = False
        self.transport.resumeProducing()
        self.dataReceived(b"")

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002, N802
        """Handle every whole reply of a read."""
        if data:  # What was held has been read before.
            self.read()
        parser = self._parser
        parser.feed(data)
        try:
            while not self.is_held and (reply := parser.gets()) is not False:
                self.replyReceived(reply)
        except txredisapi.InvalidData:  # Whatever this is, it does not speak Redis' protocol.
            self.transport.abortConnection()
        self.handled()

    def replyReceived(self, reply: Any) -> None:  # noqa: N802
        """Handle one reply: a push of subscriber mode, or the answer to AUTH or SELECT."""
        if type(reply) is not list:
            self._answered(reply)
            return
        kind = reply[0]
        if kind == b"message":
            self.published(reply[1], reply[2])
        elif kind == b"pmessage":
            self.controlled(reply[2], reply[3])
        elif kind == b"pong":
            self._barriers.popleft().callback(None)

    def _answered(self, reply: Any) -> None:
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        elif isinstance(reply, Exception):
            # A refused SUBSCRIBE or PING, by an ACL or while Redis is loading: what this
            # connection is subscribed to is no longer known.
            self.transport.abortConnection()
            self._fail_barriers(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Fail what waits, once it is known that the connection is no more."""
        super().connectionLost(reason)
        self._fail_barriers(txredisapi.ConnectionError("connection lost"))

    def _fail_barriers(self, error: Exception) -> None:
        # Who is told may ask for another one at once, which is not to fail here: that would go on
        # for ever.
        barriers, self._barriers = self._barriers, deque()
        for fired in barriers:
            fired.errback(error)
