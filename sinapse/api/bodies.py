"""What is sent to the API and comes back: one definition, for checks and for the document."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sinapse.protocol.keys import SESSION_ID_LENGTH
from sinapse.protocol.message import STREAM_NAME
from sinapse.publisher.http.requests import MAX_MESSAGES_PER_REQUEST
from sinapse.publisher.operations.retention import MAX_RETAIN_MESSAGES
from sinapse.publisher.operations.sessions import MAX_DEVICE, MAX_ONLY
from sinapse.publisher.operations.tokens import USER

#: What a name is (see ``docs/protocol.md``), as a pattern.
NAME = r"^[^\x00-\x1f\x7f]+$"
KIND = r"^[^:\x00-\x1f\x7f]+$"
CHANNEL = r"^(?!sinapse:)[^\x00-\x1f\x7f]+$"

#: The name of a group.
GROUP = r"^[^\s\x00-\x1f\x7f]+$"

#: The id of a session.
SESSION = f"^[0-9a-f]{{{SESSION_ID_LENGTH}}}$"

MESSAGE_ID = r"^[^\x00-\x1f\x7f]{1,128}$"
STREAM = f"^{STREAM_NAME}$"


class Publish(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A message to all who may listen to a channel."""

    channel: Annotated[
        str, Meta(description="Name of the channel.", max_length=512, pattern=CHANNEL)
    ]
    message: Annotated[
        Any, Meta(description="Text, which is sent as it is, or anything else as JSON.")
    ]
    event: Annotated[str, Meta(max_length=512, pattern=r"^[^\r\n\x00]+$")] | None = None
    retain: (
        Annotated[
            float,
            Meta(description="Seconds for which it is kept; 0 for not at all.", ge=0, le=2_592_000),
        ]
        | None
    ) = None
    message_id: (
        Annotated[
            str,
            Meta(
                description="What has the same id is published once, as with Idempotency-Key;"
                " printable characters.",
                pattern=MESSAGE_ID,
            ),
        ]
        | None
    ) = None

    replay: (
        Annotated[int, Meta(ge=0, description="So many of the last messages.")]
        | Literal["all"]
        | None
    ) = None
    retain_messages: (
        Annotated[
            int,
            Meta(description="How many messages the channel keeps.", ge=1, le=MAX_RETAIN_MESSAGES),
        ]
        | None
    ) = None
    but: (
        Annotated[
            str,
            Meta(
                description="The name of the streams that it is not for: those of its sender.",
                pattern=STREAM,
            ),
        ]
        | None
    ) = None


class PublishMany(Struct, forbid_unknown_fields=True):
    """Messages, which are published in this order."""

    messages: Annotated[list[Publish], Meta(min_length=1, max_length=MAX_MESSAGES_PER_REQUEST)]


class Published(Struct):
    """A message was taken."""

    nodes: Annotated[int, Meta(description="How many daemons had a listener.")]
    id: Annotated[str | None, Meta(description="Id of the message; null if it is not retained.")]


class Failed(Struct):
    """Something was not done."""

    error: Annotated[str, Meta(description="Why, in words.")]
    delivered: Annotated[
        bool | UnsetType | None,
        Meta(description="With a 503: false if nothing was done, null if that is unknown."),
    ] = UNSET


class Outcome(Struct, omit_defaults=True):
    """What became of one of several messages: as :class:`Published`, or as :class:`Failed`."""

    nodes: int | UnsetType = UNSET
    id: str | UnsetType | None = UNSET
    error: str | UnsetType = UNSET
    delivered: bool | UnsetType | None = UNSET


class PublishedMany(Struct):
    """What became of each message, in the order of the request."""

    results: list[Outcome]


class NewToken(Struct, forbid_unknown_fields=True):
    """What a token is to be."""

    kind: Annotated[
        str, Meta(description="Name of the subject's class.", max_length=512, pattern=KIND)
    ] = USER
    expires_in: (
        Annotated[float, Meta(description="Seconds that it lives; null for ever.", gt=0, le=10**10)]
        | None
    ) = None


class Token(Struct):
    """A token."""

    token: str


class Renewed(Struct):
    """Whether there was a token, or a session, that could be renewed."""

    renewed: bool


class NewSession(Struct, forbid_unknown_fields=True):
    """What a session is to be."""

    # What is said of these two is for the document: the library refuses the same, in clearer words.
    device: (
        Annotated[
            str,
            Meta(
                description="What it is for, in words for people; printable characters.",
                extra_json_schema={"minLength": 1, "maxLength": MAX_DEVICE, "pattern": NAME},
            ),
        ]
        | None
    ) = None
    expires_in: (
        Annotated[float, Meta(description="Seconds that it lives; null for ever.", gt=0, le=10**10)]
        | None
    ) = None
    only: (
        Annotated[
            tuple[str, ...],
            Meta(
                description="The part of the list that its token is for: channels, and prefixes"
                " that end in *; null for all of it.",
                extra_json_schema={"minItems": 1, "maxItems": MAX_ONLY},
            ),
        ]
        | None
    ) = None


class OpenedSession(Struct):
    """A session that was opened, with its token, which nobody is told again."""

    id: str
    token: str
    ended: Annotated[
        list[str],
        Meta(description="Ids of the oldest ones, which were ended as there were too many."),
    ]


class Session(Struct):
    """A session. Times are seconds since 1970."""

    id: str
    device: str | None
    only: Annotated[
        list[str] | None, Meta(description="What its token is for; null for all of the list.")
    ]
    opened: float
    seen: Annotated[
        float | None, Meta(description="When a stream of it was open last; null if none was.")
    ]
    expires: Annotated[float | None, Meta(description="Null for never.")]


class SessionList(Struct):
    """The sessions of a subject, the oldest first."""

    sessions: list[Session]


class Renewal(Struct, forbid_unknown_fields=True):
    """How long a session is to live from now on."""

    expires_in: (
        Annotated[
            float,
            Meta(description="Seconds that it lives at least; null for ever.", gt=0, le=10**10),
        ]
        | None
    ) = None


class Ended(Struct):
    """How many sessions were ended."""

    ended: int


class Grant(Struct, forbid_unknown_fields=True):
    """For how long a channel is added."""

    expires_in: (
        Annotated[
            float,
            Meta(description="Seconds until it is removed again; null for never.", gt=0, le=10**10),
        ]
        | None
    ) = None


class ChannelList(Struct):
    """What a subject may listen to."""

    channels: list[str]


class Changed(Struct):
    """Whether the request changed something."""

    changed: bool


class Cleared(Struct):
    """How many channels were removed from a list."""

    removed: int


class GroupList(Struct):
    """The groups that a subject is in."""

    groups: list[str]


class Left(Struct):
    """In how many groups a subject was."""

    left: int


class Members(Struct):
    """A page of the ids of the members of a group, in the order of their bytes."""

    members: list[str]


class GroupChannelList(Struct):
    """What the members of a group may listen to."""

    channels: list[str]


class Retained(Struct):
    """A message that is retained."""

    id: str
    event: str | None
    data: Annotated[str, Meta(description="Text as it is, anything else as JSON.")]


class History(Struct):
    """A page of what is retained of a channel, oldest first."""

    messages: list[Retained]
    missing: Annotated[
        bool,
        Meta(
            description="Messages are gone that were published after the id to read after;"
            " without one, before the last one of the page."
        ),
    ]
    more: Annotated[bool, Meta(description="There are more after the last one of the page.")]


class Position(Struct):
    """How far all channels have got."""

    position: Annotated[
        str, Meta(description="The id of now. A stream that resumes from it misses nothing since.")
    ]


class Online(Struct):
    """Whether a subject has an open stream; known if the daemons run with ``--presence``."""

    online: bool


class OnlineIn(Struct):
    """The subjects that have an open stream, and may listen to a channel."""

    subjects: list[str]


class Audience(Struct):
    """How many listen to a channel."""

    nodes: int
    subjects: Annotated[int | None, Meta(description="Null if no daemon runs with --presence.")]


class Listens(Struct):
    """Whether a subject may listen to a channel."""

    listens: bool
