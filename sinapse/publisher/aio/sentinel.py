"""Connections to the node that is the master, by Redis Sentinel."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.role import QUESTION, is_master
from sinapse.publisher.operations.master import Address, Master, Unknown


class Asked(Protocol):
    """Connections to one Sentinel."""

    async def execute(self, *command: str | bytes) -> Any:
        """Return the answer to `command`."""


class Sentinels:
    """Where the master is that the Sentinels call `name`."""

    def __init__(self, name: str, sentinels: Sequence[Asked]) -> None:
        self._sentinels = sentinels
        self._master = Master(name, len(sentinels))
        self.doubt: Callable[[], None] = self._master.doubt

    async def master(self) -> Address:
        """Return the master's address; raises redis-py's ``ConnectionError``."""
        finding = self._master.find()
        try:
            number, command = next(finding)
            while True:
                try:
                    answer = await self._sentinels[number].execute(*command)
                except BrokerUnavailable:
                    answer = None
                number, command = finding.send(answer)
        except StopIteration as end:
            address: Address = end.value
            return address
        except Unknown as error:
            raise RedisConnectionError(str(error)) from None


class MasterConnection(Connection):
    """A connection that moves to the current master each time it is taken from its pool."""

    host: str
    port: int

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(redis_connect_func=_begin, **options)
        self._sentinels = sentinels

    async def connect(self) -> None:
        """Be connected to the master."""
        address = await self._sentinels.master()
        if address != (self.host, self.port):
            await self.disconnect()
            self.host, self.port = address
        try:
            await super().connect()
        except RedisError:
            self._sentinels.doubt()
            raise


class SecureMasterConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


async def _begin(connection: Any) -> None:
    await connection.on_connect()
    await connection.send_command(*QUESTION, check_health=False)
    if not is_master(await connection.read_response()):
        raise RedisConnectionError(f"{connection.host}:{connection.port} is no master")
