"""Batches: what several callers publish at one moment, as one conversation, without any I/O.

Messages of a channel go in the order of the calls, whatever becomes of a connection: while one of
them is under way, the later ones wait.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeGuard, TypeVar
from weakref import WeakMethod

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation

#: Carries operations out in one round trip, and returns the result of each.
Send: TypeAlias = Callable[[Sequence[Operation[Any]]], list[Any]]

#: The same, to be awaited.
AwaitedSend: TypeAlias = Callable[[Sequence[Operation[Any]]], Coroutine[Any, Any, list[Any]]]

S = TypeVar("S", bound=Callable[..., Any])

#: Seconds after which messages do not wait any more for answers to others, but for those of their
#: channel.
PATIENCE = 0.005

#: What who has waited too long for those is told.
UNANSWERED = "earlier messages of its channel were not answered"

#: Calls, and bytes of their messages, after which a batch is full.
MAX_CALLS = 2000
MAX_DATA = 1 << 20


def are_messages(operations: Sequence[Operation[Any]]) -> TypeGuard[Sequence[Publish]]:
    """Whether they can be sent together with those of others."""
    for operation in operations:  # noqa: SIM110  # A generator costs more than what it looks at.
        if type(operation) is not Publish:
            return False
    return True


def alive(send: "WeakMethod[S]") -> S:
    """Return what sends: it is known weakly, so that a publisher that is forgotten is gone.

    Whoever publishes keeps it.
    """
    found = send()
    assert found is not None  # noqa: S101
    return found


def _nobody() -> None:
    pass


class Call:
    """The messages of one caller, who has called at `asked`, in seconds of any clock."""

    __slots__ = ("_outcome", "asked", "channels", "leave", "messages", "wake")

    def __init__(self, messages: Sequence[Publish], asked: float = 0.0) -> None:
        self.messages: Sequence[Publish] = messages
        #: Each once. Of a tuple of texts the garbage collector keeps no account.
        self.channels: tuple[str, ...] = (
            (messages[0].channel,)
            if len(messages) == 1
            else tuple({message.channel for message in messages})
        )
        self.asked: float = asked
        #: Is called once it is known what has become of them.
        self.wake: Callable[[], object] = _nobody
        #: Is to be called by a caller who gives up, once they are under way.
        self.leave: Callable[[], object] = _nobody
        self._outcome: list[Any] | BrokerUnavailable | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what has become of them."""
        return self._outcome is not None

    def settle(self, outcome: "list[Any] | BrokerUnavailable") -> None:
        """Note the results, or the error of all of them."""
        self._outcome = outcome
        self.wake()

    def results(self) -> list[Any]:
        """Return the results; raises the error."""
        if isinstance(self._outcome, BrokerUnavailable):
            raise self._outcome
        if self._outcome is None:
            raise RuntimeError("nothing is known of these messages yet")
        return self._outcome


class Batches:
    """The calls that wait, in their order, and the channels of those that are under way."""

    def __init__(self) -> None:
        # In the order of the calls.
        self._waiting: dict[Call, None] = {}
        self._busy: set[str] = set()

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is under way."""
        return not self._waiting and not self._busy

    def put(self, call: Call) -> None:
        """Let a call wait behind the others."""
        self._waiting[call] = None

    def withdraw(self, call: Call) -> None:
        """Forget a call whose caller is gone, if it still waits."""
        self._waiting.pop(call, None)

    def withdraw_before(self, time: float) -> list[Call]:
        """Forget the calls that came before a time and still wait, and return them."""
        late = []
        for call in self._waiting:
            if call.asked >= time:
                break
            late.append(call)
        for call in late:
            del self._waiting[call]
        return late

    def first(self) -> Call | None:
        """Return the call that waits for longest."""
        return next(iter(self._waiting), None)

    def take(self, taken: list[Call]) -> None:
        """Add to `taken` the calls that may go now, in their order: they are under way then.

        If a signal handler raises something in the midst, those in `taken` can still be ended.
        """
        blocked = set(self._busy)
        data = 0
        for call in self._waiting:
            # Several messages of one channel are a batch of their own: who has put them together
            # relies on what a call of a script does, to all of them or to none.
            is_whole = len(call.channels) < len(call.messages)
            if data > MAX_DATA or len(taken) == MAX_CALLS or (is_whole and taken):
                break
            if blocked and not blocked.isdisjoint(call.channels):
                # So that nothing of these overtakes it.
                blocked.update(call.channels)
                continue
            taken.append(call)
            for message in call.messages:
                data += len(message.message.data)
            if is_whole:
                break
        for call in taken:
            del self._waiting[call]
            self._busy.update(call.channels)

    def begin(self, messages: Sequence[Publish]) -> None:
        """Note that messages are under way that have not waited."""
        for message in messages:
            self._busy.add(message.channel)

    def end_of(self, messages: Sequence[Publish]) -> None:
        """Note that messages are not under way any more, which :meth:`begin` was told of."""
        for message in messages:
            self._busy.discard(message.channel)

    def end(self, calls: Sequence[Call]) -> None:
        """Note that calls are not under way any more."""
        for call in calls:
            self._waiting.pop(call, None)
            self._busy.difference_update(call.channels)


def messages_of(calls: Sequence[Call]) -> Sequence[Publish]:
    """Return the messages of calls, one after the other."""
    if len(calls) == 1:
        return calls[0].messages
    return [message for call in calls for message in call.messages]


def settle(calls: Sequence[Call], results: list[Any]) -> None:
    """Give each call its part of the results, which are those of :func:`messages_of`."""
    if len(calls) == 1:
        calls[0].settle(results)
        return
    start = 0
    for call in calls:
        end = start + len(call.messages)
        call.settle(results[start:end])
        start = end


def fail(calls: Sequence[Call], error: BrokerUnavailable) -> None:
    """Give each call of which nothing is known yet an error of its own, with the text of `error`.

    One error that several callers raise would collect the tracebacks of all.
    """
    for call in calls:
        if not call.is_settled:
            own = BrokerUnavailable(str(error), error.delivered)
            own.__cause__ = error.__cause__
            call.settle(own)
