"""Presence: which subjects have a stream open, on nodes that run with ``--presence``."""

from typing import Any

from sinapse.protocol.keys import PRESENCE, channel_name, channels_key, presence_key
from sinapse.protocol.scripts import IS_ONLINE, ONLINE_IN
from sinapse.publisher.operations.identity import ChannelLike, SubjectId, given_id
from sinapse.publisher.operations.operation import Operation, Request, call

#: Subjects that one step looks at: half a millisecond of Redis.
SUBJECTS_PER_STEP = 500


class IsOnline(Operation[bool]):
    """Whether a subject has a stream."""

    __slots__ = ("subject",)

    def __init__(self, subject: SubjectId) -> None:
        self.subject: str = given_id(subject)

    @property
    def spread_by(self) -> str:
        """The subject: every Redis knows which subjects are online."""
        return self.subject

    def request(self) -> Request:
        """Return what Redis is asked."""
        return call(IS_ONLINE, (PRESENCE,), (self.subject, presence_key("")))

    def result(self, answer: Any) -> bool:
        """Return whether the subject has one."""
        return bool(answer)


class OnlineIn(Operation[set[str]]):
    """The ids of subjects with streams that may listen to a channel; page by page."""

    __slots__ = ("_found", "_place", "channel")

    def __init__(self, channel: ChannelLike) -> None:
        self.channel: str = channel_name(channel)
        self._place: tuple[bytes, bytes] = (b"", b"")
        self._found: set[str] = set()

    @property
    def spread_by(self) -> str:
        """The channel: the Redis of its messages has the lists too."""
        return self.channel

    def request(self) -> Request:
        """Return what Redis is asked."""
        prefixes = presence_key(""), channels_key("")
        return call(
            ONLINE_IN, (PRESENCE,), (self.channel, *prefixes, *self._place, str(SUBJECTS_PER_STEP))
        )

    def result(self, answer: Any) -> "set[str] | OnlineIn":
        """Return the ids, or the operation to go on with."""
        node, cursor, subjects = answer
        if not node:
            return self._found
        self._found |= {subject.decode(errors="replace") for subject in subjects}
        self._place = node, cursor
        return self
