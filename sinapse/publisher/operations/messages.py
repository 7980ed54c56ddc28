"""Publishing: one message to one channel."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sinapse.errors import InvalidSubject
from sinapse.protocol.ids import parse_counter
from sinapse.protocol.keys import HORIZON, INBOXES, channel_name
from sinapse.protocol.message import MAX_MESSAGE, Message, pack, pack_retained
from sinapse.protocol.names import Names
from sinapse.protocol.scripts import PUBLISH_ALL, PUBLISH_ONCE, PUBLISH_PLAIN, PUBLISH_RETAINED
from sinapse.publisher.operations.channels import Grant
from sinapse.publisher.operations.content import checked, stream_name
from sinapse.publisher.operations.identity import (
    ChannelLike,
    ChannelsLike,
    each_channel,
    given_id,
)
from sinapse.publisher.operations.operation import Argument, Operation, Refused, Request, call
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import (
    RETAIN,
    RETAIN_MESSAGES,
    Replay,
    checked_message_id,
    checked_replay,
    message_count,
    milliseconds,
    remembered,
)
from sinapse.publisher.operations.sent import Claim, Claimed, heard

#: Milliseconds for which a message to one subject is retained at least. The first one adds the
#: channel to the list of the subject, and its nodes listen to that only then.
INBOX_RETAIN = 10_000


class Publish(Operation[Published]):
    """A message to all who may listen to a channel; its result is how many nodes received it."""

    __slots__ = ("channel", "message", "message_id", "replay", "retain", "retain_messages")

    def __init__(
        self,
        channel: str,
        message: Message,
        retain: int,
        retain_messages: int,
        message_id: str | None,
        *,
        replay: Replay | None,
    ) -> None:
        self.channel: str = channel
        self.message: Message = message
        #: Milliseconds; 0 for not at all.
        self.retain: int = retain
        #: The limit for the channel.
        self.retain_messages: int = retain_messages
        self.message_id: str | None = message_id
        #: How many of the last messages a new stream gets; None leaves that as it is.
        self.replay: Replay | None = replay

    @property
    def spread_by(self) -> str:
        """The channel."""
        return self.channel

    @property
    def entries(self) -> Sequence[Grant]:
        """The right to an inbox: publishing adds it to the list of its subject."""
        subject = self.channel.removeprefix(INBOXES)
        if not subject or subject == self.channel:
            return ()
        try:
            return (Grant(given_id(subject), self.channel),)
        except InvalidSubject:  # It is an inbox of nobody.
            return ()

    @property
    def guard(self) -> Claim | None:
        """The claim of its id."""
        return None if self.message_id is None else Claim(self.message_id, remembered(self.retain))

    def is_claimed(self, result: Any) -> bool:
        """Whether the other place has a claim of its id."""
        return self.message_id is not None and isinstance(result, Claimed)

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        if self.retain:
            return self._retained(names)
        if self.message_id is None:
            return _plain(names, [self])
        return call(
            names,
            PUBLISH_ONCE,
            (names.sent_key(self.message_id),),
            (self.channel, pack(self.message), str(remembered(0))),
        )

    def result(self, answer: Any) -> Any:
        """Return how many nodes received it, or why it could not be published."""
        if self.retain or self.message_id is not None:
            return heard(answer)
        return heard(answer[0])

    def _retained(self, names: Names) -> Request:
        keys = [*names.shared, names.retained_key(self.channel)]
        arguments: list[Argument] = [
            self.channel,
            pack_retained(self.message),
            str(self.retain),
            str(self.retain_messages),
            names.nodes,
            str(HORIZON),
            _remembered(self),
        ]
        if self.message_id is not None:
            keys.append(names.sent_key(self.message_id))
        if self.replay is not None:
            keys.append(names.replay)
            arguments.append(str(self.replay))
        return call(names, PUBLISH_RETAINED, keys, arguments)


class PublishTogether(Operation[list[Published | Refused]]):
    """Several messages in one call; the result is that of each message."""

    __slots__ = ("messages",)

    def __init__(self, messages: Sequence[Publish]) -> None:
        self.messages: Sequence[Publish] = messages


class PublishPlain(PublishTogether):
    """Messages that are not retained, and have no message id."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        return _plain(names, self.messages)

    def result(self, answer: Sequence[Any]) -> list[Published | Refused]:
        """Return for each how many nodes received it, or why it could not be published."""
        return [heard(each) for each in answer]


class PublishAll(PublishTogether):
    """Messages that are retained."""

    __slots__ = ()

    def request(self, names: Names) -> Request:
        """Return what Redis is asked."""
        keys = [*names.shared]
        arguments: list[Argument] = [names.nodes, str(HORIZON), str(len(self.messages))]
        replays: list[Argument] = []
        if any(each.replay is not None for each in self.messages):
            keys.append(names.replay)
        for number, each in enumerate(self.messages, 1):
            keys.append(names.retained_key(each.channel))
            if each.message_id is not None:
                keys.append(names.sent_key(each.message_id))
            arguments += (
                each.channel,
                pack_retained(each.message),
                str(each.retain),
                str(each.retain_messages),
                _remembered(each),
            )
            if each.replay is not None:
                replays += (str(number), str(each.replay))
        return call(names, PUBLISH_ALL, keys, [*arguments, *replays])

    def result(self, answer: Sequence[Any]) -> list[Published | Refused]:
        """Return for each how many nodes received it, or why it could not be published."""
        epoch, digits, *outcomes = answer
        before = parse_counter(digits) or 0
        return [
            heard([each, b"%b-%d" % (epoch, counter)] if type(each) is int else each)
            for counter, each in enumerate(outcomes, before + 1)
        ]


def _remembered(message: Publish) -> str:
    """Return for how many milliseconds to remember a message id, empty for none."""
    return "" if message.message_id is None else str(remembered(message.retain))


def _plain(names: Names, messages: Iterable[Publish]) -> Request:
    arguments = [part for each in messages for part in (each.channel, pack(each.message))]
    return call(names, PUBLISH_PLAIN, (names.nothing,), arguments)


class Outgoing(NamedTuple):
    """A message that is published with others; the rest is as in ``publish``."""

    channel: ChannelLike
    message: object
    event: str | None = None
    retain: float | None = None
    message_id: str | None = None
    replay: Replay | None = None
    retain_messages: int | None = None
    but: str | None = None


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
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Publish:
        """Check the arguments.

        Raises :class:`~sinapse.errors.PublishError` or another ``ValueError``.
        """
        name = channel_name(channel)
        if retain is None:
            retain = getattr(channel, "sinapse_retain", None)
        kept = self._retain if retain is None else milliseconds(retain)
        if name.startswith(INBOXES):
            kept = max(kept, INBOX_RETAIN)
        if retain_messages is None:
            retain_messages = getattr(channel, "sinapse_retain_messages", None)
        most = self._retain_messages if retain_messages is None else message_count(retain_messages)
        if replay is not None and not kept:
            raise ValueError("replay is for messages that are retained, and this one is not")
        if replay is None:
            replay = getattr(channel, "sinapse_replay", None)
        past = None if replay is None else checked_replay(replay, most)
        if message_id is not None:
            message_id = checked_message_id(message_id)
        content = checked(message, event, self.max_message)
        if but is not None:
            content = content._replace(but=stream_name(but))
        return Publish(name, content, kept, most, message_id, replay=past if kept else None)

    def publish_many(self, messages: Iterable[AnyOutgoing]) -> list[Publish]:
        """Check the messages; an error has a note with the number of its message."""
        operations = []
        for number, each in enumerate(messages):
            try:
                operations.append(self.publish(**_outgoing(each)._asdict()))
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
        *,
        replay: Replay | None,
        retain_messages: int | None,
        but: str | None,
    ) -> list[Publish]:
        """Check the arguments: one message to one channel or several."""
        channels = each_channel(channel)
        if message_id is not None and len(channels) > 1:
            raise ValueError("message_id is that of one message to one channel: give each its own")
        return [
            self.publish(
                each,
                message,
                event,
                retain,
                message_id,
                replay=replay,
                retain_messages=retain_messages,
                but=but,
            )
            for each in channels
        ]


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
