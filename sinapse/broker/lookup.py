"""The connections on which Redis is asked: tokens and lists, positions, retained messages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import txredisapi

from sinapse.errors import Unauthorized
from sinapse.eventid import EventID
from sinapse.keys import EPOCHS, LAST, RETENTION, channels_key, retained_key, token_key
from sinapse.scripts import ATTACH, LIST_CHANNELS, LOOK_UP, MARK, READ_HISTORY

_RETAINED = retained_key("").encode()
_TOKENS = token_key("").encode()
_CHANNELS = channels_key("").encode()


class TokenEntry(NamedTuple):
    """What Redis knows of a token."""

    subject: bytes
    remaining: float | None
    """Seconds until it expires; None if it does not."""
    channels: list[bytes]
    position: EventID
    """Id of the last retained message at that instant."""


class Attachment(NamedTuple):
    """How a connection finds the retained messages."""

    position: EventID
    continues: bool
    """Nothing that was known before has been lost."""
    ended: Mapping[str, int]
    """Former epochs, and the counter that each ended at."""
    same: int
    """The counter up to which what was known is the same here; -1 if none is."""

    def resolve(self, identifier: EventID) -> int | None:
        """Return the counter to resume after; None if that id cannot be resumed from."""
        if identifier.epoch != self.position.epoch:
            end = self.ended.get(identifier.epoch, -1)
            return identifier.counter if identifier.counter <= end else None
        return identifier.counter


class Page(NamedTuple):
    """Some of the retained messages of a channel, oldest first."""

    gone: int
    """The highest counter of a message that is no longer retained."""
    more: bool
    """There is more to read."""
    entries: list[tuple[int, bytes]]
    """Counters and payloads."""


class Lookup(txredisapi.RedisProtocol):  # type: ignore[misc]  # untyped
    """One connection for commands; they are pipelined, and fail when the answer is late.

    Everything raises ``txredisapi.RedisError`` when Redis cannot say.
    """

    async def attach(self, known: EventID | None) -> Attachment:
        """Make sure that there is an epoch, and learn whether one can go on from `known`."""
        epoch, counter = known or ("", 0)
        answer = await self.eval(ATTACH.source, [RETENTION, EPOCHS], [epoch, counter])
        names, counters = answer[3][::2], answer[3][1::2]
        ended = {name.decode(): int(end) for name, end in zip(names, counters, strict=True)}
        position = EventID(answer[0].decode(), int(answer[1]))
        return Attachment(position, bool(answer[2]), ended, int(answer[4]))

    async def check(self, epoch: str) -> None:
        """Raise ``txredisapi.RedisError`` unless this is a master, and its data those of before."""
        role: Any = await self.execute_command("ROLE")
        if role[0] != b"master":
            raise txredisapi.ConnectionError("it is no master any more")
        current = await self.hget(RETENTION, "epoch")
        if current is None or current.decode() != epoch:
            raise txredisapi.ConnectionError("its data have been replaced")

    async def mark(self, channel: bytes) -> None:
        """Publish to `channel` the counter of the last retained message at that instant."""
        await self.eval(MARK.source, [RETENTION], [channel])

    async def token(self, token: bytes) -> TokenEntry:
        """Look a token up; raises :class:`~sinapse.errors.Unauthorized` for one that is not."""
        answer: Any = await self.eval(
            LOOK_UP.source, [_TOKENS + token, RETENTION], [channels_key("")]
        )
        if answer is None:
            raise Unauthorized("unknown token")
        subject, milliseconds, channels, epoch, counter = answer
        remaining = milliseconds / 1000 if milliseconds >= 0 else None
        return TokenEntry(subject, remaining, channels, EventID(epoch.decode(), int(counter)))

    async def subject(self, subject: bytes) -> TokenEntry:
        """Look the channels of a subject up, whose token is in another Redis."""
        answer: Any = await self.eval(LIST_CHANNELS.source, [_CHANNELS + subject, RETENTION], [])
        channels, epoch, counter = answer
        return TokenEntry(subject, None, channels, EventID(epoch.decode(), int(counter)))

    async def history(
        self, wants: Sequence[tuple[bytes, int]], upto: int | None, count: int, size: int
    ) -> tuple[int, list[Page]]:
        """Read retained messages of channels, each after its counter, and up to `upto`.

        `count` messages or `size` bytes of a channel are enough, though at least one is read.
        Without `upto` it is the counter of this instant; returns it, and a page for each channel.
        """
        keys: Iterable[Any] = [_RETAINED + name for name, _ in wants]
        operands = [operand for want in wants for operand in want]
        answer = await self.eval(
            READ_HISTORY.source,
            [RETENTION, LAST, *keys],
            ["" if upto is None else upto, count, size, *operands],
        )
        pages = [
            Page(
                int(float(gone)),
                bool(more),
                [
                    (int(counter), payload)
                    for counter, payload in zip(entries[::2], entries[1::2], strict=True)
                ],
            )
            for gone, more, entries in answer[1:]
        ]
        return int(answer[0]), pages

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: N802
        """Handle every whole reply of a read."""
        try:
            super().dataReceived(data, unpause)
        except txredisapi.InvalidData:  # Whatever this is, it does not speak Redis' protocol.
            self.transport.abortConnection()
