"""Subscribers that are about to open, and the changes for them meanwhile.

From before the look-up is sent until the subscriber opens, control messages are noted. The list of
channels is then the answer of the look-up, changed by the notes. Each note sets the final state of
one channel, or of one group, so a note whose change is already in the answer does no harm. Notes of
a group are needed until the node has that: then its list is kept up to date.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sinapse.errors import Unauthorized
from sinapse.hub.former import NONE, Former, clipped, with_former
from sinapse.hub.subscribers import Channel, Group
from sinapse.protocol.keys import ADD, JOIN, LEAVE, PAST, REMOVE, REPLAYED, REVOKE
from sinapse.protocol.only import Only


class Membership(NamedTuple):
    """That a subject is in a group, and what the members of that may listen to."""

    at: int
    """The counter since when it is; 0 if that is not known."""
    channels: Mapping[bytes, int] | None
    """The channels of the group, and the counter at which each was added, 0 as above; None if the
    node keeps the group already."""
    former: Former | None = None
    """Those that it had, and when; None if that is not known."""


class Joining:
    """A subscriber that is about to open: its first note, and the channels and groups it holds."""

    __slots__ = (
        *("answer", "channels", "former", "groups", "has_past", "mark", "memberships"),
        *("only", "position", "subject", "token", "unheard"),
    )

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.subject = b""
        self.token = b""
        #: The part of the list that the token is for; None for all.
        self.only: Only | None = None
        #: Channels of the look-up's answer, and the counter at which each was granted.
        self.answer: Mapping[bytes, int] = {}
        #: The counter of the answer: what is later may have been missed.
        self.position = 0
        #: Groups of the answer, by their ids.
        self.memberships: Mapping[bytes, Membership] = {}
        #: The rights of the answer that have ended.
        self.former: Former = NONE
        #: Whether a new stream gets a past of any channel of these.
        self.has_past = False
        #: Channels to which the node stays subscribed for it.
        self.channels: frozenset[bytes] = frozenset()
        #: Groups that the node has already, and keeps for it with their channels. A group that is
        #: new to the node is not made before it opens: the answer may be ahead of what was heard.
        self.groups: list[Group] = []
        #: Channels of these to which the node was not subscribed before.
        self.unheard: list[Channel] = []

    def admits(self, channel: bytes) -> bool:
        """Whether a channel of the list is for the subscriber."""
        return self.only is None or self.only.allows(channel)


class _Note(NamedTuple):
    number: int
    action: str
    value: bytes
    after: int | None
    channels: Mapping[bytes, int]


class Expected(NamedTuple):
    """What a subscriber may listen to that would open now."""

    channels: Mapping[bytes, int | None]
    """Its own list; a channel that was granted since the look-up has the counter of its grant."""
    memberships: Mapping[bytes, Membership]
    """The groups."""
    is_empty: bool
    """Whether all of that is nothing."""
    is_changed: bool
    """Whether it may differ from the answer."""


class Joins:
    """All subscribers that are about to open, and the notes that any of them may need."""

    def __init__(self) -> None:
        self._joins: dict[Joining, None] = {}  # The oldest first.
        self._notes: dict[bytes, deque[_Note]] = {}
        self._order: deque[tuple[int, bytes]] = deque()
        self._number = 0

    def begin(self) -> Joining:
        """Begin to note control messages for a new joining."""
        joining = Joining(self._number)
        self._joins[joining] = None
        return joining

    def note(
        self,
        place: bytes,
        action: str,
        value: bytes,
        after: int | None,
        channels: Mapping[bytes, int] | None = None,
    ) -> None:
        """Note a control message for a subject, or for what :func:`group_notes` returns.

        `after` is the counter of the change, and `channels` are those of a group that is joined.
        """
        self._number += 1
        if self._joins:
            note = _Note(self._number, action, value, after, channels or {})
            self._notes.setdefault(place, deque()).append(note)
            self._order.append((self._number, place))

    def is_noted(self, subject: bytes) -> bool:
        """Whether there are notes of a subject."""
        return subject in self._notes

    def expected(self, joining: Joining) -> tuple[dict[bytes, int | None], dict[bytes, Membership]]:
        """Return the own list and the groups as they are now: see :class:`Expected`.

        Raises :class:`~sinapse.errors.Unauthorized` if the token was revoked.
        """
        channels: dict[bytes, int | None] = dict.fromkeys(joining.answer)
        memberships = dict(joining.memberships)
        if not self.is_noted(joining.subject):  # As mostly.
            return channels, memberships
        for note in self._since(joining.subject, joining.mark):
            if note.action == ADD and joining.admits(note.value):
                channels.setdefault(note.value, note.after)
            elif note.action == REMOVE:
                channels.pop(note.value, None)
            elif note.action == JOIN:
                memberships.setdefault(note.value, Membership(note.after or 0, note.channels))
            elif note.action == LEAVE:
                memberships.pop(note.value, None)
            elif note.action == REVOKE and note.value == joining.token:
                raise Unauthorized("token revoked")
        return channels, memberships

    def channels_of_group(
        self, joining: Joining, group: bytes, membership: Membership
    ) -> dict[bytes, int]:
        """Return the list of a group as it is now, if the node does not keep it."""
        times = self._times_on(group, joining.mark, membership)
        return {name: added for name, added, removed in times if removed is None}

    def former(self, joining: Joining, kept: Mapping[bytes, Group]) -> Former:
        """Return the rights of a subject that have ended: those of the answer, and by notes.

        Of the groups that it is still in they are with these: see :meth:`former_of_group`. `kept`
        are groups that the node keeps.
        """
        if not self.is_noted(joining.subject):
            return joining.former
        ended = [*self._ended_on_list(joining), *self._ended_in_groups(joining, kept)]
        return with_former(joining.former, ended)

    def former_of_group(
        self, joining: Joining, group: bytes, membership: Membership
    ) -> Former | None:
        """Return the channels that a group had, if the node does not keep it."""
        if membership.former is None:
            return None
        ended = [
            (name, added, removed)
            for name, added, removed in self._times_on(group, joining.mark, membership)
            if removed is not None
        ]
        return with_former(membership.former, ended) if ended else membership.former

    def _ended_on_list(self, joining: Joining) -> Iterator[tuple[bytes, int, int]]:
        """Yield what has been on the own list, since when, and up to when."""
        own = dict(joining.answer)
        for note in self._since(joining.subject, joining.mark):
            if note.action == ADD:
                own.setdefault(note.value, note.after or 0)
            elif note.action == REMOVE:
                start = own.pop(note.value, None)
                if start is not None and note.after is not None:
                    yield note.value, start, note.after

    def _ended_in_groups(
        self, joining: Joining, kept: Mapping[bytes, Group]
    ) -> Iterator[tuple[bytes, int, int]]:
        """Yield the same of groups that have been left."""
        joined = dict(joining.memberships)
        for note in self._since(joining.subject, joining.mark):
            if note.action == JOIN:
                joined.setdefault(note.value, Membership(note.after or 0, note.channels))
            elif note.action == LEAVE and note.value in joined:
                membership = joined.pop(note.value)
                group = kept.get(note.value)
                if group is not None:
                    had = group.times(membership.at, note.after)
                else:
                    had = self._had(note.value, joining.mark, membership, note.after)
                yield from had

    def _had(
        self, group: bytes, mark: int, membership: Membership, left: int | None
    ) -> Iterator[tuple[bytes, int, int]]:
        for name, added, removed in self._times_on(group, mark, membership):
            ends = [each for each in (removed, left) if each is not None]
            if ends:
                yield name, max(membership.at, added), min(ends)
        for name, times in (membership.former or NONE).items():
            for start, end in clipped(times, membership.at, left):
                yield name, start, end

    def _times_on(
        self, group: bytes, mark: int, membership: Membership
    ) -> Iterator[tuple[bytes, int, int | None]]:
        """Yield what was on the list of a group, since when, and until when, if not now."""
        channels = dict(membership.channels or {})
        for note in self._since(group_notes(group), mark):
            if note.action == ADD:
                channels.setdefault(note.value, note.after or 0)
            elif note.action == REMOVE:
                start = channels.pop(note.value, None)
                if start is not None:
                    yield note.value, start, note.after
        for name, added in channels.items():
            yield name, added, None

    def _since(self, place: bytes, mark: int) -> Iterator[_Note]:
        return (note for note in self._notes.get(place, ()) if note.number > mark)

    def has_past(self, joining: Joining) -> bool:
        """Whether a new stream gets a past of any of its channels.

        One of them may have got its first message that has a past since the look-up.
        """
        if joining.has_past:
            return True
        if not joining.memberships and self._notes.keys().isdisjoint((joining.subject, b"")):
            return False
        names = set(joining.answer)
        memberships = dict(joining.memberships)
        for note in self._since(joining.subject, joining.mark):
            if note.action == PAST:
                return True
            if note.action == ADD:
                names.add(note.value)
            elif note.action == JOIN:
                memberships[note.value] = Membership(0, note.channels)
        names.update(*(group.channels for group in joining.groups))
        for group, membership in memberships.items():
            names.update(membership.channels or ())
            for note in self._since(group_notes(group), joining.mark):
                if note.action == PAST:
                    return True
                names.add(note.value)
        return any(
            note.value in names
            for note in self._since(b"", joining.mark)
            if note.action == REPLAYED
        )

    def end(self, joining: Joining) -> None:
        """Forget a joining, and the notes that were kept for it."""
        self._joins.pop(joining, None)
        oldest = next(iter(self._joins), None)
        while self._order and (oldest is None or self._order[0][0] <= oldest.mark):
            _, subject = self._order.popleft()
            notes = self._notes[subject]
            notes.popleft()
            if not notes:
                del self._notes[subject]


def group_notes(group: bytes) -> bytes:
    """Return the place of notes about a group: no subject is called so."""
    return b"\n" + group
