"""After a break: what changed, and what was published, while nothing could be heard.

Lists are read first, then messages: each is dispatched to who may listen to it at its place.
"""

from collections.abc import Coroutine
from typing import Any, Protocol

import txredisapi
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from sinapse.broker.history import History
from sinapse.broker.lookup import Attachment, LastIDs, Lookup, TokenEntry
from sinapse.errors import CloseReason, Unauthorized
from sinapse.hub.hub import Hub
from sinapse.protocol.ids import EventID

#: Tokens looked up at once, so that the reactor has turns for others.
RECONCILE_SLICE = 500


class Recovering(Protocol):
    """Who has open streams, and keeps how far they have come."""

    hub: Hub
    history: History
    #: What Redis was when the node last caught up with it.
    attachment: Attachment | None
    #: Subjects that were told what is missing of a channel, and up to where.
    told: dict[tuple[bytes, bytes], int]

    def is_home(self, token: bytes) -> bool:
        """Whether tokens such as this one are kept in this Redis."""

    def expires(self, subject: bytes, token: bytes, expires: float) -> None:
        """Take note of when a token of a subject with open streams expires."""

    def complain(self, text: str) -> None:
        """Log, at a bounded rate, what is wrong with Redis."""


class Recovery:
    """Brings the open streams of `owner` up to date, on the connection `lookup`."""

    def __init__(self, owner: Recovering, lookup: Lookup, reactor: Any) -> None:
        self._owner = owner
        self._lookup = lookup
        self._reactor = reactor
        #: The subjects that could listen to something before.
        self._listeners: set[bytes] = set()

    def known(self) -> EventID | None:
        """Return the id of the last message that was dispatched."""
        return None if self._owner.attachment is None else self._owner.hub.here

    async def reconcile(self) -> None:
        """Apply to the open streams what changed while nothing could be heard."""
        self._listeners = self._owner.hub.listeners()
        streams = {
            (subject.id, subscriber.token)
            for subject in self._owner.hub.subjects.values()
            for subscriber in subject.subscribers
        }
        ordered = list(streams)
        for start in range(0, len(ordered), RECONCILE_SLICE):
            part = ordered[start : start + RECONCILE_SLICE]
            entries = [
                Deferred.fromCoroutine(
                    _entry(
                        self._lookup.token(token)
                        if self._owner.is_home(token)
                        else self._lookup.subject(subject, token)
                    )
                )
                for subject, token in part
            ]
            for (subject, token), entry in zip(part, await gatherResults(entries), strict=True):
                self._apply(subject, token, entry)

    def _apply(
        self, subject: bytes, token: bytes, entry: TokenEntry | txredisapi.RedisError | None
    ) -> None:
        """Apply what is known of a token to the streams that were opened with it."""
        if isinstance(entry, txredisapi.RedisError):
            if not str(entry).startswith("WRONGTYPE"):
                raise entry
            # That is this subject's trouble, and nobody else's.
            self._owner.complain(f"the list of a subject cannot be read: {entry}")
            self._owner.hub.end_token(subject, token, CloseReason.ENDED)
        elif entry is None or entry.subject != subject:
            self._owner.hub.end_token(subject, token, CloseReason.REVOKED)
        else:
            self._owner.hub.reconcile(subject, entry.channels)
            if entry.expires is not None:  # Earlier than before, where data are lost.
                self._owner.expires(subject, token, entry.expires)

    async def catch_up(self, attachment: Attachment, last_ids: LastIDs) -> None:
        """Dispatch what was retained, up to `last_ids`, while nothing could be heard."""
        owner, hub = self._owner, self._owner.hub
        is_first = owner.attachment is None
        owner.attachment = attachment
        hub.epoch = attachment.position.epoch
        if is_first or not attachment.continues:
            owner.told.clear()  # Counters of then may be above those that come.
            # Where some of what was heard is here, all that follows it is new to everybody.
            is_other = is_first or attachment.same < 0
            hub.begin_at(attachment.position.counter if is_other else attachment.same)
            if not is_first:
                hub.tell_lost(self._listeners)
        known = {
            (subject, name): at
            for (subject, name), at in owner.told.items()
            if name in hub.channels_of(subject)
        }
        owner.told = known
        async for portion in owner.history.read_alone(self._lookup, hub.position, last_ids):
            hub.stopwatch.has_read()
            told = hub.tell_gone(portion.gone, known, last_ids.position.counter)
            for entry in portion.entries:
                counter = entry.counter or 0
                hub.granted(counter)
                if entry.message is None:
                    hub.omit(entry.channel, counter)
                else:
                    hub.dispatch(entry.channel, entry.message, counter)
            hub.flush()
            hub.reached(portion.upto)
            # So that they are not told again when they come back.
            hub.tell_position(told)
            while hub.fan_outs.is_full:
                await deferLater(self._reactor, 0)
        hub.reached(last_ids.position.counter)
        hub.granted(None)


async def _entry(
    found: Coroutine[Any, Any, TokenEntry],
) -> TokenEntry | txredisapi.RedisError | None:
    """Look something up, with errors as results, so that many can be waited for together."""
    try:
        return await found
    except Unauthorized:
        return None
    except txredisapi.RedisError as error:
        return error
