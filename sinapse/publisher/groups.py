"""Groups: many subjects that may listen to the same channels, which are kept once."""

from sinapse.publisher.operations.groups import (
    PAGE,
    AddToGroup,
    ClearGroup,
    GroupLike,
    JoinGroup,
    LeaveGroup,
    LeaveGroups,
    ListGroupChannels,
    ListGroups,
    ListMembers,
    RemoveFromGroup,
)
from sinapse.publisher.operations.identity import ChannelLike, SubjectId
from sinapse.publisher.operations.runner import Runner


class Groups:
    """``publisher.groups``: who is in which group, and what the members may listen to.

    A subject may listen to a channel while it is on its own list, or on that of a group that it is
    in. Every change applies to open streams at once, as with ``publisher.channels``; one of a group
    is one command, however many members it has. A group is a name, or an object that has
    ``sinapse_group``; it is there while it has members or channels. Every operation raises
    :class:`~sinapse.errors.InvalidSubject`, :class:`~sinapse.errors.InvalidGroup` or
    :class:`~sinapse.errors.InvalidChannel` for what is none, and
    :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses.

    Where there are several Redis, each is told who is in a group. If that fails in one of them, the
    call raises, and to repeat it does the rest.
    """

    def __init__(self, connections: Runner) -> None:
        self._connections = connections
        self._run = connections.run

    def add(self, subject: SubjectId, group: GroupLike) -> bool:
        """Make `subject` a member of `group`; return whether that is new.

        A subject is in 100 groups at the most: raises :class:`~sinapse.errors.ListFull` beyond
        that.
        """
        return self._run(JoinGroup(subject, group))

    def remove(self, subject: SubjectId, group: GroupLike) -> bool:
        """End the membership of `subject` in `group`; return whether it was a member.

        It stops to hear what it might hear by this group only.
        """
        return self._run(LeaveGroup(subject, group))

    def clear(self, subject: SubjectId) -> int:
        """End the membership of `subject` in all groups; return in how many it was."""
        return self._run(LeaveGroups(subject))

    def of(self, subject: SubjectId) -> set[str]:
        """Return the names of the groups that `subject` is in."""
        return self._run(ListGroups(subject))

    def members(
        self, group: GroupLike, after: SubjectId | None = None, limit: int = PAGE
    ) -> list[str]:
        """Return a page of the ids of the members of `group`, in the order of their bytes.

        Those after the id `after`, or from the first one on; `limit` of them at the most, 1 to
        10,000. The next page begins after the last one of this; the last page is empty, or shorter
        than `limit`. Raises ``ValueError`` for what is no such number.
        """
        return self._run(ListMembers(group, after, limit))

    def channels(self, group: GroupLike) -> "GroupChannels":
        """Return the channels of `group`, to be changed."""
        return GroupChannels(self._connections, group)


class GroupChannels:
    """``publisher.groups.channels(group)``: what the members of one group may listen to."""

    def __init__(self, connections: Runner, group: GroupLike) -> None:
        self._run = connections.run
        self._group = group

    def list(self) -> set[str]:
        """Return the names of the channels."""
        return self._run(ListGroupChannels(self._group))

    def add(self, channel: ChannelLike) -> bool:
        """Let all members listen to `channel`; return whether that is new.

        A group has 1,000 channels at the most, of several Redis in each: raises
        :class:`~sinapse.errors.ListFull` beyond that.
        """
        return self._run(AddToGroup(self._group, channel))

    def remove(self, channel: ChannelLike) -> bool:
        """Let members listen to `channel` no longer; return whether they could before.

        Those who may by their own list, or by another group, go on.
        """
        return self._run(RemoveFromGroup(self._group, channel))

    def clear(self) -> int:
        """Remove all channels of the group; return how many there were."""
        return self._run(ClearGroup(self._group))
