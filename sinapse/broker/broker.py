"""One Redis, as streams see it, over all sessions with it."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, cast

import txredisapi

from sinapse.broker.connection import Connection
from sinapse.broker.ends import Ends
from sinapse.broker.history import History, Part
from sinapse.broker.interface import (
    Admission,
    Admitted,
    ExpiryTold,
    Holder,
    Opened,
    Streaming,
)
from sinapse.broker.lookup import Attachment, TokenEntry, group_names
from sinapse.broker.payloads import Payloads
from sinapse.broker.replay import Replays
from sinapse.broker.session import Session
from sinapse.counters import Counters
from sinapse.errors import BrokerUnavailable, CloseReason, Unauthorized
from sinapse.hub.hub import Hub
from sinapse.hub.subscribers import Channel, Subject
from sinapse.protocol.ids import EventID
from sinapse.protocol.keys import MAX_TOKEN_LENGTH
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import END_GRANTS
from sinapse.ratelimit import LogLimit
from sinapse.sockets import direct
from sinapse.txredis.dial import Dial, dial


class RedisBroker(Connection, Generic[Streaming]):
    """One Redis: a :class:`~sinapse.broker.interface.Broker`, or a part of one.

    `max_pending` is how many bytes may wait for a stream, and therefore the longest message;
    `max_channels` how many channels a subject may have, 0 for any number. With `admits_empty`,
    streams may be open of subjects that may listen to nothing.

    With several Redis, `keeps` says whether this one keeps the token of a stream, and `emptied` is
    called with a subject that may listen to nothing here: it may elsewhere. With one Redis its
    streams are ended.

    `dial_subscription` makes the connection that messages arrive on.
    """

    def __init__(
        self,
        url: RedisURL,
        counters: Counters,
        *,
        max_pending: int,
        max_channels: int,
        admits_empty: bool = False,
        keeps: Callable[[Streaming], bool] = lambda _stream: True,
        emptied: Callable[[Subject], None] | None = None,
        dial_subscription: Dial = dial,
        reactor: Any,
    ) -> None:
        super().__init__(url, counters, reactor)
        self.keeps: Callable[[Any], bool] = keeps
        self.dial_subscription = dial_subscription
        self._emptied = emptied
        self._admits_empty = admits_empty
        admits_empty = admits_empty or emptied is not None
        self.hub = Hub(counters, self, max_channels=max_channels, admits_empty=admits_empty)
        self.payloads = Payloads(counters, self.complain, max_message=max_pending)
        self.history = History(
            self.hub, counters, self.barrier, self.payloads.fitting, self.complain
        )
        self.replays = Replays(self.hub, self, counters, max_pending=max_pending)
        self.ends = Ends(self._end_grants, reactor)
        self.attachment: Attachment | None = None
        self.told: dict[tuple[bytes, bytes], int] = {}
        #: Called with a channel that is needed here from now on (True), or no longer (False).
        self.interest_watchers: list[Callable[[bytes, bool], None]] = []
        self._warn_of_channels = LogLimit(self._warn, reactor.seconds)
        self._tell_expiry: ExpiryTold = lambda _subject, _token, _expires: None

    def stopService(self) -> None:  # noqa: N802
        """Disconnect for good."""
        super().stopService()
        self.ends.disconnected()

    def write_all(self, frame: bytes, streams: Mapping[int, Any]) -> None:
        """Write a frame to all of the streams, which stand by their descriptors."""
        direct.write_all(frame, streams)

    def write_each(
        self, frames: Mapping[int, Sequence[bytes]], streams: Sequence[Mapping[int, Any]]
    ) -> None:
        """Write to each descriptor its frames, as one; its stream is in one of `streams`."""
        direct.write_each(frames, streams)

    # Streams on their way in

    async def admit(self, token: bytes) -> Admission:
        """Look up the subject and the channels of `token`, and subscribe to the channels."""
        part, entry = await self.admit_here(token)
        return Admission(token, Holder(entry.subject, entry.only), entry.expires, {0: part})

    async def admit_here(
        self, token: bytes, known: Holder | None = None
    ) -> tuple[Admitted, TokenEntry]:
        """Look up the channels of `token` in this Redis, and subscribe to them.

        `known` is what another Redis says of it, which keeps it. Raises as :meth:`admit` does.
        """
        joining = self.hub.join()
        try:
            entry = await self._look_up(token, known, group_names(self.hub.whole_groups))
            only = (known or entry).only
            if not self.hub.keeps(entry.groups, only):
                entry = await self._look_up(token, known, b"")
            session = self._session
            if session is None or entry.position.epoch != session.epoch:
                if session is not None:
                    session.give_up()
                raise BrokerUnavailable("its data have been replaced")  # noqa: TRY301
            self.hub.expect(
                joining,
                entry.subject,
                token,
                entry.channels,
                memberships=entry.groups,
                position=entry.position.counter,
                has_past=entry.has_past,
                only=only,
                former=entry.former,
            )
            await self.barrier()
            self.hub.reached(entry.position.counter)
        except BaseException:
            self.hub.abandon(joining)
            raise
        return Admitted(joining, self._session), entry

    def vouches_for(self, part: Admitted) -> bool:
        """Whether every change since that admission has been received here."""
        return self.ready and part.session is self._session

    def withdraw(self, admission: Admission) -> None:
        """Give up an admission that is not used."""
        self.hub.abandon(admission.parts[0].joining)

    def place_before_past(self, admission: Admission) -> str | None:
        """Return the id from which a new stream resumes to get the past of its channels, if any."""
        return _text(self.hub.place_before_past(admission.parts[0].joining))

    def open(
        self, admission: Admission, make: Callable[[], Opened], *, live: bool = True
    ) -> Opened:
        """Return the open stream that `make` makes."""
        return self.hub.open(admission.parts[0].joining, make, live=live)

    async def expiry(self, token: bytes) -> float | None:
        """Return when `token` expires; raises as :meth:`admit` does."""
        return (await self.look_up(token)).expires

    async def look_up(self, token: bytes) -> TokenEntry:
        """Return what this Redis knows of `token`; raises as :meth:`admit` does."""
        return await self._look_up(token, None, b"")

    @property
    def tokens_have_moved(self) -> bool:
        """Whether this Redis says that tokens have moved between it and others."""
        lookups = self._session.lookups if self._session is not None else ()
        return any(lookup.tokens_have_moved for lookup in lookups)

    def tell_expiry_to(self, told: ExpiryTold) -> None:
        """Call `told` whenever the expiry of a token of open streams is read again."""
        self._tell_expiry = told

    async def _look_up(self, token: bytes, known: Holder | None, kept: bytes) -> TokenEntry:
        """Return what Redis knows of `token`, or of its subject; raises as :meth:`admit` does.

        `known` is what another Redis says of it; the lists of groups in `kept` are left out.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthorized("unknown token")
        lookup = self._lookup()
        try:
            return await (
                lookup.token(token, kept)
                if known is None
                else lookup.subject(known.subject, token, kept)
            )
        except txredisapi.ConnectionError as error:
            raise BrokerUnavailable(str(error)) from error
        except txredisapi.RedisError as error:
            # Redis quotes an unknown command with its arguments.
            text = str(error).partition(", with args")[0]
            self.complain(f"a look-up failed: {text}")
            raise BrokerUnavailable(text) from None

    # Open streams and their subjects

    @property
    def here(self) -> str:
        """The id from which the live streams go on."""
        return str(self.hub.here)

    def resume(self, stream: Streaming, last_event_id: str) -> None:
        """Start the replay for a stream that gets nothing yet."""
        self.replays.begin(stream, last_event_id)

    def is_live(self, stream: Streaming) -> bool:
        """Whether a stream gets messages when they are dispatched."""
        return self.hub.is_live(stream)

    def where(self, stream: Streaming) -> str | None:
        """Return the id from which a stream goes on; None if it is not live."""
        return _text(self.hub.where(stream))

    def has_written_to(self, stream: Streaming, since: int) -> bool:
        """Whether a message was written to a stream and all others of its channel together."""
        return self.hub.has_written_to(stream, since)

    def suspend(self, stream: Streaming) -> str | None:
        """Send a stream nothing more until it resumes from the id that is returned."""
        return _text(self.hub.suspend(stream))

    def leave(self, stream: Streaming) -> None:
        """Forget a stream that has ended."""
        self.hub.leave(stream)

    def end(self, stream: Streaming, reason: CloseReason) -> None:
        """End a stream, after the messages that were dispatched for it."""
        self.hub.end(stream, reason)

    @property
    def subject_count(self) -> int:
        """How many subjects have open streams."""
        return self.hub.subject_count

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Channels that a subject here may listen to."""
        return self.hub.channels

    def streams_of(self, subject: bytes) -> Sequence[Streaming]:
        """Return the open streams of a subject, the oldest first."""
        return cast(list[Streaming], self.hub.streams_of(subject))

    def channels_of(self, subject: bytes) -> AbstractSet[bytes]:
        """Return the channels of a subject with open streams."""
        return self.hub.channels_of(subject)

    # What replays and presence ask

    async def _end_grants(self, most: int) -> int:
        return int(await self.run(END_GRANTS, [], [most]))

    def resolve(self, identifier: EventID) -> EventID | None:
        """Return the same place in the current epoch; None if no stream can resume from it."""
        if self.attachment is None:
            return None
        after = self.attachment.resolve(identifier)
        if after is None:
            return None
        return identifier._replace(epoch=self.attachment.position.epoch, counter=after)

    async def read_history(self, wants: Mapping[bytes, int]) -> Part:
        """Return the next part of retained messages: see :class:`~sinapse.broker.history.History`.

        Of channels that the hub does not hold, only messages before now are certain. Raises
        :class:`~sinapse.errors.BrokerUnavailable`.
        """
        channels = [self.hub.channels[name] for name in wants if name in self.hub.channels]
        if not all(channel.is_subscribed for channel in channels):
            await self.barrier()
            for channel in channels:
                channel.is_subscribed = True
        return await self.history.read(self._lookup(), wants)

    async def read_starts(self, upto: Mapping[bytes, int]) -> Mapping[bytes, int]:
        """Return the counters after which the past begins of those channels that have one.

        It is what was published up to the counter of each in `upto`. Raises
        :class:`~sinapse.errors.BrokerUnavailable`.
        """
        lookup = self._lookup()
        try:
            return await lookup.starts(upto)
        except txredisapi.RedisError as error:
            if not isinstance(error, txredisapi.ConnectionError):
                self.complain(f"the past of channels cannot be read: {error}")
            raise BrokerUnavailable(str(error)) from error

    # What the hub needs

    def interest_changed(self, channel: bytes) -> None:
        """Subscribe to a channel that is needed now, or unsubscribe from one that is not."""
        if self._session is not None:
            self._session.interest_changed(channel)
        for watcher in self.interest_watchers:
            watcher(channel, channel in self.hub.channels)

    def catch_up_needed(self, subject: Subject) -> None:
        """Read the messages that a subject has missed."""
        self.replays.catch_up(subject)

    def past_needed(self, subscriber: Any, place: EventID) -> None:
        """Resume a suspended stream: it was granted a channel that has a past."""
        self.replays.resume(subscriber, place)

    def emptied(self, subject: Subject) -> None:
        """End the streams of a subject that may listen to nothing, unless it may elsewhere."""
        if self._admits_empty:
            return
        if self._emptied is None:
            self.hub.end_all(subject, CloseReason.NO_CHANNELS)
        else:
            self._emptied(subject)

    def too_many_channels(self, subject: bytes, count: int) -> None:
        """Log that a subject has more channels than it may."""
        name = repr(subject.decode(errors="replace"))
        self._warn_of_channels(f"subject {name} has {count} channels: more than it may")

    def turn_needed(self) -> None:
        """Continue a large fan-out in a later turn of the reactor."""
        self._reactor.callLater(0, self._fan_out)

    def _fan_out(self) -> None:
        self.hub.fan_outs.go_on()
        if self._session is not None and not self.hub.fan_outs.is_full:
            self._session.read_on()

    # What a session needs

    def begin_session(self) -> Session:
        """Return a new session."""
        return Session(self, self._url.state, self._reactor)

    def connected(self, node: RedisURL) -> None:
        """Note that the session is ready."""
        self.hub.connected()
        self.ends.connected()
        super().connected(node)

    def lost(self) -> None:
        """Note that a session that was ready has ended."""
        self.hub.disconnected()
        self.ends.disconnected()
        super().lost()

    def expires(self, subject: bytes, token: bytes, expires: float) -> None:
        """Report when a token of a subject with open streams expires."""
        self._tell_expiry(subject, token, expires)


def _text(place: EventID | None) -> str | None:
    return None if place is None else str(place)
