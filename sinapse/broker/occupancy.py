"""Occupancy: the node reports to one Redis which channels have a listener here.

It does so as it reports subjects, in a record of its own. What Redis itself knows of subscribers
would not do: it takes dead connections for live ones, right after its start there are none, and
whoever only looks on is one.
"""

from typing import Any

from sinapse.broker.broker import RedisBroker
from sinapse.broker.presence import PresenceService, Record
from sinapse.hub.presence import Presence


class OccupancyService(PresenceService):
    """Reports the channels of one Redis that a subject here may listen to.

    A channel without a listener stays for `grace` seconds, which are also the lease of the node.
    """

    def __init__(self, broker: RedisBroker[Any], grace: float, reactor: Any) -> None:
        super().__init__(broker, Presence(grace), reactor)
        self.record = Record.of_channels(broker.names)
        broker.interest_watchers.append(self._interest_changed)

    def _interest_changed(self, channel: bytes, is_needed: bool) -> None:
        if is_needed:
            self._presence.opened(channel)
        else:
            self._presence.closed(channel, self._reactor.seconds())

    async def _tell(self, came: list[bytes], gone: list[bytes]) -> bool:
        if came:
            # Whoever is told may publish at once, and the node is to hear that.
            await self._broker.barrier()
        return await super()._tell(came, gone)
