"""Presence: the node reports to one Redis which subjects are online here.

The node has a lease that it renews, and a set of subjects. When it dies the lease runs out, and the
first node that notices reports its subjects as gone, unless they are elsewhere. A node that has
lost its lease, because it or Redis was away, begins anew under a new name; the nodes sweep the
former name as if that node had died.
"""

import secrets
from typing import Any

from twisted.internet.task import deferLater

from sinapse.broker.background import BackgroundService
from sinapse.broker.broker import RedisBroker
from sinapse.errors import BrokerUnavailable
from sinapse.hub.presence import Presence
from sinapse.protocol.keys import JOINED, LEFT, PRESENCE, presence_key
from sinapse.protocol.scripts import (
    HOLD_PRESENCE,
    JOIN_PRESENCE,
    LEAVE_PRESENCE,
    SWEEP_PRESENCE,
    Script,
)

#: Seconds between two looks at which subjects have come and gone.
LOOK_INTERVAL = 0.2

#: Renewals of a lease, of which one must succeed in time.
RENEWALS_PER_LEASE = 3

#: Subjects reported in one step: a millisecond or two of Redis.
SUBJECTS_PER_COMMAND = 200

#: Milliseconds for which Redis remembers a dead node's subjects, so that a node can report them as
#: gone, even if all nodes were away for a while.
DEAD_NODE_MEMORY = 3600 * 1000


class PresenceService(BackgroundService):
    """Reports `presence` to one Redis. Its grace period is also the lease of the node."""

    def __init__(self, broker: RedisBroker[Any], presence: Presence, reactor: Any) -> None:
        self._broker = broker
        self._presence = presence
        self._reactor = reactor
        self._lease = presence.grace
        self._changes: dict[bytes, bool] = {}
        self._node = ""
        self._renewed = 0.0
        presence.watchers.append(self._changes.__setitem__)

    async def stay(self) -> None:
        """Report, under a lease; when it ends, subjects that are nowhere else are gone."""
        while True:
            await self._broker.when_ready()
            try:
                await self._begin()
                while await self._go_on():
                    await deferLater(self._reactor, LOOK_INTERVAL)
            except BrokerUnavailable:
                await deferLater(self._reactor, LOOK_INTERVAL)

    async def _begin(self) -> None:
        """Take a lease under a new name, for all subjects that are here."""
        self._node = secrets.token_hex(8)
        self._changes.clear()
        self._changes.update(dict.fromkeys(self._presence.subjects, True))
        await self._hold(is_new=True)

    async def _go_on(self) -> bool:
        """Report changes, and renew the lease in time; returns whether there still is one."""
        self._presence.look(self._reactor.seconds())
        changes = dict(self._changes)
        self._changes.clear()
        came = [subject for subject, is_here in changes.items() if is_here]
        gone = [subject for subject, is_here in changes.items() if not is_here]
        is_held = await self._tell(came, gone)
        if is_held and self._reactor.seconds() - self._renewed >= self._lease / RENEWALS_PER_LEASE:
            is_held = await self._hold()
            while await self._sweep():
                pass
        return is_held

    async def _tell(self, came: list[bytes], gone: list[bytes]) -> bool:
        keys, prefix = [PRESENCE, presence_key(self._node)], presence_key("")
        told: tuple[tuple[Script, list[str | bytes | int], list[bytes]], ...] = (
            (JOIN_PRESENCE, [self._node, prefix, JOINED, DEAD_NODE_MEMORY], came),
            (LEAVE_PRESENCE, [self._node, prefix, LEFT], gone),
        )
        for script, arguments, subjects in told:
            for start in range(0, len(subjects), SUBJECTS_PER_COMMAND):
                part = subjects[start : start + SUBJECTS_PER_COMMAND]
                if not await self._broker.run(script, keys, [*arguments, *part]):
                    return False
        return True

    async def _hold(self, *, is_new: bool = False) -> bool:
        self._renewed = self._reactor.seconds()
        return bool(
            await self._broker.run(
                HOLD_PRESENCE,
                [PRESENCE, presence_key(self._node)],
                [self._node, int(self._lease * 1000), DEAD_NODE_MEMORY, int(is_new)],
            )
        )

    async def _sweep(self) -> bool:
        """Report subjects whose node is gone; returns whether there may be more."""
        return bool(
            await self._broker.run(
                SWEEP_PRESENCE, [PRESENCE], [SUBJECTS_PER_COMMAND, presence_key(""), LEFT]
            )
        )
