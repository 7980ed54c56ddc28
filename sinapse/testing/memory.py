"""What a Redis would have done, in memory, for as long as messages are captured."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from sinapse.errors import UnknownID
from sinapse.protocol.ids import UNKNOWN, EventID
from sinapse.protocol.keys import INBOXES
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.history import History, ReadHistory, Retained
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import Audience, IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.runs import BeginRun, GetRun, HoldRuns, StopRun, TellRun
from sinapse.publisher.operations.sessions import (
    EndSession,
    EndSessions,
    ListSessions,
    OpenSession,
    RenewSession,
)
from sinapse.publisher.operations.tokens import (
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)
from sinapse.testing.groups import Groups, OfGroups
from sinapse.testing.lifetimes import end_of, is_over, seconds
from sinapse.testing.messages import Messages, Publication
from sinapse.testing.runs import Runs
from sinapse.testing.sessions import Sessions

#: What a Redis says that no daemon uses.
_NOBODY: dict[type[Operation[Any]], Callable[[], Any]] = {IsOnline: bool, OnlineIn: set}

#: The epoch of ids.
_EPOCH = "1"


class Memory:
    """Stands in for Redis: messages are written down and retained, the rest is kept.

    `nodes` is what ``publish`` returns: how many nodes have heard it.
    """

    def __init__(self, nodes: int) -> None:
        self.messages = Messages()
        self._runs = Runs(self.messages)
        self._sessions = Sessions()
        self._groups = Groups()
        self._nodes = nodes
        self._lock = threading.RLock()
        self._message_ids: dict[str, str | None] = {}
        self._last = UNKNOWN
        self._retained: defaultdict[str, list[_Kept]] = defaultdict(list)
        self._gone: dict[str, int] = {}
        #: The channels of each subject, and when each grant ends.
        self._channels: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._tokens: dict[tuple[str, str], _Token] = {}

    def forget_messages(self) -> None:
        """Forget what was published, and runs; who may listen to what stays."""
        with self._lock:
            self.messages = Messages()
            self._runs = Runs(self.messages)
            self._message_ids.clear()
            self._retained.clear()
            self._gone.clear()

    def result(self, operation: Operation[Any]) -> Any:  # noqa: PLR0911  # A line for each kind.
        """Return what comes of `operation`."""
        with self._lock:
            if isinstance(operation, OfGroups):
                return self._groups.result(operation)
            match operation:
                case Publish():
                    return self._publish(operation)
                case ReadHistory() | Position():
                    return self._read(operation)
                case HasChannel() | ListChannels() | ClearChannels():
                    return self._list(operation, self._granted(operation.subject))
                case GetToken() | GenerateToken() | ObtainToken() | RenewToken() | ClearToken():
                    return self._token(operation)
                case OpenSession() | ListSessions() | RenewSession() | EndSession() | EndSessions():
                    return self._sessions.result(operation)
                case BeginRun() | TellRun() | HoldRuns() | StopRun() | GetRun():
                    return self._runs.result(operation)
        if isinstance(operation, ReadAudience):
            return Audience(self._nodes, None)
        if type(operation) in _NOBODY:
            return _NOBODY[type(operation)]()
        raise NotImplementedError(f"{type(operation).__name__} cannot be captured")

    def _publish(self, operation: Publish) -> Published:
        message_id = operation.message_id
        if message_id in self._message_ids:
            return Published(0, self._message_ids[message_id])
        identifier = None
        subject = operation.channel.removeprefix(INBOXES)
        if subject != operation.channel:
            self._granted(subject).setdefault(operation.channel, end_of(None))
        if operation.retain:
            self._last = EventID(_EPOCH, self._last.counter + 1)
            identifier = str(self._last)
            self._retain(operation, identifier)
        if message_id is not None:
            self._message_ids[message_id] = identifier
        self.messages.append(Publication.of(operation, identifier))
        return Published(self._nodes, identifier)

    def _retain(self, operation: Publish, identifier: str) -> None:
        data, event, *_ = operation.message
        kept = self._retained[operation.channel]
        message = Retained(identifier, event, data)
        kept.append(_Kept(self._last.counter, end_of(operation.retain), message))
        self._forget(operation.channel, kept[: -operation.retain_messages])

    def _forget(self, channel: str, some: "list[_Kept]") -> None:
        for each in some:
            self._retained[channel].remove(each)
            self._gone[channel] = max(each.counter, self._gone.get(channel, 0))

    def _read(self, operation: ReadHistory | Position) -> str | History | UnknownID:
        if isinstance(operation, Position):
            return str(self._last)
        counter = 0
        if operation.after is not None:
            epoch, counter, _ = EventID.parse(operation.after) or UNKNOWN
            if epoch != self._last.epoch or counter > self._last.counter:
                return operation.unknown()
        kept = self._retained[operation.channel]
        self._forget(operation.channel, [each for each in kept if is_over(each.end)])
        wanted = [each.message for each in kept if each.counter > counter]
        page = tuple(wanted[: operation.limit])
        missing = self._gone.get(operation.channel, 0) > counter
        return History(page, missing, len(wanted) > len(page))

    def _list(
        self,
        operation: HasChannel | ListChannels | ClearChannels,
        channels: dict[str, float],
    ) -> bool | set[str] | int:
        if isinstance(operation, ListChannels):
            return set(channels)
        if isinstance(operation, ClearChannels):
            count = len(channels)
            channels.clear()
            return count
        is_there = operation.channel in channels
        if isinstance(operation, AddChannel):
            channels[operation.channel] = end_of(operation.expires_in)
            return not is_there
        if isinstance(operation, RemoveChannel):
            channels.pop(operation.channel, None)
        return is_there

    def _granted(self, subject: str) -> dict[str, float]:
        """Return the channels of a subject, without those whose grants have ended."""
        channels = self._channels[subject]
        for name in [name for name, end in channels.items() if is_over(end)]:
            del channels[name]
        return channels

    def _token(
        self, operation: GetToken | GenerateToken | ObtainToken | RenewToken | ClearToken
    ) -> str | bool | None:
        key = operation.kind, operation.subject
        current = self._tokens.get(key)
        if current is not None and current.has_expired:
            current = None
        match operation:
            case GetToken():
                return None if current is None else current.text
            case ClearToken():
                self._tokens.pop(key, None)
                return current is not None
            case RenewToken():
                if current is not None:
                    current.renew(operation.expires_in)
                return current is not None
            case ObtainToken():
                if current is None or not current.can_be_told(operation.expires_in):
                    current = _Token(operation.token, operation.expires_in)
                current.tell(operation.expires_in)
            case GenerateToken():
                current = _Token(operation.token, operation.expires_in)
        self._tokens[key] = current
        return current.text


class _Kept(NamedTuple):
    """A message that is retained until `end`, on the monotonic clock."""

    counter: int
    end: float
    message: Retained


class _Token:
    def __init__(self, text: str, lifetime: int | None) -> None:
        self.text = text
        self._end = end_of(lifetime)
        self._first_told: float | None = None

    @property
    def has_expired(self) -> bool:
        return is_over(self._end)

    def can_be_told(self, lifetime: int | None) -> bool:
        """Whether a request for a token of so many milliseconds gets this one, not a new one."""
        if self._first_told is None or self._end == float("inf"):
            return True
        return time.monotonic() < self._first_told + seconds(lifetime)

    def tell(self, lifetime: int | None) -> None:
        """Prolong it, for a caller that gets it."""
        if self._first_told is None:
            self._first_told = time.monotonic()
        self.renew(lifetime)

    def renew(self, lifetime: int | None) -> None:
        """Let it live for so many milliseconds at least."""
        self._end = max(self._end, end_of(lifetime))
