"""The names of an object: its id as a subject, and its channel."""

import inspect
import logging
from functools import cache
from typing import ClassVar, Protocol, TypeAlias, cast
from uuid import UUID

import inflection

from sinapse.errors import InvalidSubject
from sinapse.protocol.keys import channel_name, inbox_channel, kind_name, subject_id
from sinapse.publisher.operations.retention import Replay

#: The id of a subject in the plain interface.
SubjectId: TypeAlias = str | int | UUID


class HasChannel(Protocol):
    """An object that messages can be published to."""

    @property
    def sinapse_channel(self) -> str:
        """Name of its channel."""


#: A channel's name, or an object that has one.
ChannelLike: TypeAlias = str | HasChannel

#: Several channels.
ChannelsLike: TypeAlias = list[ChannelLike] | tuple[ChannelLike, ...] | set[str] | frozenset[str]

_ABSENT = object()

_log = logging.getLogger(__name__)

#: Classes of subjects whose ids are only numbers, by their full names.
_numbered: dict[tuple[str, str], str] = {}


def given_id(value: object) -> str:
    """Return a subject's id from an argument of the plain interface.

    Objects are refused: their ``str()`` is a name to show, seldom the id, and a list of channels
    under it would never be found. Raises :class:`~sinapse.errors.InvalidSubject`.
    """
    if value is not None and not isinstance(value, SubjectId):
        raise InvalidSubject(
            f"a subject's id is a str, int or UUID, not {type(value).__name__};"
            " objects of a class with the Subject mixin have .sinapse"
        )
    return subject_id(value)


def identifier(thing: object) -> str:
    """Return the id of an object: its ``sinapse_id``, ``pk``, ``id`` or ``to_param()``.

    The first of them that is defined decides, even if it is None, as it is before a save. Raises
    :class:`~sinapse.errors.InvalidSubject`.
    """
    for name in ("sinapse_id", "pk", "id"):
        value = _attribute(thing, name)
        if value is not _ABSENT:
            return subject_id(value)
    to_param = _attribute(thing, "to_param")
    if not callable(to_param):
        raise InvalidSubject(
            f"{type(thing).__name__} has no id: define sinapse_id, pk, id or to_param()"
        )
    return subject_id(to_param())


def kind_of(thing: object) -> str:
    """Return the kind of a subject: its ``sinapse_kind``, or the name of its class."""
    kind = _attribute(thing, "sinapse_kind")
    # Not type(): that would be the proxy that a framework has for the current user.
    return thing.__class__.__name__ if kind is _ABSENT else kind_name(kind)


def inbox(subject: "SubjectId | Receiving | Owned") -> str:
    """Return the name of the channel of one subject: what is published to it is for that alone.

    Nobody has to grant it: publishing does, so that it is on the list of the subject from the first
    message on. `subject` is an id, or an object of a class of subjects. What is published with
    ``retain=0`` is kept for ten seconds all the same, as nodes may have to listen first.

    Raises :class:`~sinapse.errors.InvalidSubject`, or :class:`~sinapse.errors.InvalidChannel` if
    the id is too long.
    """
    return channel_name(inbox_channel(member_id(subject)))


def each_channel(channel: ChannelLike | ChannelsLike) -> list[ChannelLike]:
    """Return `channel` as a list, of one or several."""
    if isinstance(channel, list | tuple | set | frozenset) and not hasattr(
        channel,
        "sinapse_channel",  # A named tuple may be an object of the application.
    ):
        return list(channel)
    return [cast(ChannelLike, channel)]


def name_of(thing: object) -> str:
    """Return the name of an object, made of its class and id: ``chat_room:12``."""
    return f"{_singular(type(thing).__name__)}:{identifier(thing)}"


@cache
def _singular(class_name: str) -> str:
    return str(inflection.singularize(inflection.underscore(class_name)))


def _attribute(thing: object, name: str) -> object:
    try:
        return getattr(thing, name)
    except AttributeError as error:
        # If a property fails, no other attribute may become the id: it could be that of others.
        if inspect.getattr_static(thing, name, _ABSENT) is not _ABSENT:
            raise InvalidSubject(f"{type(thing).__name__}.{name} has no value") from error
        return _ABSENT


def member_id(subject: object) -> str:
    """Return the id of a subject: an object of a class of subjects, its ``sinapse``, or an id.

    Raises :class:`~sinapse.errors.InvalidSubject`.
    """
    if isinstance(subject, Receiving):
        subject = Owned(subject)
    if isinstance(subject, Owned):
        return subject._id  # noqa: SLF001  # It is of this module.
    return given_id(subject)


class Owned:
    """Something that belongs to a subject."""

    def __init__(self, owner: object) -> None:
        self._owner = owner

    @property
    def owner(self) -> object:
        """The subject, or what stands for it."""
        return self._owner

    @property
    def _id(self) -> str:
        found = identifier(self._owner)
        if isinstance(self._owner, Receiving):
            _look_for_another(self._owner, found)
        return found

    @property
    def _id_and_kind(self) -> tuple[str, str]:
        return self._id, kind_of(self._owner)


class Receiving:
    """A subject: it may open streams, and its list of channels depends on its id only."""

    __slots__ = ()


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def _look_for_another(subject: Receiving, identifier: str) -> None:
    """Warn if two classes of subjects have numbers as ids: they share lists of channels.

    There is no warning if the application has chosen the id, or for classes with a common base of
    its own: they may be in one table.
    """
    if not identifier.isdecimal():
        return
    family = [base for base in subject.__class__.__mro__ if not _is_ours(base)]
    roots = [base for base in family if issubclass(base, Receiving)]
    has_chosen = any("sinapse_id" in vars(each) for each in family)
    if not roots or has_chosen or "sinapse_id" in getattr(subject, "__dict__", ()):
        return
    root = roots[-1]
    names = root.__module__, root.__qualname__
    if names in _numbered:
        return
    others = set(_numbered.values()) - {root.__name__}
    _numbered[names] = root.__name__
    for other in others:
        _log.warning(
            "%s and %s both have numbers as ids, and a list of channels goes by the id alone: each"
            " hears what the other may hear; define sinapse_id in one of them",
            root.__name__,
            other,
        )


class Named:
    """Something that has a channel, named after its class and its id."""

    __slots__ = ()

    #: Seconds for which the messages of this class are retained, 0 for not at all; None leaves it
    #: to the publisher.
    sinapse_retain: ClassVar[float | None] = None

    #: How many messages of the channel are retained; None leaves it to the publisher.
    sinapse_retain_messages: ClassVar[int | None] = None

    #: How many of the last messages of the channel a new stream gets, or ``"all"`` that are
    #: retained; None leaves it to what was said last. Without effect on what is not retained.
    sinapse_replay: ClassVar[Replay | None] = None

    @property
    def sinapse_channel(self) -> str:
        """Name of the channel: class name, underscored and singular, and id: ``chat_room:12``."""
        return name_of(self)


class Gathering:
    """Something that is a group, named after its class and its id."""

    __slots__ = ()

    @property
    def sinapse_group(self) -> str:
        """Name of the group: class name, underscored and singular, and id: ``team:3``."""
        return name_of(self)
