"""The plain interface: everything by name and id."""

from collections.abc import Iterable, Sequence
from typing import Self

from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.base import ANSWER_TIMEOUT, CONNECT_TIMEOUT, POOL_SIZE, BasePublisher
from sinapse.publisher.channels import Channels
from sinapse.publisher.connections import Connections, ShardedConnections
from sinapse.publisher.groups import Groups
from sinapse.publisher.operations.conversation import complete
from sinapse.publisher.operations.history import LIMIT, History, ReadHistory
from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, SubjectId, inbox
from sinapse.publisher.operations.messages import AnyOutgoing
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import Audience, IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.pipeline import Pipeline
from sinapse.publisher.runs.block import ERROR_TEXT, RUN_RETAIN
from sinapse.publisher.runs.blocking import Run, Runs
from sinapse.publisher.sessions import Sessions
from sinapse.publisher.tokens import Tokens


class Publisher(BasePublisher):
    """Publishes to Redis, and keeps tokens and lists of channels there.

    One for a process is enough: threads share it, and a forked child opens connections of its
    own. It opens connections when they are needed, and again when Redis comes back.

    `url` is described in :mod:`sinapse.protocol.redisurl`; without one, ``REDIS_URL`` decides.
    `max_message` is bytes of data; without it, ``SINAPSE_MAX_MESSAGE`` decides. `retain` is seconds
    for which messages are retained, up to 30 days, and 0 for not at all; `retain_messages` is the
    limit for each channel. Without them, ``SINAPSE_RETAIN`` and ``SINAPSE_RETAIN_MESSAGES`` decide,
    else it is five minutes and 1,000 messages. With `hash_tokens`, Redis has only hashes of tokens,
    as daemons with ``--hash-tokens`` expect; without it, ``SINAPSE_HASH_TOKENS`` decides.
    `max_sessions` is how many a subject may have, up to 1,000; without it ``SINAPSE_MAX_SESSIONS``
    decides, else it is 100. `prefix` is what all names in Redis begin with, as with ``--prefix`` of
    its daemons, for a `url` that does not say that itself; without it ``SINAPSE_PREFIX`` decides.
    `connect_timeout` and `timeout` are seconds, until each address of Redis accepts and until each
    answer begins. With `batch`, messages that are published at the same moment are sent together,
    each with a result of its own. Raises ``ValueError`` for a setting that cannot be used.
    """

    def __init__(
        self,
        url: str | RedisURL | Sequence[str | RedisURL] | None = None,
        *,
        max_message: int | None = None,
        retain: float | None = None,
        retain_messages: int | None = None,
        hash_tokens: bool | None = None,
        max_sessions: int | None = None,
        prefix: str | None = None,
        max_connections: int = POOL_SIZE,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = ANSWER_TIMEOUT,
        batch: bool = True,
    ) -> None:
        super().__init__(
            url,
            max_message,
            retain,
            retain_messages,
            hash_tokens,
            max_sessions=max_sessions,
            prefix=prefix,
        )
        options = {"connect_timeout": connect_timeout, "timeout": timeout}
        self._connections: Runner
        if self.api is not None:
            # The module for HTTP is not loaded if there is a Redis.
            from sinapse.publisher.http.connections import HTTPConnections  # noqa: PLC0415

            self._connections = HTTPConnections(self.api, size=max_connections, **options)
        else:
            parts = [
                Connections(url, size=max_connections, batch=batch, **options) for url in self.urls
            ]
            self._connections = (
                ShardedConnections(parts, self.shards) if self.shards.are_spread else parts[0]
            )
        self.tokens: Tokens = Tokens(self._connections, hashed=self.hash_tokens)
        self.sessions: Sessions = Sessions(
            self._connections, most=self.max_sessions, hashed=self.hash_tokens
        )
        self.channels: Channels = Channels(self._connections)
        self.groups: Groups = Groups(self._connections)
        self.runs: Runs = Runs(self._connections, self.shards, self.max_message)

    def _check_api(self) -> None:
        """Do nothing: this publisher can use the API."""

    def publish(
        self,
        channel: ChannelLike | ChannelsLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to all who may listen to `channel`; return how many nodes received it.

        `message` is text (``str``, or ``bytes`` of UTF-8), or anything that JSON can carry.
        `event` is the event type, for ``addEventListener`` in the browser. A node is a running
        daemon with at least one open stream for the channel; 0 means that no stream listens now.
        The result has the ``id`` of the message too: None if that is not retained.

        `retain` is seconds for which Redis keeps the message for streams that come back, 0 for not
        at all; without it, ``sinapse_retain`` of the object that has the channel decides, then the
        publisher. They are seconds of Redis' clock, with a precision of milliseconds.
        `retain_messages` is how many messages the channel keeps when this one is published, without
        it ``sinapse_retain_messages``, then the publisher decides: the oldest beyond that go.

        `replay` is how much of the past of the channel a new stream gets, before what is live: so
        many of its last retained messages, 0 for none, or ``"all"`` that are retained; without it,
        ``sinapse_replay`` of the object decides, and else what was said last for the channel holds,
        for as long as it has retained messages. A message that is not retained can have none.

        `message_id` makes it safe to publish again when it is not known whether a message was
        sent. Redis remembers an id for two hours, or as long as its message is retained; a message
        with a remembered id is not sent, and the result is 0, with the ``id`` of the message that
        was. It is 1 to 128 printable characters,
        for one message to one channel: a copy for a different channel needs its own. All channels
        and publishers share the ids: if strangers may choose one, it could keep back a message of
        somebody else; put a prefix of your own before it, or hash it.

        `but` is the name of a stream that does not get it, now or when it comes back: that of the
        page which has sent the message, and shows it already. The page says what its stream is
        called, 1 to 64 of ``A-Z a-z 0-9 _ -``: see ``client.stream`` of ``sinapse-client``.

        `channel` may be a list, tuple or set of channels: each gets the message, in one round trip,
        and the result is the sum of their nodes, without an ``id``.

        Raises :class:`~sinapse.errors.PublishError` (``InvalidChannel``, ``InvalidEvent``,
        ``InvalidMessage``, ``InvalidStream``, ``MessageTooLarge``) or another ``ValueError`` before
        anything is sent, and :class:`~sinapse.errors.BrokerUnavailable`, whose ``delivered`` is
        False if the message was certainly not sent, and None if that is not known. It is never sent
        twice. For several channels the error is :class:`~sinapse.errors.Incomplete`.
        """
        copies = self.messages.copies(
            channel,
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )
        if len(copies) == 1:
            return self._connections.run(copies[0])
        return Published(sum(complete(self._connections.run_each(copies))))

    def publish_to(
        self,
        subject: SubjectId,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to one subject, on all its streams; return how many nodes received it.

        Nobody has to grant anything: it goes to the :func:`~sinapse.publisher.inbox` of `subject`,
        a channel that publishing adds to the list. The rest is as with :meth:`publish`, but that a
        message is retained for ten seconds at least. Raises what that raises, and
        :class:`~sinapse.errors.InvalidSubject`.
        """
        return self.publish(
            inbox(subject),
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )

    def publish_many(self, messages: Iterable[AnyOutgoing]) -> list[Published]:
        """Send `messages` in one round trip, in their order; return how many nodes received each.

        A message is ``(channel, message)``, then ``event``, ``retain``, ``message_id``, ``replay``,
        ``retain_messages`` and ``but`` if it has them: a tuple,
        :class:`~sinapse.publisher.Outgoing`, or a mapping of these names. All are checked before
        any is sent. Messages of others may come between them.

        Raises :class:`~sinapse.errors.Incomplete` if some could not be sent: its ``results`` say
        for each how many nodes received it, or whether it can have been delivered. If each has a
        message id, it is safe to send all of them again.
        """
        operations = self.messages.publish_many(messages)
        return complete(self._connections.run_each(operations))

    def pipeline(self) -> Pipeline:
        """Return a :class:`~sinapse.publisher.pipeline.Pipeline`, for a ``with`` block."""
        return Pipeline(
            self._connections,
            self.messages,
            hashed=self.hash_tokens,
            max_sessions=self.max_sessions,
        )

    def history(
        self, channel: ChannelLike, after: str | None = None, limit: int = LIMIT
    ) -> History:
        """Return a page of the messages of `channel` that are retained, oldest first.

        Those after the id `after`, or all; `limit` of them at the most, 1 to 1,000, and fewer if
        they are long: ``more`` says whether there are others, which the next page begins with if it
        is read after the ``id`` of the last one. ``missing`` says whether messages are gone that
        were published after `after`, or before the last one of the page. `after` is the id of a
        message, a position, or the last event ID of a stream. It is one round trip, which changes
        nothing in Redis.

        Raises :class:`~sinapse.errors.UnknownID` if this Redis never gave that id, or has lost its
        data since; ``ValueError`` for what is no id or no such number.
        """
        return self._connections.run(ReadHistory(channel, after, limit))

    def run(
        self,
        subject: SubjectId,
        name: str = "run",
        *,
        retain: float = RUN_RETAIN,
        error_text: str = ERROR_TEXT,
    ) -> Run:
        """Return a :class:`~sinapse.publisher.runs.Run` for `subject`, for a ``with`` block.

        It has a channel of its own, which `subject` may listen to from the beginning of the block
        on. `name` is for pages, which get it with every message. `retain` is seconds, up to 30
        days, for which each piece is kept, and for which the run is remembered after its end.
        `error_text` is what pages are told if the block raises.

        Raises :class:`~sinapse.errors.InvalidSubject`, :class:`~sinapse.errors.InvalidMessage` or
        another ``ValueError``; the block raises :class:`~sinapse.errors.BrokerUnavailable` at its
        beginning if Redis is away.
        """
        return Run(self.runs, subject, name, retain, error_text)

    def position(self) -> str:
        """Return the position: the id of now, over all channels.

        Read it before the state of a page. A stream that is opened with it as last event ID gets
        what was published since, each message once: so nothing is missing between the state and the
        stream. It is one round trip, which changes nothing in Redis; several Redis give a part
        each. If no id was given there yet, it is ``0-0``: a stream that is opened with that is told
        ``reset``, once.

        Raises :class:`~sinapse.errors.BrokerUnavailable`, also if one of several Redis is away.
        """
        return self._connections.run(Position())

    def online(self, subject: SubjectId) -> bool:
        """Whether `subject` has an open stream, or had one moments ago.

        This needs daemons that run with ``--presence``. Raises
        :class:`~sinapse.errors.InvalidSubject` or :class:`~sinapse.errors.BrokerUnavailable`.
        """
        return self._connections.run(IsOnline(subject))

    def online_in(self, channel: ChannelLike) -> set[str]:
        """Return the ids of subjects that are online and may listen to `channel`.

        It looks at all subjects that are online, some hundreds at once. Raises as :meth:`online`
        does, and :class:`~sinapse.errors.InvalidChannel`.
        """
        return self._connections.run(OnlineIn(channel))

    def audience(self, channel: ChannelLike) -> Audience:
        """Return how many listen to `channel`: ``nodes``, and ``subjects`` where presence is on.

        Nodes are counted as by :meth:`publish`, which sends nothing here. ``subjects`` is as many
        as :meth:`online_in` has, None if no daemon runs with ``--presence``. Raises as that.
        """
        return self._connections.run(ReadAudience(channel))

    def close(self) -> None:
        """Close the connections, once no thread uses them; a later operation opens new ones."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
