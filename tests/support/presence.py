"""Nodes that report who is there, and whoever hears of it."""

from __future__ import annotations

import time
from typing import Any

import redis

from sinapse.broker.presence import Record
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import (
    HOLD_PRESENCE,
    JOIN_PRESENCE,
    LEAVE_PRESENCE,
    SWEEP_PRESENCE,
    Script,
)
from tests.support import EVENT_TIMEOUT, eventually

HOUR = 3600 * 1000

SUBJECTS = Record.of_subjects(PLAIN)
CHANNELS = Record.of_channels(PLAIN)


class Events:
    """Hears of joins and leaves."""

    def __init__(self, client: redis.Redis, record: Record = SUBJECTS) -> None:
        self._subscription = client.pubsub(ignore_subscribe_messages=False)
        self._subscription.subscribe(record.came, record.gone)
        for _ in range(2):
            assert self._subscription.get_message(timeout=EVENT_TIMEOUT)
        self.heard: list[tuple[str, str]] = []

    def take(self) -> list[tuple[str, str]]:
        """Return all that was told so far."""
        while (message := self._subscription.get_message(timeout=0.01)) is not None:
            kind = message["channel"].decode().removeprefix("sinapse:presence:")
            self.heard.append((kind, message["data"].decode(errors="backslashreplace")))
        return self.heard

    def wait_for(self, *events: tuple[str, str]) -> None:
        """Return when just these were told, in any order."""
        eventually(lambda: len(self.take()) >= len(events), f"{events}")
        assert sorted(self.heard) == sorted(events)

    def close(self) -> None:
        self._subscription.close()


class Node:
    """What a node does to Redis, without a clock."""

    def __init__(self, client: redis.Redis, name: str, record: Record = SUBJECTS) -> None:
        self._client = client
        self._record = record
        self.name = name

    def _run(self, script: Script, arguments: list[Any], *more: str | bytes) -> int:
        keys = [self._record.nodes, self._record.prefix + self.name]
        keys = keys[: 1 if script is SWEEP_PRESENCE else 2]
        answer: Any = self._client.eval(script.source, len(keys), *keys, *arguments, *more)
        return int(answer)

    def hold(self, milliseconds: int = HOUR, *, begin: bool = False) -> int:
        return self._run(HOLD_PRESENCE, [self.name, milliseconds, HOUR, int(begin)])

    def join(self, *names: str | bytes) -> int:
        arguments = [self.name, self._record.prefix, self._record.came, HOUR]
        return self._run(JOIN_PRESENCE, arguments, *names)

    def leave(self, *names: str | bytes) -> int:
        return self._run(
            LEAVE_PRESENCE, [self.name, self._record.prefix, self._record.gone], *names
        )

    def sweep(self, count: int = 100) -> int:
        return self._run(SWEEP_PRESENCE, [count, self._record.prefix, self._record.gone])

    def die(self) -> None:
        """Let the lease run out."""
        assert self.hold(1) == 1
        time.sleep(0.005)
