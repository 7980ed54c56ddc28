"""What was published while it was captured, and whether that is what a test expects."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias, overload

from sinapse.protocol.keys import channel_name
from sinapse.publisher.operations.content import checked, value_of
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.retention import RETAIN_MESSAGES, Replay

#: Characters of a message that a failure shows.
MAX_SHOWN_TEXT = 200

#: Messages that a failure shows.
MAX_SHOWN_MESSAGES = 20


class _Any(Enum):
    ANY = "any"


#: Where it does not matter. None does: it means a message without event type, or ``null``.
ANY: Literal[_Any.ANY] = _Any.ANY
Anything: TypeAlias = Literal[_Any.ANY]


@dataclass(frozen=True)
class Publication:
    """A message as it would have been sent."""

    channel: str
    data: str
    """Text as it is, anything else as JSON."""
    event: str | None
    retain: float
    """Seconds, 0 for not at all."""
    message_id: str | None
    replay: Replay | None = None
    """How many of the last messages of the channel a new stream gets; None leaves that as it is."""
    retain_messages: int = RETAIN_MESSAGES
    """How many messages the channel keeps."""
    but: str | None = None
    """The name of the streams that it is not for."""
    id: str | None = field(default=None, compare=False)
    """Id of the message, None if it is not retained; messages are equal without it."""

    @property
    def message(self) -> Any:
        """The value of `data` as JSON, or the text if it is not JSON."""
        return value_of(self.data)

    @classmethod
    def of(cls, operation: Publish, id: str | None) -> "Publication":  # noqa: A002  # As a message has it.
        """Return what `operation` sends, with the `id` that it gets."""
        message = operation.message
        return cls(
            operation.channel,
            message.data,
            message.event,
            operation.retain / 1000,
            operation.message_id,
            operation.replay,
            operation.retain_messages,
            message.but,
            id,
        )

    def __str__(self) -> str:
        event = "" if self.event is None else f", event {self.event!r}"
        return f"{self.channel!r}{event}: {_shortened(self.data)}"


class Messages(Sequence[Publication]):
    """All that was published, in order. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Publication] = []

    def append(self, publication: Publication) -> None:
        """Take note of one more."""
        with self._lock:
            self._all.append(publication)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._all.clear()

    @overload
    def __getitem__(self, index: int) -> Publication: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Publication]: ...

    def __getitem__(self, index: int | slice) -> Publication | Sequence[Publication]:
        with self._lock:
            return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Publication]:
        return iter(self[:])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self)!r}>"

    def assert_published(
        self,
        count: int | None = None,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> list[Publication]:
        """Return those that match; raises ``AssertionError`` unless there are so many.

        Without `count` one is enough. `channel` is a name, or an object that has one; ``None`` for
        `event` is a message without event type; `message` is what was given to ``publish``, JSON
        is compared by its value.
        """
        return Expectation(count, channel, event, message).check(list(self))

    def refute_published(
        self,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> None:
        """Raise ``AssertionError`` if there is any that matches."""
        self.assert_published(0, channel=channel, event=event, message=message)


class Expectation:
    """How many messages there should be of some kind; None for one or more.

    Raises ``ValueError`` for what nothing could ever match: no channel, or no message.
    """

    def __init__(
        self,
        count: int | None,
        channel: ChannelLike | Anything,
        event: str | Anything | None,
        message: object,
    ) -> None:
        self._count = count
        self._channel = channel if channel is ANY else channel_name(channel)
        self._event = event
        self._data = message if message is ANY else _data_of(message)
        self._is_text = isinstance(message, str | bytes)

    def check(self, published: Sequence[Publication]) -> list[Publication]:
        """Return those that match; raises ``AssertionError``, which shows what there is."""
        matching = [each for each in published if self._matches(each)]
        if len(matching) == self._count or (self._count is None and matching):
            return matching
        lines = [f"expected {self}, but {_number(len(matching))}"]
        if not published:
            lines[0] += "; nothing was published at all"
        elif len(published) == len(matching):
            lines[0] += ":"
        else:
            lines[0] += f"; {_number(len(published))} in all:"
        lines += [f"  {each}" for each in published[:MAX_SHOWN_MESSAGES]]
        if len(published) > MAX_SHOWN_MESSAGES:
            lines.append(f"  and {len(published) - MAX_SHOWN_MESSAGES} more")
        raise AssertionError("\n".join(lines))

    def __str__(self) -> str:
        count = "a message" if self._count is None else _messages(self._count)
        if self._channel is not ANY:
            count += f" to {self._channel!r}"
        if self._event is None:
            count += " without event type"
        elif self._event is not ANY:
            count += f" with event {self._event!r}"
        if self._data is not ANY:
            count += f" that is {_shortened(str(self._data))}"
        return count

    def _matches(self, publication: Publication) -> bool:
        return (
            (self._channel is ANY or publication.channel == self._channel)
            and (self._event is ANY or publication.event == self._event)
            and (self._data is ANY or self._is_data_of(publication))
        )

    def _is_data_of(self, publication: Publication) -> bool:
        if publication.data == self._data:
            return True
        if self._is_text:
            return False
        try:
            return bool(json.loads(publication.data) == json.loads(str(self._data)))
        except ValueError:
            return False


def _data_of(message: object) -> str:
    return checked(message, None, 2**62).data


def _messages(count: int) -> str:
    return {0: "no message", 1: "1 message"}.get(count, f"{count} messages")


def _number(count: int) -> str:
    return {0: "none was published", 1: "1 was published"}.get(count, f"{count} were published")


def _shortened(text: str) -> str:
    return (
        text
        if len(text) <= MAX_SHOWN_TEXT
        else f"{text[:MAX_SHOWN_TEXT]}… ({len(text)} characters)"
    )
