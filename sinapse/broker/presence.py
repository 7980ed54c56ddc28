"""Presence: the node reports to one Redis which subjects are online here.

The node has a lease that it renews, and a set of subjects. When it dies the lease runs out, and the
first node that notices reports its subjects as gone, unless they are elsewhere. A node that has
lost its lease, because it or Redis was away, begins anew under a new name; the nodes sweep the
former name as if that node had died. A record of other names works in the same way.
"""

import secrets
from typing import Any, NamedTuple

from twisted.internet.task import deferLater

from sinapse.broker.background import BackgroundService
from sinapse.broker.broker import RedisBroker
from sinapse.errors import BrokerUnavailable
from sinapse.hub.presence import Presence
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import (
    HOLD_PRESENCE,
    JOIN_PRESENCE,
    LEAVE_PRESENCE,
    SWEEP_PRESENCE,
    Script,
)

#: Seconds between two looks at what has come and gone.
LOOK_INTERVAL = 0.2

#: Renewals of a lease, of which one must succeed in time.
RENEWALS_PER_LEASE = 3

#: Names reported in one step: a millisecond or two of Redis.
NAMES_PER_COMMAND = 200

#: Milliseconds for which Redis remembers a dead node's set, so that a node can report what is in it
#: as gone, even if all nodes were away for a while.
DEAD_NODE_MEMORY = 3600 * 1000


class Record(NamedTuple):
    """Where Redis has what the nodes report, and tells of changes."""

    nodes: str
    """The key of the nodes, by their lease."""
    prefix: str
    """What the keys of their sets begin with."""
    came: str
    """The PUB/SUB channel that tells what has come."""
    gone: str
    """The one that tells what is gone."""

    @classmethod
    def of_subjects(cls, names: Names) -> "Record":
        """Return where they report which subjects are online."""
        return cls(names.presence, names.presence_key(""), names.joined, names.left)

    @classmethod
    def of_channels(cls, names: Names) -> "Record":
        """Return where they report which channels have a listener."""
        return cls(names.occupancy, names.occupancy_key(""), names.occupied, names.vacated)


class PresenceService(BackgroundService):
    """Reports `presence` to one Redis. Its grace period is also the lease of the node."""

    def __init__(self, broker: RedisBroker[Any], presence: Presence, reactor: Any) -> None:
        self._broker = broker
        self.record = Record.of_subjects(broker.names)
        self._presence = presence
        self._reactor = reactor
        self._lease = presence.grace
        self._changes: dict[bytes, bool] = {}
        self._node = ""
        self._renewed = 0.0
        presence.watchers.append(self._changes.__setitem__)

    async def stay(self) -> None:
        """Report, under a lease; when it ends, what is nowhere else is gone."""
        while True:
            await self._broker.when_ready()
            try:
                await self._begin()
                while await self._go_on():
                    await deferLater(self._reactor, LOOK_INTERVAL)
            except BrokerUnavailable:
                await deferLater(self._reactor, LOOK_INTERVAL)

    async def _begin(self) -> None:
        """Take a lease under a new name, for all that is here."""
        self._node = secrets.token_hex(8)
        self._changes.clear()
        self._changes.update(dict.fromkeys(self._presence.names, True))
        await self._hold(is_new=True)

    async def _go_on(self) -> bool:
        """Report changes, and renew the lease in time; returns whether there still is one."""
        self._presence.look(self._reactor.seconds())
        changes = dict(self._changes)
        self._changes.clear()
        came = [name for name, is_here in changes.items() if is_here]
        gone = [name for name, is_here in changes.items() if not is_here]
        return await self._tell(came, gone) and await self._renew()

    async def _tell(self, came: list[bytes], gone: list[bytes]) -> bool:
        keys, prefix = self._keys(), self.record.prefix
        told: tuple[tuple[Script, list[str | bytes | int], list[bytes]], ...] = (
            (JOIN_PRESENCE, [self._node, prefix, self.record.came, DEAD_NODE_MEMORY], came),
            (LEAVE_PRESENCE, [self._node, prefix, self.record.gone], gone),
        )
        for script, arguments, names in told:
            for start in range(0, len(names), NAMES_PER_COMMAND):
                part = names[start : start + NAMES_PER_COMMAND]
                # Many may take longer than a lease.
                if not (
                    await self._renew()
                    and await self._broker.run(script, keys, [*arguments, *part])
                ):
                    return False
        return True

    def _is_due(self) -> bool:
        held: float = self._reactor.seconds() - self._renewed
        return held >= self._lease / RENEWALS_PER_LEASE

    async def _renew(self) -> bool:
        """Renew the lease if it is time, and sweep; returns whether there still is one."""
        if not self._is_due():
            return True
        is_held = await self._hold()
        # What is left then is swept after the next renewal.
        while await self._sweep() and not self._is_due():
            pass
        return is_held

    async def _hold(self, *, is_new: bool = False) -> bool:
        self._renewed = self._reactor.seconds()
        return bool(
            await self._broker.run(
                HOLD_PRESENCE,
                self._keys(),
                [self._node, int(self._lease * 1000), DEAD_NODE_MEMORY, int(is_new)],
            )
        )

    async def _sweep(self) -> bool:
        """Report what was on a node that is gone; returns whether there may be more."""
        return bool(
            await self._broker.run(
                SWEEP_PRESENCE,
                [self.record.nodes],
                [NAMES_PER_COMMAND, self.record.prefix, self.record.gone],
            )
        )

    def _keys(self) -> list[str]:
        return [self.record.nodes, self.record.prefix + self._node]
