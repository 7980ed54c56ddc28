"""The connection that messages and control messages arrive on, in Redis' order.

Each reply is handled when it is parsed, without a Deferred. After all replies of one read, the hub
is flushed. That needs the parser of hiredis: the one in pure Python takes three turns of the
reactor a message.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import hiredis
import txredisapi
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sinapse.protocol.keys import CONTROL_PATTERN
from sinapse.protocol.names import Names

#: Channels in one SUBSCRIBE: Redis handles each command whole, and 50,000 names take it 90 ms.
CHANNELS_PER_COMMAND = 1000

#: What is called with the name of a channel and a payload.
Heard = Callable[[bytes, bytes], None]


class _Asked:
    """A command without its answer yet: one for each name, or an error for all."""

    __slots__ = ("barrier", "is_optional", "left", "names")

    def __init__(
        self,
        names: Sequence[bytes],
        *,
        is_optional: bool = False,
        barrier: "Deferred[None] | None" = None,
    ) -> None:
        self.names = names
        self.left = len(names)
        #: Whether the session can go on if Redis refuses it.
        self.is_optional = is_optional
        #: The answer to a PING fires it.
        self.barrier = barrier


class Subscription(txredisapi.SubscriberProtocol):  # type: ignore[misc]  # untyped
    """One connection in subscriber mode, which speaks of names without the prefix of `names`.

    `read` is called when data have come, `handled` after each read, and `refused` with a channel
    that Redis refuses, and why; :meth:`hear` says what is called with messages.
    """

    #: The code that makes the connection sets them.
    names: Names

    read: Callable[[], None]
    handled: Callable[[], None]
    refused: Callable[[bytes, str], None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parser = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError
        )
        self._subscribed: set[bytes] = set()
        self._asked: deque[_Asked] = deque()
        #: Nothing that comes is handled for now.
        self.is_held = False
        # The answers to AUTH and SELECT come before any message.
        self.read = self.handled = lambda: None

    # Subscribing

    def subscribe_control(self) -> None:
        """Subscribe to the control messages of all subjects."""
        self._ask(b"PSUBSCRIBE", _Asked([CONTROL_PATTERN.encode()]))

    def subscribe_for_good(self, *channels: bytes) -> None:
        """Subscribe to channels that no subject has."""
        self._ask(b"SUBSCRIBE", _Asked(channels))

    def set_interest(self, channels: Iterable[bytes], wanted: Container[bytes]) -> None:
        """Subscribe to those of `channels` that are in `wanted`, and unsubscribe from the rest."""
        channels = set(channels)
        drop = [name for name in channels & self._subscribed if name not in wanted]
        add = [name for name in channels - self._subscribed if name in wanted]
        self._subscribed.update(add)
        self._subscribed.difference_update(drop)
        for command, names in ((b"SUBSCRIBE", add), (b"UNSUBSCRIBE", drop)):
            for start in range(0, len(names), CHANNELS_PER_COMMAND):
                some = names[start : start + CHANNELS_PER_COMMAND]
                self._ask(command, _Asked(some, is_optional=True))

    def barrier(self) -> "Deferred[None]":
        """Fire when everything that Redis had done before now has been handled here.

        Redis answers in order on one connection, so the answer to a PING comes after the
        confirmations of every SUBSCRIBE before it, and after every message published until then.
        Fails with ``txredisapi.ConnectionError`` when the connection is lost.
        """
        if not self.connected:
            return fail(txredisapi.ConnectionError("connection lost"))
        fired: Deferred[None] = Deferred()
        self._ask(b"PING", _Asked((), barrier=fired))
        return fired

    def _ask(self, command: bytes, asked: _Asked) -> None:
        self._asked.append(asked)
        names, prefix = asked.names, self.names.prefix.encode()
        words = (command, *([prefix + name for name in names] if prefix else names))
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # its hint is wrong

    # Receiving

    def hear(self, published: Heard, controlled: Heard) -> None:
        """Call `published` with a channel and a payload, `controlled` with those of control."""
        self._published = self._without_prefix(published)
        self._controlled = self._without_prefix(controlled)

    def _without_prefix(self, heard: Heard) -> Heard:
        """Return what is called with names in Redis, for `heard`."""
        length = len(self.names.prefix)
        if not length:
            return heard

        def hear(name: bytes, payload: bytes) -> None:
            heard(name[length:], payload)

        return hear

    def hold(self) -> None:
        """Handle nothing more for now; Redis keeps what follows."""
        self.is_held = True
        self.transport.pauseProducing()

    def release(self) -> None:
        """Handle what was held, and read on."""
        self.is_held = False
        self.transport.resumeProducing()
        self.dataReceived(b"")

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002, N802
        """Handle every whole reply of a read."""
        if data:  # Empty for what was held, which was read before.
            self.read()
        parser = self._parser
        parser.feed(data)
        try:
            while not self.is_held and (reply := parser.gets()) is not False:
                self.replyReceived(reply)
        except txredisapi.InvalidData:  # The peer does not use Redis' protocol.
            self.transport.abortConnection()
        self.handled()

    def replyReceived(self, reply: Any) -> None:  # noqa: N802
        """Handle one reply: a push of subscriber mode, or the answer to AUTH or SELECT."""
        if type(reply) is not list:
            self._answered(reply)
            return
        kind = reply[0]
        if kind == b"message":
            self._published(reply[1], reply[2])
        elif kind == b"pmessage":
            self._controlled(reply[2], reply[3])
        elif self._asked:  # After an error there may be answers that nothing waits for.
            asked = self._asked[0]
            asked.left -= 1
            if asked.left <= 0:
                self._asked.popleft()
                if asked.barrier is not None:
                    asked.barrier.callback(None)

    def _answered(self, reply: Any) -> None:
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        elif isinstance(reply, Exception) and self._asked:
            asked = self._asked[0]
            if asked.is_optional and str(reply).startswith("NOPERM"):
                self._asked.popleft()
                self._refuse(asked.names, str(reply))
            else:
                # For example a PING while Redis is loading: it is no longer known what this
                # connection is subscribed to.
                self.transport.abortConnection()
                self._fail_barriers(reply)

    def _refuse(self, names: Sequence[bytes], reason: str) -> None:
        """Find out which of `names` Redis refuses, and go on without it."""
        if len(names) == 1:
            self._subscribed.discard(names[0])
            self.refused(names[0], reason)
            return
        behind = [asked for asked in self._asked if asked.barrier is not None]
        for name in names:
            self._ask(b"SUBSCRIBE", _Asked([name], is_optional=True))
        # Their barriers wait until we are subscribed to these.
        for asked in behind:
            self._ask(b"PING", _Asked((), barrier=asked.barrier))
            asked.barrier = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Fail the waiting barriers, once the connection is known to be lost."""
        super().connectionLost(reason)
        self._fail_barriers(txredisapi.ConnectionError("connection lost"))

    def _fail_barriers(self, error: Exception) -> None:
        # A callback may ask for a new barrier at once, which must not fail here: that would go on
        # for ever.
        asked, self._asked = self._asked, deque()
        for each in asked:
            if each.barrier is not None:
                each.barrier.errback(error)
