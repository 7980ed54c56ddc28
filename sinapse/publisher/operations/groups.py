"""Groups: subjects that may listen to the same channels, and these channels.

Each Redis of several knows all members, and of a group the channels whose messages it has. An
operation checks its arguments: it raises :class:`~sinapse.errors.InvalidSubject`,
:class:`~sinapse.errors.InvalidGroup`, :class:`~sinapse.errors.InvalidChannel` or ``ValueError``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from sinapse.errors import ListFull
from sinapse.protocol.keys import (
    GROUP_GRANT,
    GROUP_WITHDRAW,
    JOIN,
    LEAVE,
    MAX_GROUP_CHANNELS,
    MAX_GROUPS,
    channel_name,
    group_name,
)
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import (
    ADD_TO_GROUP,
    CLEAR_GROUP,
    JOIN_GROUP,
    LEAVE_GROUP,
    LEAVE_GROUPS,
    REMOVE_FROM_GROUP,
)
from sinapse.protocol.sharding import Shards, numbered
from sinapse.publisher.operations.channels import placed
from sinapse.publisher.operations.identity import ChannelLike, SubjectId, given_id
from sinapse.publisher.operations.left import ListLeft
from sinapse.publisher.operations.numbers import is_whole
from sinapse.publisher.operations.operation import Operation, Request, T, call

#: Members of a page: the default, and the most.
PAGE = 1000
MAX_PAGE = 10_000

#: Channels of groups are told of no subject.
_NOBODY = ""


class HasGroup(Protocol):
    """An object that stands for a group."""

    @property
    def sinapse_group(self) -> str:
        """Name of the group."""


#: A group's name, or an object that has one.
GroupLike: TypeAlias = str | HasGroup


class _Everywhere(Operation[T]):
    """An operation on the membership of a subject, which each Redis carries out."""

    __slots__ = ("subject",)

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)


class JoinGroup(_Everywhere[bool]):
    """Makes a subject a member of a group; the result is whether that is new."""

    __slots__ = ("group",)

    def __init__(self, subject: SubjectId, group: GroupLike) -> None:
        super().__init__(subject)
        self.group: str = group_name(group)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        keys = names.groups_key(self.subject), names.retention, names.replay
        told = names.control_channel(self.subject, JOIN)
        return call(
            names,
            JOIN_GROUP,
            (*keys, names.group_key(self.group), names.members_key(self.group)),
            (self.subject, self.group, told, str(MAX_GROUPS)),
        )

    def combine(self, results: Sequence[Any]) -> Any:
        """Return whether it is new anywhere, or that the subject is in too many groups."""
        return _any(results)

    def result(self, answer: int) -> Any:
        """Return whether that is new, or that the subject is in too many groups."""
        if answer >= 0:
            return bool(answer)
        text = f"subject {self.subject[:80]!r} is in {MAX_GROUPS} groups already"
        return ListFull(f"{text}: it cannot join {self.group[:80]!r}")


class LeaveGroup(_Everywhere[bool]):
    """Ends the membership of a subject in a group; the result is whether it was a member."""

    __slots__ = ("group",)

    def __init__(self, subject: SubjectId, group: GroupLike) -> None:
        super().__init__(subject)
        self.group: str = group_name(group)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        keys = names.groups_key(self.subject), names.retention, names.members_key(self.group)
        told = names.control_channel(self.subject, LEAVE)
        return call(names, LEAVE_GROUP, keys, (self.subject, self.group, told))

    def combine(self, results: Sequence[bool]) -> bool:
        """Return whether it was one anywhere."""
        return any(results)

    def result(self, answer: int) -> bool:
        """Return whether it was."""
        return bool(answer)


class LeaveGroups(_Everywhere[int]):
    """Ends the membership of a subject in all groups; the result is in how many it was."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(self.subject, LEAVE)
        arguments = self.subject, told, names.members_key("")
        return call(
            names, LEAVE_GROUPS, (names.groups_key(self.subject), names.retention), arguments
        )

    def combine(self, results: Sequence[int]) -> int:
        """Return the number, which is the same everywhere unless a Redis was away."""
        return max(results)

    def result(self, answer: list[bytes]) -> int:
        """Return how many there were."""
        return len(answer)


class ListGroups(_Everywhere[set[str]]):
    """The names of the groups that a subject is in."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("HKEYS", names.groups_key(self.subject)))

    def combine(self, results: Sequence[set[str]]) -> set[str]:
        """Return the names from all Redis: a change may have failed in one of them."""
        return set().union(*results)

    def result(self, answer: list[bytes]) -> set[str]:
        """Return the names."""
        return {name.decode(errors="replace") for name in answer}


class ListMembers(Operation[list[str]]):
    """A page of the ids of the members of a group, in the order of their bytes."""

    __slots__ = ("after", "group", "limit")

    def __init__(self, group: GroupLike, after: SubjectId | None = None, limit: int = PAGE) -> None:
        self.group: str = group_name(group)
        self.after: str | None = None if after is None else given_id(after)
        if not is_whole(limit) or not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit is a whole number, 1 to {MAX_PAGE}: {limit!r:.80}")
        self.limit: int = limit

    @property
    def spread_by(self) -> str:
        """The group: every Redis knows all members."""
        return self.group

    def request(self, names: Names) -> Request:
        """Return the command."""
        first = "-" if self.after is None else f"({self.after}"
        page = "LIMIT", "0", str(self.limit)
        return Request(("ZRANGE", names.members_key(self.group), first, "+", "BYLEX", *page))

    def result(self, answer: list[bytes]) -> list[str]:
        """Return the ids.

        What is not UTF-8 is left out: it is none of ours, and no page could begin after it.
        """
        return [text for raw in answer if (text := raw.decode(errors="ignore")).encode() == raw]


class ListGroupChannels(Operation[set[str]]):
    """The names of the channels that members of a group may listen to."""

    __slots__ = ("_shards", "group")

    def __init__(self, group: GroupLike) -> None:
        self.group: str = group_name(group)
        self._shards = numbered(1)

    def spread_over(self, shards: Shards) -> None:
        """Note which Redis has what."""
        self._shards = shards

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("HKEYS", names.group_key(self.group)))

    def combine(self, results: Sequence[set[str]]) -> set[str]:
        """Return the names from all Redis, each from the one where it is published to."""
        return placed(results, self._shards)

    def result(self, answer: list[bytes]) -> set[str]:
        """Return the names."""
        return {name.decode(errors="replace") for name in answer}


@dataclass(frozen=True, slots=True)
class GroupChannel:
    """A channel of a group."""

    group: str
    channel: str

    def places(self, shards: Shards) -> tuple[int, int | None]:
        """Return its place, and the other one if it moves."""
        channel = self.channel.encode()
        return shards.of(channel), shards.other(channel)

    def read(self) -> Operation[bool]:
        """Return what reads whether the group has it."""
        return _HasField("group_key", self.group, self.channel)

    def write(self, state: bool) -> Operation[bool]:
        """Return what makes it the same in another place."""
        kind = AddToGroup if state else RemoveFromGroup
        return kind(self.group, self.channel)

    def forget(self) -> Operation[bool]:
        """Return what removes it from a place that is none of its own."""
        return RemoveFromGroup(self.group, self.channel)


@dataclass(frozen=True, slots=True)
class Membership:
    """A subject in a group."""

    subject: str
    group: str

    def read(self) -> Operation[bool]:
        """Return what reads whether it is a member."""
        return _HasField("groups_key", self.subject, self.group)

    def write(self, state: bool) -> Operation[bool]:
        """Return what makes it the same in another place."""
        kind = JoinGroup if state else LeaveGroup
        return kind(self.subject, self.group)


class _HasField(Operation[bool]):
    """Whether a hash has a field; its key is what a method of :class:`Names` returns."""

    __slots__ = ("_field", "_method", "_of")

    def __init__(self, method: str, of: str, field: str) -> None:
        self._method = method
        self._of = of
        self._field = field

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("HEXISTS", getattr(names, self._method)(self._of), self._field))

    def result(self, answer: int) -> bool:
        """Return whether it has."""
        return bool(answer)


class _Change(Operation[bool]):
    """A change of the channels of a group; the result is whether they changed."""

    __slots__ = ("channel", "group")

    def __init__(self, group: GroupLike, channel: ChannelLike) -> None:
        self.group: str = group_name(group)
        self.channel: str = channel_name(channel)

    @property
    def spread_by(self) -> str:
        """The channel: its grants are in the Redis of its messages."""
        return self.channel

    @property
    def entries(self) -> Sequence[GroupChannel]:
        """The entry in the list of the group."""
        return (GroupChannel(self.group, self.channel),)


class AddToGroup(_Change):
    """Adds a channel to those of a group; the result is whether it is new."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(_NOBODY, GROUP_GRANT)
        return call(
            names,
            ADD_TO_GROUP,
            (names.group_key(self.group), names.retention, names.replay),
            (self.channel, self.group, told, str(MAX_GROUP_CHANNELS)),
        )

    def result(self, answer: int) -> Any:
        """Return whether it is new, or that the group has too many channels."""
        if answer >= 0:
            return bool(answer)
        text = f"group {self.group[:80]!r} has {MAX_GROUP_CHANNELS} channels already"
        return ListFull(f"{text}: {self.channel[:80]!r} cannot be added")


class RemoveFromGroup(_Change):
    """Removes a channel from those of a group; the result is whether it was there."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(_NOBODY, GROUP_WITHDRAW)
        keys = names.group_key(self.group), names.retention
        arguments = self.channel, self.group, told, str(MAX_GROUP_CHANNELS)
        return call(names, REMOVE_FROM_GROUP, keys, arguments)

    def result(self, answer: int) -> bool:
        """Return whether it was there."""
        return bool(answer)


class ClearGroup(Operation[int]):
    """Removes all channels of a group; the result is how many there were."""

    __slots__ = ("group",)

    def __init__(self, group: GroupLike) -> None:
        self.group: str = group_name(group)

    @property
    def left(self) -> ListLeft:
        """What lists the entries that are left."""
        return ListLeft(
            lambda names: ("HKEYS", names.group_key(self.group)), partial(GroupChannel, self.group)
        )

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        told = names.control_channel(_NOBODY, GROUP_WITHDRAW)
        keys = names.group_key(self.group), names.retention
        return call(names, CLEAR_GROUP, keys, (self.group, told, str(MAX_GROUP_CHANNELS)))

    def combine(self, results: Sequence[int]) -> int:
        """Return the sum for all Redis."""
        return sum(results)

    def result(self, answer: int) -> int:
        """Return how many were removed."""
        return answer


def _any(results: Sequence[Any]) -> Any:
    """Return the first error of `results`, else whether one of them is true."""
    errors = [each for each in results if isinstance(each, ListFull)]
    return errors[0] if errors else any(results)
