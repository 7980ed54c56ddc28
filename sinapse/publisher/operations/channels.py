"""Lists of channels: what a subject may listen to.

An operation checks its arguments: it raises :class:`~sinapse.errors.InvalidSubject`,
:class:`~sinapse.errors.InvalidChannel`, or ``ValueError`` for a time that is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from sinapse.protocol import keys
from sinapse.protocol.keys import ADD, END, PAST, REMOVE, WITHDRAW, channel_name
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import (
    ADD_CHANNEL,
    CHANNELS_OF,
    CLEAR_CHANNELS,
    GRANT,
    HAS_CHANNEL,
    REMOVE_CHANNEL,
    Script,
)
from sinapse.protocol.sharding import Shards, numbered
from sinapse.publisher.operations.identity import ChannelLike, SubjectId, given_id
from sinapse.publisher.operations.left import ListLeft
from sinapse.publisher.operations.lifetime import lifetime
from sinapse.publisher.operations.operation import Operation, Request, call


class ListChannels(Operation[set[str]]):
    """The names of the channels that a subject may listen to."""

    __slots__ = ("_shards", "subject")

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)
        self._shards = numbered(1)

    def spread_over(self, shards: Shards) -> None:
        """Note which Redis has what."""
        self._shards = shards

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, CHANNELS_OF, (names.channels_key(self.subject),), (self.subject,))

    def combine(self, results: Sequence[set[str]]) -> set[str]:
        """Return the names from all Redis, each from the one where it is published to."""
        return placed(results, self._shards)

    def result(self, answer: list[bytes]) -> set[str]:
        """Return the names."""
        return {name.decode(errors="replace") for name in answer}


class HasChannel(Operation[bool]):
    """Whether a subject may listen to a channel."""

    __slots__ = ("channel", "subject")

    def __init__(self, subject: SubjectId, channel: ChannelLike) -> None:
        self.subject: str = given_id(subject)
        self.channel: str = channel_name(channel)

    @property
    def spread_by(self) -> str:
        """The channel: its grants are in the Redis of its messages."""
        return self.channel

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(
            names, HAS_CHANNEL, (names.channels_key(self.subject),), (self.subject, self.channel)
        )

    def result(self, answer: Any) -> bool:
        """Return whether the subject may listen."""
        return bool(answer)


@dataclass(frozen=True, slots=True)
class GrantState:
    """Whether a subject may listen to a channel."""

    listed: bool
    ends: int | None
    """When that ends, in milliseconds by the clock of its Redis; None for never."""
    left: int | None = field(compare=False)
    """How long that is from when it was read."""


# No tuple: one would equal that of a group with the name of a subject.
@dataclass(frozen=True, slots=True)
class Grant:
    """An entry in the list of a subject."""

    subject: str
    channel: str

    def places(self, shards: Shards) -> tuple[int, int | None]:
        """Return its place, and the other one if it moves."""
        channel = self.channel.encode()
        return shards.of(channel), shards.other(channel)

    def read(self) -> Operation[GrantState]:
        """Return what reads it."""
        return ReadGrant(self.subject, self.channel)

    def write(self, state: GrantState) -> Operation[bool]:
        """Return what makes it the same in another place."""
        if not state.listed:
            return RemoveChannel(self.subject, self.channel)
        lasts = None if state.left is None else state.left / 1000
        return AddChannel(self.subject, self.channel, lasts)

    def forget(self) -> Operation[bool]:
        """Return what removes it from a place that is none of its own."""
        return RemoveChannel(self.subject, self.channel)


class ReadGrant(Operation[GrantState]):
    """Whether a subject may listen to a channel, and until when."""

    __slots__ = ("channel", "subject")

    def __init__(self, subject: str, channel: str) -> None:
        self.subject: str = subject
        self.channel: str = channel

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        key = names.channels_key(self.subject)
        return call(names, GRANT, (key,), (self.subject, self.channel))

    def result(self, answer: Any) -> GrantState:
        """Return it."""
        listed, ends, now = answer
        if not ends:
            return GrantState(bool(listed), None, None)
        return GrantState(bool(listed), int(ends), int(ends) - int(now))


class _Change(HasChannel):
    """A change of the list, announced to the nodes; the result is whether the list changed."""

    __slots__ = ()

    _script: ClassVar[Script]
    _actions: ClassVar[tuple[str, ...]]

    @property
    def entries(self) -> Sequence[Grant]:
        """The entry in the list."""
        return (Grant(self.subject, self.channel),)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = [names.control_channel(self.subject, action) for action in self._actions]
        more, arguments = self._more(names)
        return call(
            names,
            self._script,
            (*_keys(self.subject, names), *more),
            (self.channel, *told, self.subject, *arguments),
        )

    def _more(self, _names: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return more keys of the script, and more arguments."""
        return (), ()


class AddChannel(_Change):
    """Adds a channel to the list of a subject; the result is whether it is new.

    `expires_in` is seconds until the grant ends; without it, it lasts.
    """

    __slots__ = ("expires_in",)
    _script = ADD_CHANNEL
    _actions = (ADD, keys.GRANT, PAST)

    def __init__(
        self, subject: SubjectId, channel: ChannelLike, expires_in: float | None = None
    ) -> None:
        super().__init__(subject, channel)
        #: In milliseconds.
        self.expires_in: int | None = lifetime(expires_in)

    def _more(self, names: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
        lasts = "" if self.expires_in is None else str(self.expires_in)
        return (names.replay,), (lasts, names.control_channel(self.subject, END))


class RemoveChannel(_Change):
    """Removes a channel from the list; the result is whether it was there."""

    __slots__ = ()
    _script = REMOVE_CHANNEL
    _actions = (REMOVE, WITHDRAW)


class ClearChannels(Operation[int]):
    """Empties the list of a subject; the result is how many channels were removed."""

    __slots__ = ("subject",)

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)

    @property
    def left(self) -> ListLeft:
        """What lists the entries that are left."""
        return ListLeft(
            lambda names: ("SMEMBERS", names.channels_key(self.subject)),
            partial(Grant, self.subject),
        )

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = [names.control_channel(self.subject, action) for action in (REMOVE, WITHDRAW)]
        return call(names, CLEAR_CHANNELS, _keys(self.subject, names), (*told, self.subject))

    def combine(self, results: Sequence[int]) -> int:
        """Return the sum for all Redis."""
        return sum(results)

    def result(self, answer: int) -> int:
        """Return how many were removed."""
        return answer


def placed(results: Sequence[set[str]], shards: Shards) -> set[str]:
    """Return those of the channels that each Redis has named which are published to there."""
    return {
        name
        for number, names in enumerate(results)
        for name in names
        if shards.of(name.encode()) == number
    }


def _keys(subject: str, names: Names) -> tuple[str, str, str]:
    return names.channels_key(subject), names.retention, names.grants_key(subject)
