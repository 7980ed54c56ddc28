"""Publish on commit: what was rolled back is never heard of.

A message is checked when it is published, and sent when the outermost transaction of its database
has been committed. A failure to send it then is logged by Django, and raises nothing: the data
are saved, and whatever else waits for the commit must still be done. When one was waited for in
vain, the others of the transaction are given up, so that Redis is waited for once. Without a
transaction it is sent at once, and failures are raised.
"""

import json
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, router, transaction
from django.db.models import Model

from sinapse.errors import BrokerUnavailable, InvalidMessage
from sinapse.publisher.django import configuration
from sinapse.publisher.frameworks.prepared import Prepared, prepare
from sinapse.publisher.operations.identity import ChannelLike, Owned
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.signatures import taking

#: Seconds within which a failure is a refusal of that one message; a longer one is a timeout.
MAX_REFUSAL_TIME = 0.1


def encoded(message: object) -> str | bytes:
    """Return `message` as text: JSON as in a ``JsonResponse``.

    So it may have dates, decimals, UUIDs and lazy texts. Raises
    :class:`~sinapse.errors.InvalidMessage`.
    """
    if isinstance(message, str | bytes):
        return message
    try:
        return json.dumps(
            message,
            cls=DjangoJSONEncoder,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(message).__name__
        raise InvalidMessage(f"JSON cannot carry this {kind}: {error}") from error


def publish(
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    retain: float | None = None,
    message_id: str | None = None,
    *,
    replay: Replay | None = None,
    retain_messages: int | None = None,
    but: str | None = None,
    on_commit: bool = True,
    using: str | None = None,
) -> Published | None:
    """Send `message` to all who may listen to `channel`, once the transaction is committed.

    Parameters are those of :meth:`sinapse.publisher.Publisher.publish`, and its errors about them
    are raised at once. Returns how many nodes received it, or None if it is sent later. `using` is
    the database whose transaction counts; without it, that to which the instance is written that
    has the channel, or else the default one. With ``on_commit=False`` it is sent at once.

    In a ``TestCase`` of Django nothing is ever committed: see its ``captureOnCommitCallbacks``.
    """
    prepared = prepare(
        channel,
        encoded(message),
        event,
        retain,
        message_id,
        replay=replay,
        retain_messages=retain_messages,
        but=but,
    )
    if on_commit:
        using = using or _database(channel)
        connection = transaction.get_connection(using)
        # Not get_autocommit(), which would connect to a database that nobody has asked yet.
        if connection.in_atomic_block or (connection.connection and not connection.autocommit):
            send_on_commit(prepared, using)
            return None
    return prepared.send()


def _database(channel: object) -> str | None:
    if isinstance(channel, Owned):
        channel = channel.owner
    if not isinstance(channel, Model):
        return None
    # Not that which it was read from, which may be a replica. And not type(): that of request.user
    # is a wrapper.
    found: str = router.db_for_write(channel.__class__, instance=channel)
    return found


@taking(publish)
async def apublish(*values: Any, **options: Any) -> Published | None:
    """Do what `publish` does, in the thread in which asynchronous code has its database."""
    return await sync_to_async(publish)(*values, **options)


def send_on_commit(prepared: Prepared, using: str | None) -> None:
    """Send a prepared message once the transaction is committed, or at once if there is none.

    With an outbox it is a row of the transaction until then.
    """
    if configuration.has_outbox():
        # The model needs the applications, which are not there yet when this module is loaded.
        from sinapse.publisher.django import outbox  # noqa: PLC0415

        if outbox.has_outbox(using or DEFAULT_DB_ALIAS):
            outbox.put(prepared, using or DEFAULT_DB_ALIAS)
            return
    waiting = reversed(transaction.get_connection(using).run_on_commit)
    others = (getattr(entry[1], "__self__", None) for entry in waiting)
    hang = next((other.hang for other in others if isinstance(other, _Waiting)), _Hang())
    transaction.on_commit(_Waiting(prepared, hang).send, using=using, robust=True)


class _Hang:
    """What was waited for in vain after a commit."""

    error: BrokerUnavailable | None = None


class _Waiting:
    """A message that waits for a commit; those of one transaction share `hang`."""

    def __init__(self, prepared: Prepared, hang: _Hang) -> None:
        self._prepared = prepared
        self.hang = hang

    def send(self) -> None:
        """Send it, unless a message of the same commit has already timed out."""
        if self.hang.error is not None:
            raise BrokerUnavailable(f"given up: {self.hang.error}", delivered=False)
        began = time.monotonic()
        try:
            self._prepared.send()
        except BrokerUnavailable as error:
            if time.monotonic() - began > MAX_REFUSAL_TIME:
                self.hang.error = error
            raise
