"""The connection to one Redis, and the workers that share it: they live and die together."""

from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import txredisapi
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sinapse.ear import answers
from sinapse.ear.interest import Client
from sinapse.ear.multiplexer import Broken, Multiplexer, NotUnderstood
from sinapse.ear.wire import Wire
from sinapse.protocol.redisurl import RedisURL
from sinapse.sockets.turns import prefer
from sinapse.txredis.dial import dial

#: Seconds between two PINGs of our own, and for the answer to one: within twice that a Redis that
#: does not answer is left. Otherwise a worker that leaves would come back to the same connection,
#: which others still share.
CHECK_INTERVAL = 4

#: Turns of the reactor that an interval takes at least, and that an answer may be late: it may be
#: us who have not read yet.
CHECK_TURNS = 16
CHECK_GRACE = 4


class Line(txredisapi.SubscriberProtocol):  # type: ignore[misc]  # untyped
    """The connection itself: `heard` is called with each reply, `handled` after each read."""

    heard: Callable[[Any], None]
    handled: Callable[[], None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parser = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError
        )
        # The answers to AUTH and SELECT come before any message.
        self.heard = super().replyReceived
        self.handled = lambda: None

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002, N802
        """Handle every whole reply of a read."""
        parser = self._parser
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not False:
                self.heard(reply)
        except txredisapi.InvalidData:  # The peer does not use Redis' protocol.
            self.transport.abortConnection()
        self.handled()


class Upstream:
    """A connection to the Redis of `url`; `ended` is called when it is not used any more."""

    _log = Logger()

    def __init__(self, url: RedisURL, ended: Callable[["Upstream"], None], reactor: Any) -> None:
        self.url = url
        self._ended = ended
        self._reactor = reactor
        self._multiplexer = Multiplexer()
        self._line: Line | None = None
        #: Workers that wait for the connection, and those that share it.
        self._coming: list[Wire] = []
        self._wires: dict[Client, Wire] = {}
        self._will_flush = False
        self._is_over = False
        self._own = self._multiplexer.join()
        self._checks = LoopingCall(self._check)
        self._checks.clock = reactor
        self._turns = 0

    def admit(self, wire: Wire) -> None:
        """Let a worker share the connection, as soon as there is one."""
        wire.commanded = self
        wire.lost.append(self._lost)
        self._coming.append(wire)
        self._let_in()

    def _let_in(self) -> None:
        if self._line is None:
            return
        coming, self._coming = self._coming, []
        for wire in coming:
            wire.client = client = self._multiplexer.join()
            self._wires[client] = wire
            wire.send([answers.OK])

    async def connect(self) -> None:
        """Connect; if that fails, the workers that wait are told why."""
        try:
            line = await dial(Line, self.url, self._reactor)
        except Exception as error:  # noqa: BLE001  # Whatever it is: they try again.
            self._end(str(error) or type(error).__name__)
            return
        if self._is_over:
            line.transport.abortConnection()
            return
        self._line = line
        line.heard, line.handled = self._heard, self._flush
        let_go = prefer(line.transport, self._reactor)

        def lost(_: object) -> None:
            let_go()
            self._end("connection lost")

        line.whenDisconnected().addCallback(lost)
        self._log.info("hears {url} for the workers", url=str(self.url))
        self._checks.start(CHECK_INTERVAL / CHECK_TURNS, now=False)
        self._let_in()

    # Workers

    def command(self, wire: Wire, words: Sequence[bytes]) -> None:
        """Carry out a command of a worker."""
        client = wire.client
        if client is None:  # It has not waited for its first answer.
            wire.transport.abortConnection()
            return
        try:
            self._multiplexer.ask(client, words)
        except NotUnderstood as error:
            wire.send([answers.error(f"ERR not understood: {error}")])
            wire.close()
        if not self._will_flush:
            # All that comes in this turn goes together.
            self._will_flush = True
            self._reactor.callLater(0, self._flush)

    def _lost(self, wire: Wire) -> None:
        """Forget a worker; without any the connection ends."""
        if wire.client is None:
            if wire in self._coming:
                self._coming.remove(wire)
        elif self._wires.pop(wire.client, None) is not None:
            self._multiplexer.leave(wire.client)
            self._flush()
        if not self._wires and not self._coming:
            self._end("nobody needs it")

    # Redis

    def _heard(self, reply: Any) -> None:
        try:
            self._multiplexer.hear(reply)
        except Broken as error:
            self._end(str(error))

    def _flush(self) -> None:
        """Send what has come together: to Redis, and to each worker."""
        self._will_flush = False
        if self._line is None:
            return
        if commands := self._multiplexer.commands():
            self._line.transport.write(b"".join(map(_packed, commands)))
        for client, wire in self._wires.items():
            if client.out:
                parts, client.out = client.out, []
                wire.send(parts)

    def _check(self) -> None:
        """Leave a Redis that does not answer."""
        self._turns += 1
        own = self._own
        if own.out:
            own.out.clear()
        elif own.commands:
            if self._turns >= CHECK_TURNS + CHECK_GRACE:
                self._end(f"no answer within {CHECK_INTERVAL} s")
            return
        if self._turns >= CHECK_TURNS:
            self._turns = 0
            self._multiplexer.ask(own, [b"PING"])
            self._flush()

    def _end(self, reason: str) -> None:
        """Close everything: workers begin new sessions, as after any loss of Redis."""
        if self._is_over:
            return
        self._is_over = True
        self._ended(self)
        if self._checks.running:
            self._checks.stop()
        line, self._line = self._line, None
        if line is not None:
            line.transport.abortConnection()
            self._log.info("hears {url} no more: {error}", url=str(self.url), error=reason)
        for client, wire in self._wires.items():
            # What Redis has sent before its end counts.
            wire.send([*client.out, answers.error(f"ERR {reason}")])
            wire.close()
        for wire in self._coming:
            wire.send([answers.error(f"ERR {reason}")])
            wire.close()


def _packed(words: tuple[bytes, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its hint is wrong
    return packed
