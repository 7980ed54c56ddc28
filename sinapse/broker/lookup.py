"""The connections for commands: tokens and lists, positions, retained messages."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import txredisapi
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sinapse.broker.clock import RedisClock
from sinapse.errors import Unauthorized
from sinapse.hub.former import NONE, Former, with_former
from sinapse.hub.joining import Membership
from sinapse.protocol.ids import EventID, parse_counter, position
from sinapse.protocol.keys import session_id
from sinapse.protocol.only import Only
from sinapse.protocol.scripts import (
    ATTACH,
    LAST_IDS,
    LIST_CHANNELS,
    LOOK_UP,
    MARK,
    READ_HISTORY,
    STARTS,
    Script,
)
from sinapse.txredis.link import Link

#: Groups that are named with a look-up: with more, it is quicker to read their lists.
MAX_KEPT = 64


class MayBeElsewhere(Unauthorized):
    """A token is unknown in this Redis, but some have moved between several."""


class TokenEntry(NamedTuple):
    """What Redis knows of a token."""

    subject: bytes
    expires: float | None
    """When the token expires, on the monotonic clock, never later than for Redis; or None."""
    channels: Mapping[bytes, int]
    """Its channels, and the counter at which each was granted; 0 if that is not known."""
    position: EventID
    """Id of the last retained message at that instant."""
    has_past: bool
    """Whether a new stream gets a past of any of these channels, or of those of groups."""
    groups: Mapping[bytes, Membership]
    """The groups that the subject is in."""
    only: Only | None = None
    """The part of them that the token is for; None for all."""
    former: Former = NONE
    """Rights that have ended beside others."""


class Attachment(NamedTuple):
    """How a connection finds the retained messages."""

    position: EventID
    continues: bool
    """Redis has lost nothing that was known before."""
    ended: Mapping[str, int]
    """Former epochs, and the counter that each ended at."""
    same: int
    """The counter up to which what was known is the same here; -1 if none is."""

    def resolve(self, identifier: EventID) -> int | None:
        """Return the counter to resume after; None if that id cannot be resumed from."""
        if identifier.epoch != self.position.epoch:
            end = self.ended.get(identifier.epoch, -1)
            return identifier.counter if identifier.counter <= end else None
        return identifier.counter


class LastIDs(NamedTuple):
    """The last id of each of some channels, at one instant."""

    position: EventID
    """The last id of all channels."""
    floor: int
    """The counter up to which last ids are forgotten."""
    counters: Mapping[bytes, int]
    """Those of the channels whose last id is known."""

    def may_follow(self, channel: bytes, after: int) -> bool:
        """Whether there may be messages of `channel` after that counter."""
        last = self.counters.get(channel)
        return last is None or last > after

    def last(self, channel: bytes) -> int:
        """Return the counter of the last message of `channel`, or the least that it is above."""
        return self.counters.get(channel, self.floor)


class Page(NamedTuple):
    """Some of the retained messages of a channel, oldest first."""

    gone: int = 0
    """The highest counter of a message that is no longer retained."""
    more: bool = False
    """Whether there is more to read."""
    entries: Sequence[tuple[int, bytes]] = ()
    """Counters and payloads."""
    error: str | None = None
    """Why Redis could not read the channel: all of it may be gone."""


class Budget(NamedTuple):
    """How much of the retained messages is read at once."""

    messages: int
    """Messages of a channel."""
    size: int
    """Bytes of a channel."""
    all_messages: int
    """Messages of all channels."""
    all_size: int
    """Bytes of all channels."""


class Lookup(Link):
    """One connection for commands.

    All methods raise ``txredisapi.RedisError`` when Redis cannot answer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Whether tokens have moved between this Redis and others, as far as it has said so.
        self.tokens_have_moved = False
        #: Scripts that Redis has run.
        self._known: set[str] = set()

    async def attach(self, known: EventID | None) -> Attachment:
        """Make sure that there is an epoch, and find out whether `known` is still valid."""
        last = ["", 0] if known is None else [known.epoch, known.counter]
        answer = await self.run(ATTACH, [self.names.retention, self.names.epochs], last)
        names, counters = answer[3][::2], answer[3][1::2]
        ended = {
            name.decode(errors="replace"): end
            for name, counter in zip(names, counters, strict=True)
            if (end := parse_counter(counter)) is not None
        }
        return Attachment(position(answer[0], answer[1]), bool(answer[2]), ended, int(answer[4]))

    async def check(self, epoch: str) -> int:
        """Return the counter since which it has its share of the channels; 0 for always.

        Raises ``txredisapi.RedisError`` unless this is a master with the data of `epoch`.
        """
        if not await self.is_master():
            raise txredisapi.ConnectionError("it is no master any more")
        current, since = await self.hmget(self.names.retention, ["epoch", "since"])
        if current != epoch.encode():
            raise txredisapi.ConnectionError("its data have been replaced")
        self.tokens_have_moved = await self.hget(self.names.move, "tokens") is not None
        return parse_counter(since or b"") or 0

    async def tell_time(self, clock: RedisClock) -> None:
        """Ask for the time, and tell `clock`; raises ``txredisapi.RedisError``."""
        asked = time.perf_counter()
        seconds, microseconds = await self.time()
        now = time.perf_counter()
        clock.answered(int(seconds) + int(microseconds) / 1_000_000, asked, now)

    async def mark(self, channel: bytes, names: Iterable[bytes] = ()) -> LastIDs:
        """Publish the last id to `channel`, and return those of the channels `names`."""
        names = list(names)
        told = self.names.prefix.encode() + channel
        return _last_ids(names, await self.run(MARK, self._counted, [told, *names]))

    async def last_ids(self, names: Iterable[bytes]) -> LastIDs:
        """Return the last ids of the channels `names`."""
        names = list(names)
        return _last_ids(names, await self.run(LAST_IDS, self._counted, names))

    async def token(self, token: bytes, kept: bytes = b"") -> TokenEntry:
        """Look `token` up; raises :class:`~sinapse.errors.Unauthorized` if it is unknown.

        That is :class:`MayBeElsewhere` if tokens have moved between this Redis and others.

        The lists of groups that are in `kept`, each between line feeds, are left out.
        """
        own = self.names
        keys: list[Any] = [own.token_key("").encode() + token, own.retention, own.replay]
        arguments: list[Any] = [own.channels_key(""), own.grants_key(""), kept]
        session = session_id(token)
        if session is not None:
            keys.append(own.session_key(session))
            arguments.append(token)
        # The rest of its lifetime counts from here: the answer may take long, and so may those of
        # other Redis.
        asked = time.monotonic()
        answer: Any = await self.run(LOOK_UP, keys, arguments)
        if answer is None:
            raise Unauthorized("unknown token")
        if answer == 1:
            raise MayBeElsewhere("unknown token")
        subject, milliseconds, *found, only = answer
        expires = asked + milliseconds / 1000 if milliseconds >= 0 else None
        return _entry(subject, expires, found)._replace(only=Only(only) if only else None)

    async def subject(self, subject: bytes, token: bytes, kept: bytes = b"") -> TokenEntry:
        """Look up the channels of a subject whose `token` is in another Redis.

        The lists of groups are left out as in :meth:`token`. Raises
        :class:`~sinapse.errors.Unauthorized` if the token is known to be revoked.
        """
        own = self.names
        keys = [
            own.channels_key("").encode() + subject,
            *(own.retention, own.replay),
            own.grants_key("").encode() + subject,
            own.revoked_key("").encode() + token,
        ]
        answer: Any = await self.run(LIST_CHANNELS, keys, [subject, kept])
        if answer is None:
            raise Unauthorized("unknown token")
        return _entry(subject, None, answer)

    async def starts(self, upto: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return the counters after which the past begins of those channels that have one.

        It is what was published up to the counter of each in `upto`.
        """
        names = list(upto)
        keys = self._retained_keys(names)
        answer = await self.run(STARTS, [self.names.replay, *keys], [*names, *upto.values()])
        counters = {
            name: parse_counter(digits)
            for name, digits in zip(names, answer, strict=True)
            if digits is not None
        }
        return {name: start for name, start in counters.items() if start is not None}

    async def history(
        self, wants: Sequence[tuple[bytes, int]], upto: int | None, budget: Budget
    ) -> tuple[int, list[Page]]:
        """Read retained messages of channels, each after its counter, and up to `upto`.

        It reads no more than `budget`, but at least one message of each channel. Without `upto` it
        is the current counter; returns it, and a page for each channel.
        """
        keys = self._retained_keys(name for name, _ in wants)
        answer = await self.run(
            READ_HISTORY,
            [*self._counted, *keys],
            [
                *("" if upto is None else upto, *budget),
                *(after for _, after in wants),
                *(name for name, _ in wants),
            ],
        )
        pages = [
            Page(
                int(float(gone)),
                bool(more),
                [
                    (int(counter), payload)
                    for counter, payload in zip(entries[::2], entries[1::2], strict=True)
                ],
                error[0].decode(errors="replace") if error else None,
            )
            for gone, more, entries, *error in answer[1:]
        ]
        return parse_counter(answer[0]) or 0, pages

    @property
    def _counted(self) -> tuple[str, str]:
        return self.names.retention, self.names.last

    def _retained_keys(self, channels: Iterable[bytes]) -> list[bytes]:
        prefix = self.names.retained_key("").encode()
        return [prefix + name for name in channels]

    def run(
        self, script: Script, keys: Sequence[Any], arguments: Sequence[Any] = ()
    ) -> "Deferred[Any]":
        """Return what `script` returns."""
        script = script.under(self.names)
        if script.name not in self._known:
            return self._send_whole(script, keys, arguments)
        answer = self.execute_command(b"EVALSHA", script.sha, len(keys), *keys, *arguments)
        return answer.addErrback(self._refused, script, keys, arguments)

    def _send_whole(
        self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]
    ) -> "Deferred[Any]":
        answer = self.execute_command(b"EVAL", script.source, len(keys), *keys, *arguments)

        def note(result: Any) -> Any:
            self._known.add(script.name)
            return result

        return answer.addCallbacks(note, self._name_keys, errbackArgs=(keys, arguments))

    def _refused(
        self, failure: Failure, script: Script, keys: Sequence[Any], arguments: Sequence[Any]
    ) -> Any:
        """Send the whole script if Redis has forgotten it."""
        if failure.check(txredisapi.ResponseError) and str(failure.value).startswith("NOSCRIPT"):
            return self._send_whole(script, keys, arguments)
        return self._name_keys(failure, keys, arguments)

    def _name_keys(self, failure: Failure, keys: Sequence[Any], args: Sequence[Any]) -> Failure:
        """Name the keys that can be of the wrong type, in an error about that."""
        if failure.check(txredisapi.ResponseError):
            text = self.names.of_another_type(str(failure.value), keys, args)
            if text != str(failure.value):
                return Failure(txredisapi.ResponseError(text))
        return failure


def group_names(groups: Iterable[bytes]) -> bytes:
    """Return names of groups as a look-up takes them: some of them, if they are many."""
    names = list(islice(groups, MAX_KEPT))
    return b"\n".join((b"", *names, b"")) if names else b""


def _score(text: bytes) -> int | None:
    """Return the counter of a score, as Redis or a script writes it; None if it is not one."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None


def _entry(subject: bytes, expires: float | None, found: Any) -> TokenEntry:
    channels, epoch, counter, granted, has_past, joined, ended = found
    here = position(epoch, counter)
    counters = _counters(granted, here)
    since = {name: counters.get(name, 0) for name in channels}
    groups = {
        group: Membership(
            _counter(at, here),
            None if listed is None else _counters(listed, here),
            None if had is None else _former(had, here),
        )
        for group, at, listed, had in joined
    }
    entry = TokenEntry(subject, expires, since, here, bool(has_past), groups)
    return entry._replace(former=_former(ended, here)) if ended else entry


def _former(found: Sequence[bytes], here: EventID) -> Former:
    """Return rights that have ended, but for those of data that are lost."""
    if not found:
        return NONE
    ended = []
    for name, times in zip(found[::2], found[1::2], strict=True):
        for each in times.split():
            start, end = map(parse_counter, each.partition(b"-")[::2])
            if start is not None and end is not None and end <= here.counter:
                ended.append((name, start, end))
    return with_former(NONE, ended)


def _counters(found: Sequence[bytes], here: EventID) -> dict[bytes, int]:
    return {
        name: _counter(digits, here) for name, digits in zip(found[::2], found[1::2], strict=True)
    }


def _counter(digits: bytes, here: EventID) -> int:
    """Return the counter of a grant, 0 for none that can be.

    A grant after the current counter belongs to data that are lost.
    """
    at = parse_counter(digits)
    return at if at is not None and at <= here.counter else 0


def _last_ids(names: Iterable[bytes], answer: Any) -> LastIDs:
    epoch, counter, floor, scores = answer
    counters = {
        name: last
        for name, score in zip(names, scores, strict=True)
        if score is not None and (last := _score(score)) is not None
    }
    return LastIDs(position(epoch, counter), parse_counter(floor) or 0, counters)
