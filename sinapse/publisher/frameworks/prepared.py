"""Messages that are checked now and sent later: when a transaction has been committed."""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

from sinapse.publisher.defaults import default
from sinapse.publisher.operations.messages import Messages, Outgoing, Publish
from sinapse.publisher.operations.published import Published
from sinapse.publisher.signatures import showing

P = ParamSpec("P")


class Prepared(Outgoing):
    """A message as it was when it was prepared, whatever becomes of its objects."""

    __slots__ = ()

    def send(self) -> Published:
        """Publish it with the default publisher; as :meth:`Publisher.publish`."""
        return default().publish(**self._asdict())


def send_all(messages: Sequence[Prepared]) -> None:
    """Publish `messages` together, in their order; as :meth:`Publisher.publish_many`."""
    default().publish_many(messages)


def _preparing(check: Callable[Concatenate[Messages, P], Publish]) -> Callable[P, Prepared]:
    def prepare(*values: P.args, **options: P.kwargs) -> Prepared:
        checked = check(default().messages, *values, **options)
        return Prepared(
            checked.channel,
            checked.message.data,
            checked.message.event,
            checked.retain / 1000,
            checked.message_id,
            checked.replay,
            checked.retain_messages,
        )

    return showing(prepare, check)


#: Checks what :meth:`Publisher.publish` would be called with, and raises what that would.
prepare = _preparing(Messages.publish)
