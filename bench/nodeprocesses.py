"""The processes of bench/nodes.py, started and asked."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from machine import cpu
from population import Ranges

from tests.support import end

PROGRAM = Path(__file__).parent / "nodes.py"

#: Seconds in which an answer has to come: of many nodes at once, on a machine that does other work.
ANSWER_TIMEOUT = 300


class NodeFigures(NamedTuple):
    """Totals of all nodes.

    They are messages heard, streams that came back, losses of Redis, and seconds on a processor.
    """

    messages: int
    returned: int
    losses: int
    seconds: float

    def since(self, before: "NodeFigures") -> "NodeFigures":
        """Return what was added since `before`."""
        return NodeFigures(
            self.messages - before.messages,
            self.returned - before.returned,
            self.losses - before.losses,
            self.seconds - before.seconds,
        )


class NodeProcess:
    """One of them, with `count` nodes."""

    def __init__(self, url: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), url, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.count = count
        self.pid = self._process.pid

    def send(self, command: str, argument: object) -> None:
        """Have a command done."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps([command, argument]).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the answer of a command; raises RuntimeError."""
        assert self._process.stdout is not None  # noqa: S101
        number = self._process.stdout.fileno()
        deadline = time.monotonic() + ANSWER_TIMEOUT
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(b"\n"):
            ready, _, _ = select.select([number], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise RuntimeError(f"a process of nodes is silent for {ANSWER_TIMEOUT} s")
            parts.append(os.read(number, 1 << 20))
            if not parts[-1]:
                raise RuntimeError(f"a process of nodes ended with {self._process.wait()}")
        answer = json.loads(b"".join(parts))
        if "failed" in answer:
            raise RuntimeError(f"a process of nodes failed: {answer['failed']}")
        return answer["done"]

    def end(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            end(self._process)


class NodeProcesses:
    """All of them, with so many nodes together."""

    def __init__(self, url: str, nodes: int, processes: int) -> None:
        self._url = url
        self._nodes = nodes
        self._processes: list[NodeProcess] = []
        self._most = min(processes, nodes)
        self._placed = 0

    def __len__(self) -> int:
        return len(self._processes)

    def ask(self, command: str, argument: object = None) -> list[Any]:
        """Have a command done by all at the same time, and return their answers."""
        return self._ask_each(command, [argument] * len(self._processes))

    def _ask_each(self, command: str, arguments: Sequence[object]) -> list[Any]:
        for process, argument in zip(self._processes, arguments, strict=True):
            process.send(command, argument)
        return [process.answer() for process in self._processes]

    def open(self, users: Iterable[tuple[int, str]]) -> None:
        """Open a stream for each user and token, on all nodes in turn."""
        count = len(self._processes)
        parts: list[list[tuple[str, str, int]]] = [[] for _ in range(count)]
        for user, token in users:
            node, process = divmod(self._placed % self._nodes, count)
            parts[process].append((str(user), token, node))
            self._placed += 1
        self._ask_each("open", parts)

    def figures(self) -> NodeFigures:
        """Return totals until now."""
        counted = self.ask("count")
        return NodeFigures(
            sum(each["messages"] for each in counted),
            sum(each["returned"] for each in counted),
            sum(each["losses"] for each in counted),
            sum(cpu(process.pid).total for process in self._processes),
        )

    def received(self) -> tuple[Mapping[str, Ranges], list[str]]:
        """Return what each user has received, and what was wrong."""
        ranges: dict[str, Ranges] = {}
        faults: list[str] = []
        for answer in self.ask("received"):
            ranges |= answer["ranges"]
            faults += answer["faults"]
        return ranges, faults

    def __enter__(self) -> Self:
        try:
            for number in range(self._most):
                count = len(range(number, self._nodes, self._most))
                self._processes.append(NodeProcess(self._url, count))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.end()
