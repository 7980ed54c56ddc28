"""Publishing: one message to one channel."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sinapse.protocol.keys import (
    CHECKPOINTS,
    EPOCHS,
    LAST,
    NODES,
    NOTHING,
    RETENTION,
    channel_name,
    of_another_type,
    retained_key,
    sent_key,
)
from sinapse.protocol.message import MAX_MESSAGE, Message, pack, pack_retained
from sinapse.protocol.scripts import PUBLISH_ALL, PUBLISH_ONCE, PUBLISH_PLAIN, PUBLISH_RETAINED
from sinapse.publisher.operations.content import checked
from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, each_channel
from sinapse.publisher.operations.operation import Argument, Operation, Refused, Request, call
from sinapse.publisher.operations.retention import (
    HORIZON,
    RETAIN,
    RETAIN_MESSAGES,
    checked_message_id,
    message_count,
    milliseconds,
    remembered,
)

#: The keys that all retained messages share.
_STATE = (RETENTION, EPOCHS, LAST, CHECKPOINTS)


class Publish(Operation[int]):
    """A message to all who may listen to a channel; its result is how many nodes received it."""

    __slots__ = ("channel", "message", "message_id", "retain", "retain_messages")

    def __init__(
        self,
        channel: str,
        message: Message,
        retain: int,
        retain_messages: int,
        message_id: str | None,
    ) -> None:
        self.channel: str = channel
        self.message: Message = message
        #: Milliseconds; 0 for not at all.
        self.retain: int = retain
        #: The limit for the channel.
        self.retain_messages: int = retain_messages
        self.message_id: str | None = message_id

    @property
    def spread_by(self) -> str:
        """The channel."""
        return self.channel

    def request(self) -> Request:
        """Return what Redis is asked."""
        if self.retain:
            return self._retained()
        if self.message_id is None:
            return _plain([self])
        return call(
            PUBLISH_ONCE,
            (sent_key(self.message_id),),
            (self.channel, pack(self.message), str(remembered(0))),
        )

    def result(self, answer: int | Sequence[int | bytes]) -> Any:
        """Return how many nodes received it, or why it could not be published."""
        return _heard(self, answer if isinstance(answer, int) else answer[0])

    def _retained(self) -> Request:
        key = retained_key(self.channel)
        arguments = (
            self.channel,
            pack_retained(self.message),
            str(self.retain),
            str(self.retain_messages),
            NODES,
            str(HORIZON),
        )
        if self.message_id is None:
            return call(PUBLISH_RETAINED, (*_STATE, key), arguments)
        keys = (*_STATE, key, sent_key(self.message_id))
        return call(PUBLISH_RETAINED, keys, (*arguments, str(remembered(self.retain))))


class PublishTogether(Operation[list[int | Refused]]):
    """Several messages in one call; the result is that of each message."""

    __slots__ = ("messages",)

    def __init__(self, messages: Sequence[Publish]) -> None:
        self.messages: Sequence[Publish] = messages

    def result(self, answer: Sequence[int | bytes]) -> list[int | Refused]:
        """Return for each how many nodes received it, or why it could not be published."""
        pairs = zip(self.messages, answer, strict=True)
        return [_heard(message, each) for message, each in pairs]


class PublishPlain(PublishTogether):
    """Messages that are not retained, and have no message id."""

    __slots__ = ()

    def request(self) -> Request:
        """Return what Redis is asked."""
        return _plain(self.messages)


class PublishAll(PublishTogether):
    """Messages that are retained."""

    __slots__ = ()

    def request(self) -> Request:
        """Return what Redis is asked."""
        keys = [*_STATE]
        arguments: list[Argument] = [NODES, str(HORIZON)]
        for each in self.messages:
            keys.append(retained_key(each.channel))
            if each.message_id is not None:
                keys.append(sent_key(each.message_id))
            arguments += (
                each.channel,
                pack_retained(each.message),
                str(each.retain),
                str(each.retain_messages),
                "" if each.message_id is None else str(remembered(each.retain)),
            )
        return call(PUBLISH_ALL, keys, arguments)


def _plain(messages: Iterable[Publish]) -> Request:
    arguments = [part for each in messages for part in (each.channel, pack(each.message))]
    return call(PUBLISH_PLAIN, (NOTHING,), arguments)


def _heard(message: Publish, answer: int | bytes) -> int | Refused:
    if isinstance(answer, int):
        return max(0, answer)
    text = answer.decode(errors="replace")
    return Refused(of_another_type(text, [retained_key(message.channel)]))


class Outgoing(NamedTuple):
    """A message that is published with others; the rest is as in ``publish``."""

    channel: ChannelLike
    message: object
    event: str | None = None
    retain: float | None = None
    message_id: str | None = None


#: A message for ``publish_many``: also a plain tuple that begins like :class:`Outgoing`, or a
#: mapping with its names.
AnyOutgoing: TypeAlias = (
    Outgoing
    | tuple[ChannelLike, object]
    | tuple[ChannelLike, object, str | None]
    | tuple[ChannelLike, object, str | None, float | None]
    | Mapping[str, Any]
)


class Messages:
    """Makes the operations that publish messages, from the arguments of an application.

    `max_message` is in bytes, `retain` in seconds, `retain_messages` is the limit for each channel;
    for those that are None the environment decides. Raises ``ValueError`` for a setting that cannot
    be used.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        max_message: int | None,
        retain: float | None,
        retain_messages: int | None,
    ) -> None:
        if max_message is None:
            max_message = _number(environment, "SINAPSE_MAX_MESSAGE", "bytes", MAX_MESSAGE)
        self.max_message = max_message
        self._retain = _retain(environment) if retain is None else milliseconds(retain)
        self._retain_messages = (
            _retain_messages(environment)
            if retain_messages is None
            else message_count(retain_messages)
        )

    def publish(
        self,
        channel: ChannelLike,
        message: object,
        event: str | None,
        retain: float | None,
        message_id: str | None,
    ) -> Publish:
        """Check the arguments.

        Raises :class:`~sinapse.errors.PublishError` or another ``ValueError``.
        """
        name = channel_name(channel)
        if retain is None:
            retain = getattr(channel, "sinapse_retain", None)
        kept = self._retain if retain is None else milliseconds(retain)
        if message_id is not None:
            message_id = checked_message_id(message_id)
        content = checked(message, event, self.max_message)
        return Publish(name, content, kept, self._retain_messages, message_id)

    def publish_many(self, messages: Iterable[AnyOutgoing]) -> list[Publish]:
        """Check the messages; an error has a note with the number of its message."""
        operations = []
        for number, each in enumerate(messages):
            try:
                operations.append(self.publish(*_outgoing(each)))
            except ValueError as error:
                error.add_note(f"It is message {number} of those to publish, counted from 0.")
                raise
        return operations

    def copies(
        self,
        channel: ChannelLike | ChannelsLike,
        message: object,
        event: str | None,
        retain: float | None,
        message_id: str | None,
    ) -> list[Publish]:
        """Check the arguments: one message to one channel or several."""
        channels = each_channel(channel)
        if message_id is not None and len(channels) > 1:
            raise ValueError("message_id is that of one message to one channel: give each its own")
        return [self.publish(each, message, event, retain, message_id) for each in channels]


def _outgoing(given: object) -> Outgoing:
    if isinstance(given, Outgoing):
        return given
    try:
        if isinstance(given, Mapping):
            return Outgoing(**given)
        if isinstance(given, tuple | list):
            return Outgoing(*given)
    except TypeError:
        pass
    names = ", ".join(Outgoing._fields)
    raise ValueError(f"a message is a tuple or a mapping of {names}, not {given!r:.80}")


def _number(environment: Mapping[str, str], name: str, unit: str, default: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{name} must be a number of {unit}, not {text!r}")
    return int(text)


def _retain(environment: Mapping[str, str]) -> int:
    text = environment.get("SINAPSE_RETAIN")
    try:
        seconds = float(text) if text else RETAIN
    except ValueError:
        raise ValueError(f"SINAPSE_RETAIN must be a number of seconds, not {text!r}") from None
    return milliseconds(seconds, "SINAPSE_RETAIN")


def _retain_messages(environment: Mapping[str, str]) -> int:
    name = "SINAPSE_RETAIN_MESSAGES"
    return message_count(_number(environment, name, "messages", RETAIN_MESSAGES), name)
