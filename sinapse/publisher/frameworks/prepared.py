"""Messages that are checked now and sent later: when a transaction has been committed."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from sinapse.publisher.defaults import default
from sinapse.publisher.operations.messages import Messages, Outgoing, Publish
from sinapse.publisher.operations.published import Published

P = ParamSpec("P")
T = TypeVar("T")


class Prepared(Outgoing):
    """A message as it was when it was prepared, whatever becomes of its objects."""

    __slots__ = ()

    def send(self) -> Published:
        """Publish it with the default publisher; as :meth:`Publisher.publish`."""
        return default().publish(**self._asdict())


def send_all(messages: Sequence[Prepared]) -> None:
    """Publish `messages` together, in their order; as :meth:`Publisher.publish_many`."""
    default().publish_many(messages)


def _checking(
    check: Callable[Concatenate[Messages, P], Publish],
) -> Callable[[Callable[[Publish], T]], Callable[P, T]]:
    def decorate(take: Callable[[Publish], T]) -> Callable[P, T]:
        @wraps(take)
        def call(*values: P.args, **options: P.kwargs) -> T:
            return take(check(default().messages, *values, **options))

        return call

    return decorate


@_checking(Messages.publish)
def prepare(checked: Publish) -> Prepared:
    """Check what :meth:`Publisher.publish` would be called with, and raise what that would."""
    return Prepared(
        checked.channel,
        checked.message.data,
        checked.message.event,
        checked.retain / 1000,
        checked.message_id,
        checked.replay,
        checked.retain_messages,
        checked.message.but,
    )
