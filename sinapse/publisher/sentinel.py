"""Connections to whatever node is the master, by Redis Sentinel.

The Sentinels are asked before every command, and not only when a connection fails: after a
planned failover the former master accepts commands for ten seconds, and then forgets them.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from redis.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from sinapse.errors import BrokerUnavailable

#: Seconds in which Sentinels are left alone after none of them answered.
PAUSE = 1.0

Address = tuple[str, int]


class Asked(Protocol):
    """Connections to one Sentinel."""

    def execute(self, *command: str | bytes | int) -> Any:
        """Return the answer to `command`."""


class Sentinels:
    """Where the master is that the Sentinels call `name`."""

    def __init__(self, name: str, sentinels: Sequence[Asked]) -> None:
        self._name = name
        self._sentinels = sentinels
        self._first = 0
        self._known: Address | None = None
        self._asked_again = float("-inf")

    def master(self) -> Address:
        """Return the master's address; when no Sentinel answers, the one that was known last.

        Raises redis-py's ``ConnectionError``.
        """
        if time.monotonic() >= self._asked_again:
            for _ in self._sentinels:
                first = self._first
                try:
                    answer = self._sentinels[first].execute(
                        "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name
                    )
                except BrokerUnavailable:
                    answer = None
                if answer is not None:
                    self._known = answer[0].decode(), int(answer[1])
                    return self._known
                self._first = (first + 1) % len(self._sentinels)
            self._asked_again = time.monotonic() + PAUSE
        if self._known is None:
            raise RedisConnectionError(f"no Sentinel knows where {self._name} is")
        return self._known

    def doubt(self) -> None:
        """Ask another Sentinel first: what was said led to no master."""
        self._first = (self._first + 1) % len(self._sentinels)


class MasterConnection(Connection):
    """A connection that moves to where the master is each time it is taken from its pool."""

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(redis_connect_func=_begin, **options)
        self._sentinels = sentinels

    def connect(self) -> None:
        """Be connected to the master."""
        address = self._sentinels.master()
        if address != (self.host, self.port):
            self.disconnect()
            self.host, self.port = address
        try:
            super().connect()
        except RedisError:
            self._sentinels.doubt()
            raise


class SecureMasterConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


def _begin(connection: Any) -> None:
    connection.on_connect()
    connection.send_command("ROLE", check_health=False)
    if connection.read_response()[0] != b"master":
        raise RedisConnectionError(f"{connection.host}:{connection.port} is no master")
