"""History: what is retained of a channel, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sinapse.errors import InvalidPayload, UnknownID
from sinapse.protocol.ids import UNKNOWN, EventID
from sinapse.protocol.keys import channel_name
from sinapse.protocol.message import unpack
from sinapse.protocol.names import Names
from sinapse.protocol.places import is_place, part_of
from sinapse.protocol.scripts import HISTORY
from sinapse.protocol.sharding import Shards, numbered
from sinapse.publisher.operations.content import value_of
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.numbers import is_whole
from sinapse.publisher.operations.operation import Operation, Request, call

#: Messages of a page: the default, and the most. Redis does nothing else while it reads them.
LIMIT = 100
MAX_LIMIT = 1000

#: Bytes of messages that are enough for a page, for the same reason.
PAGE_BYTES = 1024 * 1024

#: Characters: a part for each of sixty Redis, with their names.
MAX_ID_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Retained:
    """A message that is retained."""

    id: str
    """What a stream or a page of history that begins after it is told."""
    event: str | None
    data: str
    """Text as it is, anything else as JSON."""

    @property
    def message(self) -> Any:
        """The value of `data` as JSON, or the text if it is not JSON."""
        return value_of(self.data)


@dataclass(frozen=True, slots=True)
class History:
    """A page of what is retained of a channel."""

    messages: tuple[Retained, ...]
    """The messages, oldest first."""
    missing: bool
    """Whether messages are gone that were published after the id to read after; or, where there is
    no such id, before the last one of the page. Redis remembers that a channel had messages for a
    day after they are gone; for one that had none before that, nothing is missing."""
    more: bool
    """Whether there are more, after the last one of the page."""


class ReadHistory(Operation[History]):
    """Reads what is retained of a channel: after an id, or all, and no more than `limit`."""

    __slots__ = ("_place", "_shards", "after", "channel", "limit")

    def __init__(self, channel: ChannelLike, after: str | None, limit: int) -> None:
        self.channel: str = channel_name(channel)
        #: An id with a part for each Redis, or None.
        self.after: str | None = None if after is None else _checked(after)
        if not is_whole(limit) or not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"limit is a whole number, 1 to {MAX_LIMIT}: {limit!r:.80}")
        self.limit: int = limit
        self._shards = numbered(1)
        self._place: int | None = None

    @property
    def spread_by(self) -> str:
        """The channel."""
        return self.channel

    def spread_over(self, shards: Shards) -> None:
        """Note what the parts of an id are."""
        self._shards = shards

    def elsewhere(self, place: int) -> "ReadHistory":
        """Return what says whether the other place has some of it."""
        after = self.after
        if after and part_of(self.channel.encode(), after, self._shards, place) == UNKNOWN:
            after = None
        other = ReadHistory(self.channel, after, 1)
        other.spread_over(self._shards)
        other._place = place  # It is one of us.
        return other

    def joined(self, result: Any, other: Any) -> Any:
        """Return the page of the place where it is published, and whether the other has more."""
        if isinstance(result, UnknownID):
            return result
        is_whole = isinstance(other, History) and not other.messages and not other.missing
        return replace(result, missing=result.missing or not is_whole)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        epoch, counter = "", 0
        if self.after is not None:
            channel = self.channel.encode()
            epoch, counter, _ = part_of(channel, self.after, self._shards, self._place)
        return call(
            names,
            HISTORY,
            (names.retention, names.last, names.epochs, names.retained_key(self.channel)),
            (self.channel, epoch, str(counter), str(self.limit), str(PAGE_BYTES)),
        )

    def result(self, answer: Any) -> Any:
        """Return the page, or that the id is unknown."""
        if answer is None:
            return self.unknown()
        epoch, missing, more, entries = answer
        messages, unreadable = _read(epoch.decode(errors="replace"), entries)
        return History(messages, bool(missing) or unreadable, bool(more))

    def unknown(self) -> UnknownID:
        """Return the error for an id that Redis never gave."""
        return UnknownID(f"after: {self.after!r} was never given by this Redis, or is lost")


def _read(epoch: str, entries: Sequence[bytes]) -> tuple[tuple[Retained, ...], bool]:
    """Return messages with ids of the current epoch, and whether some are none.

    Counters go on from epoch to epoch; a former epoch may end at a later loss of data.
    """
    messages = []
    for digits, payload in zip(entries[::2], entries[1::2], strict=True):
        try:
            message = unpack(payload)
        except InvalidPayload:  # It was not published with our script.
            continue
        messages.append(Retained(str(EventID(epoch, int(digits))), message.event, message.data))
    return tuple(messages), 2 * len(messages) < len(entries)


def _checked(after: object) -> str:
    """Return `after` if it is an id; raises ``ValueError``."""
    is_short = isinstance(after, str) and len(after) <= MAX_ID_LENGTH
    if is_short and is_place(str(after)):
        return str(after)
    raise ValueError(f"after is an id, as messages and positions have it: {after!r:.80}")
