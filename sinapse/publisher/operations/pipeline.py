"""Operations that are collected to be sent together."""

from collections.abc import Sequence
from typing import Any, Generic, cast

from sinapse.errors import SinapseError
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.identity import ChannelLike, SubjectId
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.tokens import (
    USER,
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)

_NOT_SENT = object()


class Pending(Generic[T]):
    """What will come of an operation of a pipeline."""

    __slots__ = ("_result",)

    def __init__(self) -> None:
        self._result: Any = _NOT_SENT

    @property
    def result(self) -> T:
        """What came of it; raises what it failed with, and ``RuntimeError`` before that."""
        if self._result is _NOT_SENT:
            raise RuntimeError("the pipeline was not sent yet")
        if isinstance(self._result, SinapseError):
            raise self._result
        return cast(T, self._result)

    def settle(self, result: Any) -> None:
        """Take note of what came of it."""
        self._result = result


class Collection:
    """Operations in the order in which they were asked for."""

    def __init__(self, messages: Messages, *, hashed: bool) -> None:
        self._messages = messages
        self._operations: list[Operation[Any]] = []
        self._pending: list[Pending[Any]] = []
        self.tokens: CollectedTokens = CollectedTokens(self, hashed=hashed)
        self.channels: CollectedChannels = CollectedChannels(self)

    def publish(
        self,
        channel: ChannelLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
    ) -> Pending[int]:
        """Publish with the others: as the publisher's. What is invalid raises at once."""
        return self.add(self._messages.publish(channel, message, event, retain, message_id))

    def add(self, operation: Operation[T]) -> Pending[T]:
        """Do `operation` with the others."""
        pending: Pending[T] = Pending()
        self._operations.append(operation)
        self._pending.append(pending)
        return pending

    def __len__(self) -> int:
        return len(self._operations)

    def take(self) -> tuple[list[Operation[Any]], list[Pending[Any]]]:
        """Return the operations and what will come of them, and begin anew."""
        taken = self._operations, self._pending
        self._operations, self._pending = [], []
        return taken


def settle(pending: Sequence[Pending[Any]], results: Sequence[Any]) -> None:
    """Take note of what came of each."""
    for each, result in zip(pending, results, strict=True):
        each.settle(result)


class CollectedTokens:
    """``pipe.tokens``: as those of the publisher."""

    def __init__(self, collection: Collection, *, hashed: bool) -> None:
        self._add = collection.add
        self._hashed = hashed

    def get(self, subject: SubjectId, kind: str = USER) -> Pending[str | None]:
        """Read the current token, or None if there is none or it has expired."""
        return self._add(GetToken(subject, kind, hashed=self._hashed))

    def generate(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> Pending[str]:
        """Make a new token; the former one is revoked, and its open streams end."""
        return self._add(GenerateToken(subject, kind, expires_in, hashed=self._hashed))

    def reset(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> Pending[str]:
        """Make a new token in place of the former one: Ruby's name for `generate`."""
        return self.generate(subject, kind, expires_in)

    def obtain(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> Pending[str]:
        """Read the current token, or make one, with at least `expires_in` seconds to live."""
        return self._add(ObtainToken(subject, kind, expires_in, hashed=self._hashed))

    def renew(
        self, subject: SubjectId, kind: str = USER, expires_in: float | None = None
    ) -> Pending[bool]:
        """Let the current token live for `expires_in` seconds from now, and its streams with it."""
        return self._add(RenewToken(subject, kind, expires_in))

    def clear(self, subject: SubjectId, kind: str = USER) -> Pending[bool]:
        """Revoke the current token, and end its open streams."""
        return self._add(ClearToken(subject, kind))


class CollectedChannels:
    """``pipe.channels``: as those of the publisher."""

    def __init__(self, collection: Collection) -> None:
        self._add = collection.add

    def list(self, subject: SubjectId) -> Pending[set[str]]:
        """List the names of the channels that `subject` may listen to."""
        return self._add(ListChannels(subject))

    def has(self, subject: SubjectId, channel: ChannelLike) -> Pending[bool]:
        """Ask whether `subject` may listen to `channel`."""
        return self._add(HasChannel(subject, channel))

    def add(self, subject: SubjectId, channel: ChannelLike) -> Pending[bool]:
        """Let `subject` listen to `channel`."""
        return self._add(AddChannel(subject, channel))

    def remove(self, subject: SubjectId, channel: ChannelLike) -> Pending[bool]:
        """Let `subject` listen to `channel` no longer."""
        return self._add(RemoveChannel(subject, channel))

    def clear(self, subject: SubjectId) -> Pending[int]:
        """Let `subject` listen to nothing, which ends its streams."""
        return self._add(ClearChannels(subject))
