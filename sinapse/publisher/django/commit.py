"""Publish on commit: what was rolled back is never heard of.

A message is checked when it is published, and sent when the outermost transaction of its database
has been committed. A failure to send it then is logged by Django, and raises nothing: the data
are saved, and whatever else waits for the commit must still be done. Without a transaction it is
sent at once, and failures are raised.
"""

import json

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from sinapse.errors import InvalidMessage
from sinapse.publisher import later
from sinapse.publisher.identity import ChannelLike


def prepare(
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    retain: float | None = None,
    message_id: str | None = None,
) -> later.Prepared:
    """Check what is to be published, and raise what :meth:`Publisher.publish` would.

    JSON carries what it does in a ``JsonResponse``: dates, decimals, UUIDs, lazy texts, too.
    """
    if not isinstance(message, str | bytes):
        try:
            message = json.dumps(
                message,
                cls=DjangoJSONEncoder,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
        except (TypeError, ValueError, RecursionError) as error:
            kind = type(message).__name__
            raise InvalidMessage(f"JSON cannot carry this {kind}: {error}") from error
    return later.prepare(channel, message, event, retain, message_id)


def publish(
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    retain: float | None = None,
    message_id: str | None = None,
    *,
    on_commit: bool = True,
    using: str | None = None,
) -> int | None:
    """Send `message` to everybody who may listen to `channel`, once the transaction is committed.

    As :meth:`sinapse.publisher.Publisher.publish`, whose errors about what is given it raises at
    once. Returns how many nodes heard it, or None if it is sent later. `using` is the database
    whose transaction counts, the default one without it; with ``on_commit=False`` none does.

    In a ``TestCase`` of Django nothing is ever committed: see its ``captureOnCommitCallbacks``.
    """
    prepared = prepare(channel, message, event, retain, message_id)
    if on_commit:
        connection = transaction.get_connection(using)
        # Not get_autocommit(), which would connect to a database that nobody has asked yet.
        if connection.in_atomic_block or (connection.connection and not connection.autocommit):
            transaction.on_commit(prepared.send, using=using, robust=True)
            return None
    return prepared.send()


async def apublish(
    channel: ChannelLike,
    message: object,
    event: str | None = None,
    retain: float | None = None,
    message_id: str | None = None,
    *,
    on_commit: bool = True,
    using: str | None = None,
) -> int | None:
    """Do what `publish` does, in the thread in which asynchronous code has its database."""
    return await sync_to_async(publish)(
        channel, message, event, retain, message_id, on_commit=on_commit, using=using
    )
