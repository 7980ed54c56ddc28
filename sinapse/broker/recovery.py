"""After a break: what changed, and what was published, while Redis was away.

Lists are read first, then messages: each goes to the subjects that may listen at its position.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import txredisapi
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from sinapse.broker.ends import GRANTS_PER_STEP
from sinapse.broker.history import History
from sinapse.broker.lookup import (
    Attachment,
    LastIDs,
    Lookup,
    MayBeElsewhere,
    TokenEntry,
    group_names,
)
from sinapse.errors import CloseReason, Unauthorized
from sinapse.hub.hub import Hub
from sinapse.hub.joining import Membership
from sinapse.protocol.ids import EventID
from sinapse.protocol.scripts import END_GRANTS

#: Tokens looked up at once, so that the reactor has turns for other work.
RECONCILE_SLICE = 500

#: At first; then twice as many each time. Looks of one slice read the same lists of groups, which
#: the next ones leave out.
FIRST_SLICE = 10


class Recovering(Protocol):
    """The owner of the open streams, which keeps their positions."""

    hub: Hub
    history: History
    #: What Redis was when the node last caught up with it.
    attachment: Attachment | None
    #: Keys of subjects and channels of which a loss was reported, and up to which counter.
    told: dict[tuple[bytes, bytes], int]

    @property
    def keeps(self) -> Callable[[Any], bool]:
        """Whether the token of a stream is kept in this Redis."""

    def expires(self, subject: bytes, token: bytes, expires: float) -> None:
        """Note when a token of a subject with open streams expires."""

    def complain(self, text: str) -> None:
        """Log a problem with Redis, at a bounded rate."""


class Recovery:
    """Brings the open streams of `owner` up to date, on the connection `lookup`."""

    def __init__(self, owner: Recovering, lookup: Lookup, reactor: Any) -> None:
        self._owner = owner
        self._lookup = lookup
        self._reactor = reactor
        #: The lists of groups that have been read.
        self._groups: dict[bytes, Membership] = {}
        #: The subjects that had channels before.
        self._listeners: set[bytes] = set()

    def known(self) -> EventID | None:
        """Return the id of the last message that was dispatched."""
        return None if self._owner.attachment is None else self._owner.hub.here

    async def end_grants(self) -> None:
        """End all grants whose time has come while nobody was there to end them.

        So scripts that publish, which end only some at once, never find many.
        """
        try:
            while await self._lookup.run(END_GRANTS, [], [GRANTS_PER_STEP]) == 0:
                pass
        except txredisapi.ResponseError as error:
            # It may take no writes for now. Lists are read without them all the same.
            self._owner.complain(f"grants cannot be ended: {error}")

    async def reconcile(self) -> None:
        """Apply to the open streams the changes of while Redis was away."""
        self._listeners = self._owner.hub.listeners()
        streams = {
            (subject.id, subscriber.token, self._owner.keeps(subscriber))
            for subject in self._owner.hub.subjects.values()
            for subscriber in subject.subscribers
        }
        ordered = list(streams)
        start, size = 0, FIRST_SLICE
        while part := ordered[start : start + size]:
            start, size = start + size, min(2 * size, RECONCILE_SLICE)
            kept = group_names(self._groups)
            entries = [
                Deferred.fromCoroutine(
                    _entry(
                        self._lookup.token(token, kept)
                        if is_kept
                        else self._lookup.subject(subject, token, kept)
                    )
                )
                for subject, token, is_kept in part
            ]
            for (subject, token, _), entry in zip(part, await gatherResults(entries), strict=True):
                self._apply(subject, token, entry)

    def _apply(
        self,
        subject: bytes,
        token: bytes,
        entry: TokenEntry | Unauthorized | txredisapi.RedisError,
    ) -> None:
        """Apply the look-up of a token to the streams that were opened with it."""
        if isinstance(entry, txredisapi.RedisError):
            if not str(entry).startswith("WRONGTYPE"):
                raise entry
            # It concerns this subject only.
            self._owner.complain(f"the list of a subject cannot be read: {entry}")
            self._owner.hub.end_token(subject, token, CloseReason.ENDED)
        elif isinstance(entry, MayBeElsewhere):
            # Others know more. When its client comes back, they are asked.
            self._owner.hub.end_token(subject, token, CloseReason.MOVED_ON)
        elif isinstance(entry, Unauthorized) or entry.subject != subject:
            self._owner.hub.end_token(subject, token, CloseReason.REVOKED)
        else:
            groups = {name: self._with_list(name, each) for name, each in entry.groups.items()}
            self._owner.hub.reconcile(
                subject, entry.channels, groups, has_past=entry.has_past, former=entry.former
            )
            if entry.expires is not None:  # Earlier than before, if data are lost.
                self._owner.expires(subject, token, entry.expires)

    def _with_list(self, group: bytes, membership: Membership) -> Membership:
        """Return a membership with the list of its group, which is read once for many members.

        What has changed since then is going to be heard.
        """
        if membership.channels is None:
            known = self._groups[group]
            return membership._replace(channels=known.channels, former=known.former)
        self._groups[group] = membership
        return membership

    async def catch_up(self, attachment: Attachment, last_ids: LastIDs) -> None:
        """Dispatch the messages that were retained while Redis was away, up to `last_ids`."""
        owner, hub = self._owner, self._owner.hub
        is_first = owner.attachment is None
        owner.attachment = attachment
        hub.epoch = attachment.position.epoch
        if is_first or not attachment.continues:
            owner.told.clear()  # Its counters may be above those that come.
            # If some of what was received is here, all that follows is new to every stream.
            is_other = is_first or attachment.same < 0
            hub.begin_at(attachment.position.counter if is_other else attachment.same)
            if not is_first:
                hub.tell_lost(self._listeners)
        known = {
            (key, name): at
            for (key, name), at in owner.told.items()
            if key in hub.subjects and hub.subjects[key].hears(name)
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
            # So that they do not get it again when they come back.
            hub.tell_position(told)
            while hub.fan_outs.is_full:
                await deferLater(self._reactor, 0)
        hub.reached(last_ids.position.counter)
        hub.granted(None)


async def _entry(
    found: Coroutine[Any, Any, TokenEntry],
) -> TokenEntry | Unauthorized | txredisapi.RedisError:
    """Return the result of a look-up, or its error, so that many can be awaited together."""
    try:
        return await found
    except (Unauthorized, txredisapi.RedisError) as error:
        return error
