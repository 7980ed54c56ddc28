"""Which names are valid, tokens, and what control messages are about.

Names that begin with ``sinapse:`` are never channels. Functions for the publisher take and
return ``str``; the daemon works on the bytes that Redis sends.
"""

import re
import secrets
from functools import lru_cache
from hashlib import sha256

from sinapse.errors import InvalidChannel, InvalidGroup, InvalidSubject, Unauthorized

#: What all of our own names begin with, after the prefix of an application.
RESERVED = "sinapse:"

#: Bytes. Redis would take 512 MB; a name is sent with every message, and kept for every node.
MAX_NAME_BYTES = 512

#: Bytes of randomness, as Ruby's Sinapse has it; 86 characters in URL-safe base64.
TOKEN_BYTES = 64

#: Characters. Longer ones are not looked up: they cannot be ours.
MAX_TOKEN_LENGTH = 512

#: What a hash begins with that stands for a token. No token of ours has a colon in it.
HASHED = "sha256:"

#: What the tokens of sessions begin with, hashed or not. Others have no full stop in them.
SESSION_TOKENS = "s."

#: Hexadecimal digits of the id of a session, which are 128 bits of the hash of its token.
SESSION_ID_LENGTH = 32

ADD = "add"
REMOVE = "remove"
GRANT = "grant"
WITHDRAW = "withdraw"
PAST = "past"
END = "end"
REVOKE = "revoke"
JOIN = "join"
LEAVE = "leave"

#: Told of no subject, but of a channel: it has a past from now on.
REPLAYED = "replay"

#: Told of no subject, but of a group: its members may listen to a channel, or no longer.
GROUP_GRANT = "group-grant"
GROUP_WITHDRAW = "group-withdraw"

#: How many groups a subject may be in, and how many channels a group may have: all of them are
#: read whenever a stream opens.
MAX_GROUPS = 100
MAX_GROUP_CHANNELS = 1000

#: Milliseconds, two days: for how long Redis remembers that a channel had a message. One that is
#: retained for at most a day is thus remembered for a day after it is gone; for others the key of
#: the channel stays for a day longer.
HORIZON = 2 * 24 * 3600 * 1000

#: PUB/SUB channel, after the prefix of an application, that every node is subscribed to.
NODES = RESERVED + "nodes"

#: What the channels of runs begin with.
RUN_CHANNELS = "run:"

#: What the channels begin with of which each is of one subject. No class of an application is named
#: so: that of `Inbox` 7 is ``inbox:7``.
INBOXES = "inbox@"

# What stands in the place of a kind in other keys.
_RESERVED_KINDS = (
    "tokens",
    "channels",
    "former",
    "former-of",
    "grants",
    "groups",
    "group",
    "members",
    "move",
    "obtained",
    "retained",
    "revoked",
    "sent",
    "presence",
    "run",
    "session",
    "sessions",
)

_CONTROL_CHARACTER = re.compile("[\0-\x1f\x7f]")
_SPACE = re.compile(r"\s")

_RESERVED = RESERVED.encode()
_HASHED = HASHED.encode()
_SESSION_TOKENS = SESSION_TOKENS.encode()

_CHANNELS = RESERVED + "channels:"
_CONTROL_PREFIX = _CHANNELS.encode()

#: PSUBSCRIBE pattern, after the prefix of an application, that receives every control message.
CONTROL_PATTERN = _CHANNELS + "*"


def new_token() -> str:
    """Return a token that cannot be guessed: 512 bits from the operating system."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_session_token() -> str:
    """Return a token for a session: such a one that is seen to be that."""
    return SESSION_TOKENS + new_token()


def hashed_token(token: str) -> str:
    """Return what stands for `token` in Redis where that shall not know it.

    Tokens are long and random: they cannot be tried out, so no salt and no slow hash is needed.
    """
    return presented_token(token.encode(), hashed=True).decode()


def presented_token(token: bytes, *, hashed: bool) -> bytes:
    """Return what Redis has in place of a `token` that a client sends.

    A hash that was read in Redis is not a token: raises :class:`~sinapse.errors.Unauthorized`.
    """
    kind = _SESSION_TOKENS if token.startswith(_SESSION_TOKENS) else b""
    if hashed:
        return kind + _HASHED + sha256(token).hexdigest().encode()
    if token.startswith(_HASHED, len(kind)):
        raise Unauthorized("unknown token")
    return token


def session_id(token: bytes) -> str | None:
    """Return the id of the session of a `token`, as Redis has that; None if it is of none.

    It is a part of the hash of the token: so both of them know it who has one of these, and nobody
    who has only the id knows the token.
    """
    if not token.startswith(_SESSION_TOKENS):
        return None
    if token.startswith(_HASHED, len(_SESSION_TOKENS)):
        digest = token[len(_SESSION_TOKENS) + len(_HASHED) :].decode(errors="replace")
    else:
        digest = sha256(token).hexdigest()
    return digest[:SESSION_ID_LENGTH]


def run_channel(run: str) -> str:
    """Name of the channel of a run, by its id."""
    return RUN_CHANNELS + run


def inbox_channel(subject: str) -> str:
    """Name of the channel of what is published to one subject, by its id."""
    return INBOXES + subject


def control_name(subject: str, action: str) -> str:
    """Name of the control channel on which `action` is announced for `subject`."""
    return f"{_CHANNELS}{subject}:{action}"


def parse_control(name: bytes) -> tuple[bytes, str] | None:
    """Split the name of a control channel into subject id and action; None if it is not one."""
    subject, separator, action = name.removeprefix(_CONTROL_PREFIX).rpartition(b":")
    if not separator or not name.startswith(_CONTROL_PREFIX):
        return None
    return subject, action.decode(errors="replace")


def is_channel(name: bytes) -> bool:
    """Whether a name found in a subject's list may be subscribed to."""
    return bool(name) and not name.startswith(_RESERVED)


def channel_name(name: object) -> str:
    """Return `name` if it is one that can be published to; objects have ``sinapse_channel``.

    A channel's name is 1 to 512 bytes of UTF-8 without control characters that does not begin
    with ``sinapse:``. Raises :class:`~sinapse.errors.InvalidChannel`.
    """
    text = name if type(name) is str else getattr(name, "sinapse_channel", name)
    if not isinstance(text, str):
        raise InvalidChannel(
            f"a channel is a str or has sinapse_channel, not {type(name).__name__}"
        )
    if text.startswith(RESERVED):
        raise InvalidChannel(
            f"channel {text[:80]!r}: names that begin with {RESERVED!r} are reserved"
        )
    text = plain(text)
    if fault := _fault(text):
        raise InvalidChannel(f"channel {text[:80]!r}: {fault}")
    return text


def group_name(name: object) -> str:
    """Return `name` if it is one of a group; objects have ``sinapse_group``.

    A group's name is 1 to 512 bytes of UTF-8 without white space or control characters. Raises
    :class:`~sinapse.errors.InvalidGroup`.
    """
    text = name if type(name) is str else getattr(name, "sinapse_group", name)
    if not isinstance(text, str):
        raise InvalidGroup(f"a group is a str or has sinapse_group, not {type(name).__name__}")
    text = plain(text)
    fault = _fault(text) or (_SPACE.search(text) and "has white space")
    if fault:
        raise InvalidGroup(f"group {text[:80]!r}: {fault}")
    return text


def plain(text: str) -> str:
    """Return the text of a subclass, whose ``str()`` may differ, as a ``(str, Enum)``."""
    return text if type(text) is str else str.__str__(text)


def kind_name(value: object) -> str:
    """Return `value` as the class name of a subject; raises `InvalidSubject`.

    ``tokens``, ``channels`` and the like are refused, because their keys would collide with others.
    A colon is refused too: the kind ``User:admin`` and the id ``1`` would be ``User`` and
    ``admin:1``.
    """
    if not isinstance(value, str):
        raise InvalidSubject(f"a kind is the name of a class, not {type(value).__name__}")
    text = plain(value)
    fault = _fault(text)
    if ":" in text:
        fault = "has a colon"
    if text in _RESERVED_KINDS:
        fault = "is reserved"
    if fault:
        raise InvalidSubject(f"kind {text[:80]!r}: {fault}")
    return text


def subject_id(value: object) -> str:
    """Return `value` as the id of a subject; raises :class:`~sinapse.errors.InvalidSubject`."""
    if value is None:
        raise InvalidSubject("the subject has no id yet: save it first, or define sinapse_id")
    # Their str() is no id of anybody.
    if isinstance(value, bytes | bool) or callable(value):
        raise InvalidSubject(
            f"a subject id is a str, an int or the like, not {type(value).__name__}"
        )
    if isinstance(value, str):
        text = plain(value)
    else:
        try:
            # A subclass may show a name, as an ``(int, Enum)`` does.
            text = int.__repr__(value) if isinstance(value, int) else str(value)
        except ValueError:  # Python does not write whole numbers of more than 4,300 digits.
            raise InvalidSubject(f"subject id: is over {MAX_NAME_BYTES} bytes") from None
    if fault := _fault(text):
        raise InvalidSubject(f"subject id {text[:80]!r}: {fault}")
    return text


def _fault(text: str) -> str | None:
    too_long = f"is over {MAX_NAME_BYTES} bytes"
    return too_long if len(text) > MAX_NAME_BYTES else _fault_of_short(text)


@lru_cache(maxsize=1024)  # The same few come with every message.
def _fault_of_short(text: str) -> str | None:
    if not text:
        return "is empty"
    if _CONTROL_CHARACTER.search(text):
        return "has control characters"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return f"is over {MAX_NAME_BYTES} bytes" if size > MAX_NAME_BYTES else None
