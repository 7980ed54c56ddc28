"""Mixins for the classes of an application: subjects that receive, channels, and groups.

They add no state, no ``__init__`` and no metaclass, so they go with models of any ORM, slots and
frozen dataclasses. The id of an object is its ``sinapse_id`` if that is defined, else ``pk``,
``id`` or ``to_param()``; :class:`~sinapse.errors.InvalidSubject` is raised if it has no id (yet).
Its kind is ``sinapse_kind`` if that is defined, else the name of its class.
"""

from sinapse.publisher.defaults import default
from sinapse.publisher.operations.groups import PAGE, GroupLike
from sinapse.publisher.operations.identity import (
    ChannelLike,
    ChannelsLike,
    Gathering,
    Named,
    Owned,
    Receiving,
    SubjectId,
    inbox,
    member_id,
)
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay
from sinapse.publisher.operations.sessions import NewSession, Session


class Auth(Owned):
    """``user.sinapse.auth``: the token of one subject."""

    @property
    def token(self) -> str | None:
        """The current token, or None if there is none or it has expired."""
        return default().tokens.get(*self._id_and_kind)

    def generate(self, expires_in: float | None = None) -> str:
        """Return a new token, valid for `expires_in` seconds; the former one is revoked."""
        return default().tokens.generate(*self._id_and_kind, expires_in)

    def reset(self, expires_in: float | None = None) -> str:
        """Return a new token in place of the former one: Ruby's name for `generate`."""
        return default().tokens.reset(*self._id_and_kind, expires_in)

    def obtain(self, expires_in: float | None = None) -> str:
        """Return the current token, or a new one, that lives for `expires_in` seconds at least."""
        return default().tokens.obtain(*self._id_and_kind, expires_in)

    def renew(self, expires_in: float | None = None) -> bool:
        """Let the token live for `expires_in` seconds from now, and its streams with it."""
        return default().tokens.renew(*self._id_and_kind, expires_in)

    def clear(self) -> bool:
        """Revoke the token, and end its open streams; return whether there was one."""
        return default().tokens.clear(*self._id_and_kind)


class OwnSessions(Owned):
    """``user.sinapse.sessions``: the sessions of one subject, each of one device."""

    def open(
        self,
        *,
        device: str | None = None,
        expires_in: float | None = None,
        only: ChannelLike | ChannelsLike | None = None,
    ) -> NewSession:
        """Return a new session: see :meth:`sinapse.publisher.sessions.Sessions.open`."""
        return default().sessions.open(self._id, device=device, expires_in=expires_in, only=only)

    def list(self) -> list[Session]:
        """Return the sessions, the oldest first, without their tokens."""
        return default().sessions.list(self._id)

    def renew(self, session: str, expires_in: float | None = None) -> bool:
        """Let a session live for `expires_in` seconds from now; return whether there was one."""
        return default().sessions.renew(self._id, session, expires_in)

    def end(self, session: str) -> bool:
        """End the session of an id, and its open streams; return whether there was one."""
        return default().sessions.end(self._id, session)

    def end_all(self, but: str | None = None) -> int:
        """End all sessions, but the one of the id `but`; return how many ended."""
        return default().sessions.end_all(self._id, but)


class Sinapse(Owned):
    """``user.sinapse``: the token, the sessions, the channels and the groups of one subject."""

    @property
    def sinapse_channel(self) -> str:
        """Name of the channel of what is published to the subject alone."""
        return inbox(self)

    @property
    def auth(self) -> Auth:
        """The token."""
        return Auth(self._owner)

    @property
    def sessions(self) -> OwnSessions:
        """The sessions: a token for each device."""
        return OwnSessions(self._owner)

    def publish(
        self,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to the subject alone: see :meth:`Publisher.publish_to`."""
        return default().publish_to(
            self._id,
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )

    @property
    def channels(self) -> set[str]:
        """Names of the channels on the list of the subject, read from Redis."""
        return default().channels.list(self._id)

    def has_channel(self, channel: ChannelLike) -> bool:
        """Whether `channel` is on the list of the subject."""
        return default().channels.has(self._id, channel)

    def add_channel(self, channel: ChannelLike, expires_in: float | None = None) -> bool:
        """Let the subject listen to `channel`, on open streams too; return whether that is new.

        With `expires_in`, in seconds, that ends by itself, unless the channel is added again.
        """
        return default().channels.add(self._id, channel, expires_in)

    def remove_channel(self, channel: ChannelLike) -> bool:
        """Let the subject listen to `channel` no longer; return whether it could before."""
        return default().channels.remove(self._id, channel)

    def clear(self) -> int:
        """Empty the list of the subject; return how many channels were removed."""
        return default().channels.clear(self._id)

    @property
    def groups(self) -> set[str]:
        """Names of the groups that the subject is in, read from Redis."""
        return default().groups.of(self._id)

    def add_group(self, group: GroupLike) -> bool:
        """Make the subject a member of `group`; return whether that is new."""
        return default().groups.add(self._id, group)

    def remove_group(self, group: GroupLike) -> bool:
        """End the membership of the subject in `group`; return whether it was a member."""
        return default().groups.remove(self._id, group)

    def destroy(self) -> None:
        """End the token and all sessions, clear the channels, and leave all groups.

        It is for a subject that is deleted, or locked out. If Redis fails in between, what comes
        first is done already, and a second call does the rest.
        """
        self.auth.clear()
        self.sessions.end_all()
        self.clear()
        default().groups.clear(self._id)


class Subject(Receiving):
    """A user, or anything else that may open streams: ``class User(Subject)``.

    A list of channels belongs to an id, whatever the class. If several classes are subjects, make
    ids differ by ``sinapse_id``; otherwise ``Staff`` 1 hears what ``Customer`` 1 may hear. A
    warning is logged once.
    """

    __slots__ = ()

    @property
    def sinapse(self) -> Sinapse:
        """The token, the sessions, the channels and the groups."""
        return Sinapse(self)


class Publishable(Named):
    """Something that messages are published to: ``class Room(Publishable)``."""

    __slots__ = ()

    def sinapse_publish(
        self,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to all who may listen: :meth:`Publisher.publish` on the channel."""
        return default().publish(
            self,
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )

    #: The short name. A class that has a ``publish`` of its own keeps that.
    publish = sinapse_publish


class Members:
    """``team.sinapse_members``: who is in one group.

    A member is an object of a class of subjects, or its id.
    """

    def __init__(self, owner: Gathering) -> None:
        self._owner = owner

    def add(self, subject: Receiving | Owned | SubjectId) -> bool:
        """Make `subject` a member; return whether that is new."""
        return default().groups.add(member_id(subject), self._owner)

    def remove(self, subject: Receiving | Owned | SubjectId) -> bool:
        """End the membership of `subject`; return whether it was a member."""
        return default().groups.remove(member_id(subject), self._owner)

    def list(
        self, after: Receiving | Owned | SubjectId | None = None, limit: int = PAGE
    ) -> list[str]:
        """Return a page of ids: see :meth:`sinapse.publisher.groups.Groups.members`."""
        start = None if after is None else member_id(after)
        return default().groups.members(self._owner, start, limit)


class SharedChannels:
    """``team.sinapse_channels``: what the members of one group may listen to."""

    def __init__(self, owner: Gathering) -> None:
        self._owner = owner

    def list(self) -> set[str]:
        """Return the names of the channels."""
        return default().groups.channels(self._owner).list()

    def add(self, channel: ChannelLike) -> bool:
        """Let all members listen to `channel`, on open streams too; return whether that is new."""
        return default().groups.channels(self._owner).add(channel)

    def remove(self, channel: ChannelLike) -> bool:
        """Let members listen to `channel` no longer; return whether they could before."""
        return default().groups.channels(self._owner).remove(channel)

    def clear(self) -> int:
        """Remove all channels of the group; return how many there were."""
        return default().groups.channels(self._owner).clear()


class Group(Gathering):
    """A team, a role, or anything else whose members listen to the same: ``class Team(Group)``.

    A class may be a subject, have a channel and be a group, all at once.
    """

    __slots__ = ()

    @property
    def sinapse_members(self) -> Members:
        """Who is in it."""
        return Members(self)

    @property
    def sinapse_channels(self) -> SharedChannels:
        """What the members may listen to."""
        return SharedChannels(self)
