"""Subscribers that are about to open, and the changes for them meanwhile.

From before the look-up is sent until the subscriber opens, control messages are noted. The list of
channels is then the answer of the look-up, changed by the notes. Each note sets the final state of
one channel, so a note whose change is already in the answer does no harm.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from sinapse.errors import Unauthorized
from sinapse.protocol.keys import ADD, PAST, REMOVE, REPLAYED, REVOKE
from sinapse.protocol.only import Only


class Joining:
    """A subscriber that is about to open: its first note, and the channels it holds."""

    __slots__ = ("answer", "channels", "has_past", "mark", "only", "subject", "token")

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.subject = b""
        self.token = b""
        #: The part of the list that the token is for; None for all.
        self.only: Only | None = None
        #: Channels of the look-up's answer, and the counter at which each was granted.
        self.answer: Mapping[bytes, int] = {}
        #: Whether a new stream gets a past of any of these.
        self.has_past = False
        #: Channels to which the node stays subscribed for it.
        self.channels: frozenset[bytes] = frozenset()

    def admits(self, channel: bytes) -> bool:
        """Whether a channel of the list is for the subscriber."""
        return self.only is None or self.only.allows(channel)


class _Note(NamedTuple):
    number: int
    action: str
    value: bytes
    after: int | None


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

    def note(self, subject: bytes, action: str, value: bytes, after: int | None) -> None:
        """Note a control message; `after` is the counter of a grant."""
        self._number += 1
        if self._joins:
            note = _Note(self._number, action, value, after)
            self._notes.setdefault(subject, deque()).append(note)
            self._order.append((self._number, subject))

    def channels(self, joining: Joining) -> dict[bytes, int | None]:
        """Return the list as it is now; a channel granted meanwhile has the counter of its grant.

        Raises :class:`~sinapse.errors.Unauthorized` if the token was revoked.
        """
        channels: dict[bytes, int | None] = dict.fromkeys(joining.answer)
        for note in self._notes.get(joining.subject, ()):
            if note.number <= joining.mark:
                continue
            if note.action == ADD and joining.admits(note.value):
                channels.setdefault(note.value, note.after)
            elif note.action == REMOVE:
                channels.pop(note.value, None)
            elif note.action == REVOKE and note.value == joining.token:
                raise Unauthorized("token revoked")
        return channels

    def has_past(self, joining: Joining) -> bool:
        """Whether a new stream gets a past of any of its channels.

        One of them may have got its first message that has a past since the look-up.
        """
        if joining.has_past:
            return True
        names = set(joining.answer)
        for note in self._notes.get(joining.subject, ()):
            if note.number > joining.mark and note.action == PAST:
                return True
            if note.number > joining.mark and note.action == ADD:
                names.add(note.value)
        return any(
            note.value in names
            for note in self._notes.get(b"", ())
            if note.number > joining.mark and note.action == REPLAYED
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
