"""The connections that tokens and lists of channels are looked up on."""

from typing import Any, NamedTuple

import txredisapi

from sinapse.errors import Unauthorized
from sinapse.keys import channels_key, token_key

# One round trip for a token's subject, its remaining life in milliseconds (-1: for ever), and
# the subject's channels, read at one instant.
_LOOK_UP = f"""
local subject = redis.call('GET', KEYS[1])
if not subject then return false end
return {{subject, redis.call('PTTL', KEYS[1]),
        redis.call('SMEMBERS', '{channels_key("")}' .. subject)}}
"""


class TokenEntry(NamedTuple):
    """What Redis knows of a token."""

    subject: bytes
    remaining: float | None
    """Seconds until it expires; None if it does not."""
    channels: list[bytes]


class Lookup(txredisapi.RedisProtocol):  # type: ignore[misc]  # untyped
    """One connection for commands; they are pipelined, and fail when the answer is late."""

    async def token(self, token: bytes) -> TokenEntry:
        """Look a token up.

        Raises :class:`~sinapse.errors.Unauthorized` for one that is unknown or has expired, and
        ``txredisapi.RedisError`` when Redis cannot say.
        """
        answer: Any = await self.eval(_LOOK_UP, [token_key("").encode() + token])
        if answer is None:
            raise Unauthorized("unknown token")
        subject, milliseconds, channels = answer
        return TokenEntry(subject, milliseconds / 1000 if milliseconds >= 0 else None, channels)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: N802
        """Handle every whole reply of a read."""
        try:
            super().dataReceived(data, unpause)
        except txredisapi.InvalidData:  # Whatever this is, it does not speak Redis' protocol.
            self.transport.abortConnection()
