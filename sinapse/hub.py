"""Who listens to what, exactly: the subscription table of a node. No clock, no socket.

Redis gives messages and control messages on one connection, in one order, and the hub is told
of them in that order. :meth:`Hub.dispatch` collects messages; :meth:`Hub.flush`, called when one
read of that connection has been handled, gives every touched subscriber its messages of that
read in one :meth:`Subscriber.send`, in the order of publication. A control message is applied at
once: what was dispatched before it is flushed first, what follows sees the new list.

A subscriber opens in three steps, so that no list is ever wrong, not even for an instant:

1. :meth:`Hub.join` before the look-up is sent: control messages are noted from now on.
2. :meth:`Hub.admit` with the answer: its channels are kept subscribed.
3. :meth:`Hub.open` when everything published before the answer has been handled: the list is
   the answer with the noted control messages on top. Each of them sets the final state of one
   channel, so one that the answer already contains does no harm.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from sinapse.counters import Counters
from sinapse.errors import CloseReason, Unauthorized
from sinapse.keys import ADD, REMOVE, REVOKE, is_channel
from sinapse.message import Message


class Framing(Protocol):
    """How messages become bytes for one kind of stream."""

    def encode(self, channel: bytes, messages: Sequence[Message]) -> bytes:
        """Return one frame with `messages` of `channel`."""


class Subscriber(Protocol):
    """An open stream, as the hub sees it.

    Neither method may call back into the hub before it returns: the hub is in a loop.
    """

    token: bytes
    subject: "Subject | None"

    @property
    def framing(self) -> Framing:
        """How its bytes are made."""

    def send(self, frame: bytes) -> None:
        """Take `frame`, now or as soon as the stream has caught up."""

    def close(self, reason: CloseReason) -> None:
        """End the stream."""


Joined = TypeVar("Joined", bound=Subscriber)


class Subject:
    """A user with open streams on this node, and the channels that it may listen to now."""

    __slots__ = ("channels", "id", "subscribers")

    def __init__(self, identifier: bytes) -> None:
        self.id = identifier
        self.channels: set[bytes] = set()
        self.subscribers: set[Subscriber] = set()


class Channel:
    """A channel that somebody here may listen to."""

    __slots__ = ("audiences", "holders", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        #: Subjects and joins that need it; at none it is dropped.
        self.holders = 0
        #: Open subscribers by framing, so that the loop over them has no branch.
        self.audiences: dict[Framing, set[Subscriber]] = {}


class Joining:
    """A subscriber on its way in: what was noted, and what it already holds."""

    __slots__ = ("answer", "channels", "mark", "subject", "token")

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.subject = b""
        self.token = b""
        self.answer: frozenset[bytes] = frozenset()
        self.channels: frozenset[bytes] = frozenset()


class Hub:
    """The table of a node."""

    def __init__(self, counters: Counters) -> None:
        self.channels: dict[bytes, Channel] = {}
        self.subjects: dict[bytes, Subject] = {}
        #: Told of a channel that is needed from now on, or no longer.
        self.interest_changed: Callable[[bytes], None] = _nobody
        self._counters = counters
        self._batch: list[tuple[Channel, list[Message]]] = []
        self._joins: set[Joining] = set()
        # Control messages by subject, kept while anybody joins: (number, action, value).
        self._notes: dict[bytes, list[tuple[int, str, bytes]]] = {}
        self._noted = 0

    # Messages

    def dispatch(self, name: bytes, message: Message) -> None:
        """Take a message that was published to the channel `name`."""
        channel = self.channels.get(name)
        if channel is None:  # Unsubscribed, and Redis does not know yet.
            return
        self._counters.messages += 1
        batch = self._batch
        if batch and batch[-1][0] is channel:
            batch[-1][1].append(message)
        else:
            batch.append((channel, [message]))

    def flush(self) -> None:
        """Send what was dispatched: one frame a framing, one send a touched subscriber."""
        batch = self._batch
        if not batch:
            return
        self._batch = []
        deliveries = 0
        if len(batch) == 1:
            channel, messages = batch[0]
            for framing, audience in channel.audiences.items():
                frame = framing.encode(channel.name, messages)
                for subscriber in audience:
                    subscriber.send(frame)
                deliveries += len(messages) * len(audience)
        else:
            # Frames are collected by subscriber, which keeps their order across channels and
            # makes one system call of many.
            outbox: dict[Subscriber, list[bytes]] = {}
            for channel, messages in batch:
                for framing, audience in channel.audiences.items():
                    frame = framing.encode(channel.name, messages)
                    for subscriber in audience:
                        if (frames := outbox.get(subscriber)) is None:
                            outbox[subscriber] = [frame]
                        else:
                            frames.append(frame)
                    deliveries += len(messages) * len(audience)
            for subscriber, frames in outbox.items():
                subscriber.send(frames[0] if len(frames) == 1 else b"".join(frames))
        self._counters.deliveries += deliveries

    # Opening and leaving

    def join(self) -> Joining:
        """Begin to open a subscriber, before anything is looked up for it."""
        joining = Joining(self._noted)
        self._joins.add(joining)
        return joining

    def admit(
        self, joining: Joining, subject: bytes, token: bytes, channels: Iterable[bytes]
    ) -> None:
        """Take the answer of the look-up, and hold its channels.

        Raises :class:`~sinapse.errors.Unauthorized` if the subject may listen to nothing.
        """
        joining.subject = subject
        joining.token = token
        joining.answer = frozenset(filter(is_channel, channels))
        expected = self._expected(joining)
        joining.channels = frozenset(expected)
        for name in expected:
            self._hold(name)

    def open(self, joining: Joining, make: Callable[[], Joined]) -> Joined:
        """End the join with a live subscriber: it gets what is dispatched from now on.

        To be called when everything published before the answer has been dispatched. `make` is
        only called if the subscriber may open; otherwise, since the token was revoked or the
        list emptied meanwhile, this raises :class:`~sinapse.errors.Unauthorized`.
        """
        try:
            self.flush()
            expected = self._expected(joining)
            subscriber = make()
            subject = self.subjects.get(joining.subject)
            if subject is None:
                subject = self.subjects[joining.subject] = Subject(joining.subject)
            self._settle(subject, expected)
            subject.subscribers.add(subscriber)
            subscriber.subject = subject
            for name in subject.channels:
                self._listen(self.channels[name], subscriber)
        finally:
            self.abandon(joining)
        return subscriber

    def abandon(self, joining: Joining) -> None:
        """End a join that did not become a subscriber, or has become one."""
        self._joins.discard(joining)
        if not self._joins:
            self._notes.clear()
        for name in joining.channels:
            self._release(name)
        joining.channels = frozenset()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose stream has ended."""
        subject = subscriber.subject
        if subject is None:
            return
        subscriber.subject = None
        subject.subscribers.discard(subscriber)
        for name in subject.channels:
            self._stop_listening(self.channels[name], subscriber)
        if not subject.subscribers:
            del self.subjects[subject.id]
            for name in subject.channels:
                self._release(name)

    # Live authorisation

    def control(self, subject_id: bytes, action: str, value: bytes) -> None:
        """Apply a control message: ADD or REMOVE of a channel, or REVOKE of a token.

        Others are ignored, so that the protocol can grow.
        """
        if action == ADD and not is_channel(value):
            return
        self._noted += 1
        if self._joins:
            self._notes.setdefault(subject_id, []).append((self._noted, action, value))
        subject = self.subjects.get(subject_id)
        if subject is None:
            return
        if action == ADD and value not in subject.channels:
            self.flush()
            self._grant(subject, value)
        elif action == REMOVE and value in subject.channels:
            self.flush()
            self._withdraw(subject, value)
            self._end_if_empty(subject)
        elif action == REVOKE:
            self.end_token(subject_id, value, CloseReason.REVOKED)

    def end_token(self, subject_id: bytes, token: bytes, reason: CloseReason) -> None:
        """End the streams that were opened with a token of the subject."""
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            for subscriber in [each for each in subject.subscribers if each.token == token]:
                self._end(subscriber, reason)

    def reconcile(self, subject_id: bytes, channels: Iterable[bytes]) -> None:
        """Make the list of a subject with open streams what Redis says it is now."""
        subject = self.subjects.get(subject_id)
        if subject is not None:
            self.flush()
            self._settle(subject, set(filter(is_channel, channels)))
            self._end_if_empty(subject)

    # The table itself

    def _expected(self, joining: Joining) -> set[bytes]:
        """Return the answer with what was noted since on top; raises Unauthorized if nothing."""
        expected = set(joining.answer)
        for number, action, value in self._notes.get(joining.subject, ()):
            if number <= joining.mark:
                continue
            if action == ADD:
                expected.add(value)
            elif action == REMOVE:
                expected.discard(value)
            elif action == REVOKE and value == joining.token:
                raise Unauthorized("token revoked")
        if not expected:
            raise Unauthorized("no channels")
        return expected

    def _settle(self, subject: Subject, expected: set[bytes]) -> None:
        for name in expected - subject.channels:
            self._grant(subject, name)
        for name in subject.channels - expected:
            self._withdraw(subject, name)

    def _grant(self, subject: Subject, name: bytes) -> None:
        channel = self._hold(name)
        subject.channels.add(name)
        for subscriber in subject.subscribers:
            self._listen(channel, subscriber)

    def _withdraw(self, subject: Subject, name: bytes) -> None:
        subject.channels.remove(name)
        channel = self.channels[name]
        for subscriber in subject.subscribers:
            self._stop_listening(channel, subscriber)
        self._release(name)

    def _end_if_empty(self, subject: Subject) -> None:
        if not subject.channels:
            for subscriber in list(subject.subscribers):
                self._end(subscriber, CloseReason.NO_CHANNELS)

    def _end(self, subscriber: Subscriber, reason: CloseReason) -> None:
        self.leave(subscriber)
        subscriber.close(reason)

    def _hold(self, name: bytes) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name)
            self.interest_changed(name)
        channel.holders += 1
        return channel

    def _release(self, name: bytes) -> None:
        channel = self.channels[name]
        channel.holders -= 1
        if not channel.holders:
            del self.channels[name]
            self.interest_changed(name)

    def _listen(self, channel: Channel, subscriber: Subscriber) -> None:
        audience = channel.audiences.get(subscriber.framing)
        if audience is None:
            audience = channel.audiences[subscriber.framing] = set()
        audience.add(subscriber)

    def _stop_listening(self, channel: Channel, subscriber: Subscriber) -> None:
        audience = channel.audiences[subscriber.framing]
        audience.discard(subscriber)
        if not audience:
            del channel.audiences[subscriber.framing]


def _nobody(_channel: bytes) -> None:
    """Stand in until a broker is there."""
