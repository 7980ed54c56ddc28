"""What becomes of groups while messages are captured."""

from collections import defaultdict
from typing import Any, TypeAlias

from sinapse.protocol.keys import MAX_GROUP_CHANNELS, MAX_GROUPS
from sinapse.publisher.operations.groups import (
    AddToGroup,
    ClearGroup,
    JoinGroup,
    LeaveGroup,
    LeaveGroups,
    ListGroupChannels,
    ListGroups,
    ListMembers,
    RemoveFromGroup,
)

#: Operations on who is in a group, and on the channels of one.
OfMembers: TypeAlias = JoinGroup | LeaveGroup | LeaveGroups | ListGroups | ListMembers
OfChannels: TypeAlias = AddToGroup | RemoveFromGroup | ClearGroup | ListGroupChannels
OfGroups: TypeAlias = OfMembers | OfChannels


class Groups:
    """The groups of a stand-in for Redis: who is in them, and their channels."""

    def __init__(self) -> None:
        self._of: defaultdict[str, set[str]] = defaultdict(set)
        self._channels: defaultdict[str, set[str]] = defaultdict(set)

    def result(self, operation: OfGroups) -> Any:
        """Return what comes of `operation`."""
        if isinstance(operation, ListMembers):
            return self._page(operation)
        if isinstance(operation, OfChannels):
            return self._change(operation, self._channels[operation.group])
        return self._move(operation, self._of[operation.subject])

    def _move(
        self, operation: JoinGroup | LeaveGroup | LeaveGroups | ListGroups, of: set[str]
    ) -> Any:
        match operation:
            case JoinGroup():
                return operation.result(_added(of, operation.group, MAX_GROUPS))
            case LeaveGroup():
                return _removed(of, operation.group)
            case LeaveGroups():
                return _emptied(of)
            case ListGroups():
                return set(of)

    def _change(self, operation: OfChannels, channels: set[str]) -> Any:
        match operation:
            case AddToGroup():
                return operation.result(_added(channels, operation.channel, MAX_GROUP_CHANNELS))
            case RemoveFromGroup():
                return _removed(channels, operation.channel)
            case ClearGroup():
                return _emptied(channels)
            case ListGroupChannels():
                return set(channels)

    def _page(self, operation: ListMembers) -> list[str]:
        members = [subject for subject, groups in self._of.items() if operation.group in groups]
        after = "" if operation.after is None else operation.after
        # Code points have the order of their bytes in UTF-8.
        return sorted(each for each in members if each > after)[: operation.limit]


def _added(names: set[str], name: str, most: int) -> int:
    """Add `name`; return 1 if it is new, 0 if not, and -1 if there are as many as there may be."""
    if name in names:
        return 0
    if len(names) >= most:
        return -1
    names.add(name)
    return 1


def _removed(names: set[str], name: str) -> bool:
    is_there = name in names
    names.discard(name)
    return is_there


def _emptied(names: set[str]) -> int:
    count = len(names)
    names.clear()
    return count
