"""Many nodes in one process, with fake streams: bench/simulate.py starts it, and talks to it.

Usage: python bench/nodes.py REDIS_URL COUNT

A node is what a daemon is towards Redis, one subscriber of it: its broker, with the sessions, the
subscriptions, the look-ups and the probes of that. A fake stream is admitted, opened and resumed as
any other; in place of a socket it has a list of what it was sent. Commands are lines of JSON on
standard input, `[name, argument]`; each has a line as its answer, on standard output.
"""

import gc
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakestream import FakeStream
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from sinapse.broker.broker import RedisBroker
from sinapse.counters import Counters
from sinapse.daemon.daemon import GC_THRESHOLDS
from sinapse.errors import BrokerUnavailable, SinapseError
from sinapse.protocol.redisurl import RedisURL
from sinapse.sockets.turns import be_fair

#: Bytes that may wait for a stream, as by default.
MAX_PENDING = 4 * 1024 * 1024

#: Streams that open at the same time.
WINDOW = 100

#: Seconds between two looks at what has no event.
PAUSE = 0.01


class Node:
    """A daemon without sockets."""

    def __init__(self, url: str) -> None:
        self.counters = Counters()
        self.broker: RedisBroker[FakeStream] = RedisBroker(
            RedisURL.parse(url),
            self.counters,
            max_pending=MAX_PENDING,
            max_channels=0,
            reactor=reactor,
        )
        #: When it was ready, and when it had lost Redis, on the clock that all processes share;
        #: each with the processor time that this one had used.
        self.ready: list[tuple[float, float]] = []
        self.lost: list[tuple[float, float]] = []
        self.broker.ready_watchers.append(self._note)
        self.broker.startService()

    def _note(self, is_ready: bool) -> None:
        (self.ready if is_ready else self.lost).append((time.monotonic(), time.process_time()))

    async def open(self, stream: FakeStream) -> None:
        """Open the stream of a new client."""
        await self._admit(stream, live=True)
        stream.last_id = self.broker.here

    async def come_back(self, stream: FakeStream) -> None:
        """End a stream, and open it again where it was, as its client does."""
        stream.read()
        self.broker.leave(stream)
        await self._admit(stream, live=False)
        self.broker.resume(stream, stream.last_id)

    async def _admit(self, stream: FakeStream, *, live: bool) -> None:
        failures = 0
        while True:
            try:
                admission = await self.broker.admit(stream.token)
                self.broker.open(admission, lambda: stream, live=live)
            except BrokerUnavailable:
                failures += 1
                await self.broker.when_ready(failures)
            else:
                return

    async def settle(self, streams: list[FakeStream]) -> None:
        """Return when everything that was published before has been sent to its streams."""
        failures = 0
        while True:
            try:
                await self.broker.when_ready(failures)
                await self.broker.barrier()
            except BrokerUnavailable:
                failures += 1
            else:
                break
        hub = self.broker.hub
        while hub.fan_outs or not all(map(self.broker.is_live, streams)):
            await deferLater(reactor, PAUSE)
        hub.flush()


class Nodes:
    """The nodes of this process, and what they can be asked to do."""

    def __init__(self, url: str, count: int) -> None:
        self._nodes = [Node(url) for _ in range(count)]
        self._streams: list[list[FakeStream]] = [[] for _ in range(count)]
        self._returns = LoopingCall(self._return_one)
        #: Clients that come back, in turn; those that are on their way; how many have.
        self._next: Iterator[tuple[Node, FakeStream]] = iter(())
        self._returning = 0
        self._returned = 0
        self._faults: list[str] = []

    async def ready(self, times: int) -> dict[str, Any]:
        """Wait until all nodes were ready so many times.

        Returns when each was, and the processor time used since the first has lost Redis before.
        """
        while not all(len(node.ready) >= times for node in self._nodes):
            await deferLater(reactor, PAUSE)
        ready = [node.ready[times - 1] for node in self._nodes]
        began = min((node.lost[times - 2][1] for node in self._nodes if times > 1), default=0)
        return {"at": [at for at, _ in ready], "used": max(used for _, used in ready) - began}

    async def open(self, users: list[tuple[str, str, int]]) -> int:
        """Open a stream for each user and token, on the node of that number."""
        todo = iter(users)

        async def work() -> None:
            for user, token, number in todo:
                stream = FakeStream(user, token.encode())
                self._streams[number].append(stream)
                await self._nodes[number].open(stream)

        await gatherResults(
            [Deferred.fromCoroutine(work()) for _ in range(WINDOW)], consumeErrors=True
        )
        return len(users)

    async def begin(self, argument: list[Any]) -> None:
        """Let streams of the `users` come back from now on, one in `interval` seconds."""
        interval, users = argument
        chosen = set(users)
        several = zip(self._nodes, self._streams, strict=True)
        each = [(node, one) for node, all_ in several for one in all_ if one.user in chosen]
        random.shuffle(each)
        if each:
            self._next = cycle(each)
            self._returns.start(interval, now=False)

    def _return_one(self) -> None:
        node, stream = next(self._next)
        if not node.broker.is_live(stream):
            return
        self._returning += 1

        def done(result: object) -> None:
            self._returning -= 1
            self._returned += 1
            if isinstance(result, Failure):
                self._faults.append(f"user {stream.user} cannot come back: {result.value}")

        Deferred.fromCoroutine(node.come_back(stream)).addBoth(done)

    async def settle(self, _: None) -> None:
        """Let no more streams come back, and return when everything published has been sent."""
        if self._returns.running:
            self._returns.stop()
        while self._returning:
            await deferLater(reactor, PAUSE)
        several = zip(self._nodes, self._streams, strict=True)
        await gatherResults(
            [Deferred.fromCoroutine(node.settle(streams)) for node, streams in several],
            consumeErrors=True,
        )

    async def count(self, _: None) -> dict[str, int]:
        """Return totals of all nodes."""
        counters = [node.counters for node in self._nodes]
        return {
            "messages": sum(each.messages for each in counters),
            "losses": sum(each.redis_losses for each in counters),
            "returned": self._returned,
        }

    async def received(self, _: None) -> dict[str, Any]:
        """Return what each user has received, and what was wrong."""
        streams = [stream for several in self._streams for stream in several]
        ranges = {stream.user: stream.read() for stream in streams}
        faults = [fault for stream in streams for fault in stream.faults]
        return {"ranges": ranges, "faults": [*self._faults, *faults]}


class Commands(LineReceiver):
    """Commands on standard input, one after the other; the process ends with them."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def lineReceived(self, line: bytes) -> None:  # noqa: D102, N802
        name, argument = json.loads(line)
        done = Deferred.fromCoroutine(getattr(self._nodes, name)(argument))
        done.addCallbacks(partial(self._answer, "done"), self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        # That of several at once is in the first of them.
        error = getattr(getattr(error, "subFailure", None), "value", error)
        text = str(error) if isinstance(error, SinapseError) else failure.getTraceback()
        self._answer("failed", text)

    def _answer(self, key: str, value: object) -> None:
        self.sendLine(json.dumps({key: value}).encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, D102, N802
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Run until standard input ends."""
    url, count = sys.argv[1:]
    # Ctrl-C at a terminal is for all its processes: this one is ended by who has started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_fair(reactor)
    gc.set_threshold(*GC_THRESHOLDS)
    StandardIO(Commands(Nodes(url, int(count))))
    reactor.run()


if __name__ == "__main__":
    main()
