"""Presence: which subjects have a stream open, on nodes that run with ``--presence``."""

from typing import Any, NamedTuple

from sinapse.protocol.keys import channel_name
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import AUDIENCE, IS_ONLINE, ONLINE_IN
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

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return call(names, IS_ONLINE, (names.presence,), (self.subject, names.presence_key("")))

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

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        prefixes = names.presence_key(""), names.channels_key("")
        return call(
            names,
            ONLINE_IN,
            (names.presence,),
            (self.channel, *prefixes, *self._place, str(SUBJECTS_PER_STEP)),
        )

    def result(self, answer: Any) -> "set[str] | OnlineIn":
        """Return the ids, or the operation to go on with."""
        node, cursor, subjects = answer
        if not node:
            return self._found
        self._found |= {subject.decode(errors="replace") for subject in subjects}
        self._place = node, cursor
        return self


class Audience(NamedTuple):
    """How many listen to a channel."""

    nodes: int
    """Daemons with at least one stream for the channel."""
    subjects: int | None
    """Subjects that are online and may listen to it; None if no daemon tells who is."""


class ReadAudience(Operation[Audience]):
    """How many listen to a channel: first the nodes, then the subjects, page by page."""

    __slots__ = ("_nodes", "_online", "channel")

    def __init__(self, channel: ChannelLike) -> None:
        self.channel: str = channel_name(channel)
        self._nodes: int | None = None
        self._online = OnlineIn(self.channel)

    @property
    def spread_by(self) -> str:
        """The channel."""
        return self.channel

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        if self._nodes is None:
            return call(names, AUDIENCE, (names.presence,), (self.channel,))
        return self._online.request(names)

    def result(self, answer: Any) -> "Audience | ReadAudience":
        """Return the numbers, or the operation to go on with."""
        if self._nodes is None:
            self._nodes, is_told = answer
            return self if is_told else Audience(int(self._nodes or 0), None)
        found = self._online.result(answer)
        return Audience(self._nodes, len(found)) if isinstance(found, set) else self
