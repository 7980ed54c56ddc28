"""A daemon that counts its own work: twistd, with somebody who listens on the UNIX socket `probe`.

Run by test_work as ``python -m tests.support.work_probe SOCKET ARGUMENTS``, the latter
as twistd has them. A line ``begin calls``, ``begin blocks`` or ``begin bytes`` begins to count, and
is answered by an empty line; ``end`` ends it, and is answered by a JSON object:

calls   functions that were called, by name: those of Python, and those of C, system calls included
blocks  blocks of memory that Python has got and not given back
bytes   bytes of such blocks that were got since the beginning, by what got them
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections import Counter
from types import FrameType
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.scripts.twistd import run

reactor: Any = _reactor


class Calls:
    """Counts function calls of this thread."""

    def __init__(self) -> None:
        self._called: Counter[str] = Counter()

    def begin(self) -> None:
        called = self._called

        def note(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                called[frame.f_code.co_qualname] += 1
            elif event == "c_call":
                called[argument.__name__] += 1

        sys.setprofile(note)

    def end(self) -> dict[str, int]:
        sys.setprofile(None)
        return dict(self._called.most_common())


class Blocks:
    """Counts blocks of memory."""

    def begin(self) -> None:
        gc.collect()
        self._before = sys.getallocatedblocks()

    def end(self) -> dict[str, int]:
        gc.collect()
        return {"blocks": sys.getallocatedblocks() - self._before}


class Bytes:
    """Counts bytes, by the line of code that got them."""

    def begin(self) -> None:
        gc.collect()
        tracemalloc.start()

    def end(self) -> dict[str, int]:
        gc.collect()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        return {str(each.traceback): each.size for each in snapshot.statistics("lineno")}


KINDS: dict[str, type[Calls | Blocks | Bytes]] = {"calls": Calls, "blocks": Blocks, "bytes": Bytes}


class Probe(LineOnlyReceiver):
    """Does what it is told, a line each."""

    delimiter = b"\n"
    counting: Calls | Blocks | Bytes

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        word, _, kind = line.decode().partition(" ")
        answer = ""
        if word == "begin":
            self.counting = KINDS[kind]()
            self.counting.begin()
        else:
            answer = json.dumps(self.counting.end())
        self.sendLine(answer.encode())


def main() -> None:
    path = sys.argv.pop(1)
    reactor.callWhenRunning(reactor.listenUNIX, path, Factory.forProtocol(Probe))
    run()


if __name__ == "__main__":
    main()
