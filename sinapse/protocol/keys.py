"""Every name that Sinapse uses in Redis, and which names are valid.

=====================================  ===========================================================
``sinapse:tokens:<token>``             string: the id of the subject that the token stands for;
                                       where tokens are hashed, of the hash as everywhere else
``sinapse:<Kind>:<id>``                string: the current token of a subject of that class
``sinapse:obtained:<Kind>:<id>``       sorted set: tokens of that subject that were obtained, by the
                                       time of the first time, in milliseconds
``sinapse:channels:<id>``              set: the channels that the subject may listen to
``sinapse:grants:<id>``                hash: these, and the id counter at which each was added
``sinapse:groups:<id>``                hash: the groups that the subject is in, and the id counter
                                       since which it is
``sinapse:group:<group>``              hash: the channels that members of the group may listen to,
                                       and the id counter at which each was added
``sinapse:members:<group>``            sorted set: the ids of the members of a group, all at 0
``sinapse:ends``                       sorted set: grants that end, each an id, a line feed and a
                                       channel, by the time when, in milliseconds
PUBLISH ``sinapse:channels:<id>:add``  a channel was added to the list; payload: its name
PUBLISH ``…:grant``                    the same, told first; payload: id counter, space, name
PUBLISH ``…:past``                     the same, before both, of a channel with a past
PUBLISH ``…:remove``                   a channel was removed; payload: its name
PUBLISH ``…:withdraw``                 the same, told first; payload: id counter, space, name
PUBLISH ``…:end``                      of all grants one of this subject ends first; payload: in
                                       how many milliseconds
PUBLISH ``…:join``                     the subject is in a group from now on; payload: id counter,
                                       1 if one of the channels has a past, else 0, and the group;
                                       then for each of its channels a line: id counter, name
PUBLISH ``…:leave``                    it is not any more; payload: id counter, space, group
PUBLISH ``sinapse:channels::group-grant``  a channel was added to the list of a group; payload: id
                                       counter, 1 if the channel has a past, else 0, group, name
PUBLISH ``…:group-withdraw``           it was removed; payload: id counter, group, name
PUBLISH ``sinapse:channels::replay``   a channel has a past from now on, and had none before;
                                       payload: its name
PUBLISH ``…:revoke``                   a token was cleared or replaced; payload: the token
``sinapse:retained:<channel>``         stream: the retained messages of a channel
``sinapse:retention``                  hash: epoch and counter of the ids, and what they rest on
``sinapse:epochs``                     hash: former epochs, and the counter that each ended at
``sinapse:last``                       sorted set: channels by the last id counter on them
``sinapse:replay``                     hash: channels of which new streams get a past, and how many
                                       messages: a number, or ``all``
``sinapse:checkpoints``                list: id counters with times, to forget the old
``sinapse:revoked:<token>``            string: a token that is in another Redis was revoked
``sinapse:sent:<message id>``          string: a message of that id was published; its own id, if
                                       it was retained
``sinapse:nothing``                    never there: what would change it asks for leave to write
PUB/SUB ``sinapse:nodes``              every node listens
PUB/SUB ``sinapse:nodes:<epoch>``      every node listens that has looked at this epoch
``sinapse:presence``                   sorted set: nodes that tell who is there, by their lease
``sinapse:presence:<node>``            set: subjects with streams on that node
PUBLISH ``sinapse:presence:join``      a subject has its first stream; payload: its id
PUBLISH ``sinapse:presence:leave``     a subject has none any more; payload: its id
``sinapse:presence:channels``          sorted set: nodes that tell what is listened to, by their
                                       lease
``sinapse:presence:channels:<node>``   set: channels with a listener on that node
PUBLISH ``sinapse:presence:occupied``  a channel has its first listener; payload: its name
PUBLISH ``sinapse:presence:vacated``   a channel has none any more; payload: its name
``sinapse:sessions:<id>``              sorted set: the sessions of a subject, by the time when each
                                       was opened, in microseconds
``sinapse:session:<session id>``       hash: a session: its token, and what it is for
``sinapse:run:<run id>``               hash: a run, its state, and what its last message needs
``sinapse:runs``                       sorted set: what is running, by the time until which its
                                       sign of life holds, in milliseconds
``run:<run id>``                       the channel of a run
=====================================  ===========================================================

Names that begin with ``sinapse:`` are never channels. Functions for the publisher take and
return ``str``; the daemon works on the bytes that Redis sends.
"""

import re
import secrets
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from sinapse.errors import InvalidChannel, InvalidGroup, InvalidSubject, Unauthorized

PREFIX = "sinapse:"

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

RETENTION = PREFIX + "retention"
EPOCHS = PREFIX + "epochs"
LAST = PREFIX + "last"
CHECKPOINTS = PREFIX + "checkpoints"
ENDS = PREFIX + "ends"
NOTHING = PREFIX + "nothing"
REPLAY = PREFIX + "replay"

#: Milliseconds, two days: for how long Redis remembers that a channel had a message. One that is
#: retained for at most a day is thus remembered for a day after it is gone; for others the key of
#: the channel stays for a day longer.
HORIZON = 2 * 24 * 3600 * 1000

#: PUB/SUB channel that every node is subscribed to.
NODES = PREFIX + "nodes"

PRESENCE = PREFIX + "presence"

#: PUB/SUB channels that tell who comes and who goes.
JOINED = PRESENCE + ":join"
LEFT = PRESENCE + ":leave"

#: The nodes that tell which channels have a listener. No node is called `channels`.
OCCUPANCY = PRESENCE + ":channels"

#: PUB/SUB channels that tell which channels get their first listener, and lose their last.
OCCUPIED = PRESENCE + ":occupied"
VACATED = PRESENCE + ":vacated"

RUNS = PREFIX + "runs"

#: What the channels of runs begin with.
RUN_CHANNELS = "run:"

# What stands in the place of a kind in other keys.
_RESERVED_KINDS = (
    "tokens",
    "channels",
    "grants",
    "groups",
    "group",
    "members",
    "obtained",
    "retained",
    "revoked",
    "sent",
    "presence",
    "run",
    "session",
    "sessions",
)

#: Keys that are named where one of them is of another type.
MAX_NAMED = 8

_CONTROL_CHARACTER = re.compile("[\0-\x1f\x7f]")
_SPACE = re.compile(r"\s")

#: What keys begin with whose rest is a token.
_SECRET = (f"{PREFIX}tokens:", f"{PREFIX}revoked:")

_HASHED = HASHED.encode()
_SESSION_TOKENS = SESSION_TOKENS.encode()

_CHANNELS = PREFIX + "channels:"
_CONTROL_PREFIX = _CHANNELS.encode()

#: PSUBSCRIBE pattern that receives every control message.
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


def token_key(token: str) -> str:
    """Key of the subject's id that `token` stands for."""
    return f"{PREFIX}tokens:{token}"


def current_token_key(kind: str, subject: str) -> str:
    """Key of the current token of `subject`, whose class is named `kind`."""
    return f"{PREFIX}{kind}:{subject}"


def obtained_tokens_key(kind: str, subject: str) -> str:
    """Key of the tokens of `subject` that were obtained, with the time of the first time."""
    return f"{PREFIX}obtained:{kind}:{subject}"


def channels_key(subject: str) -> str:
    """Key of the set of channels that `subject` may listen to."""
    return _CHANNELS + subject


def revoked_key(token: str) -> str:
    """Key that says that `token`, which is in a different Redis, was revoked."""
    return f"{PREFIX}revoked:{token}"


def session_key(session: str) -> str:
    """Key of a session, by its id."""
    return f"{PREFIX}session:{session}"


def sessions_key(subject: str) -> str:
    """Key of the sessions of `subject`, by the time when each was opened."""
    return f"{PREFIX}sessions:{subject}"


def grants_key(subject: str) -> str:
    """Key of the hash of these channels, with the id counter at which each was added."""
    return f"{PREFIX}grants:{subject}"


def groups_key(subject: str) -> str:
    """Key of the groups that `subject` is in, with the id counter since which it is."""
    return f"{PREFIX}groups:{subject}"


def group_key(group: str) -> str:
    """Key of the channels of `group`, with the id counter at which each was added."""
    return f"{PREFIX}group:{group}"


def members_key(group: str) -> str:
    """Key of the members of `group`."""
    return f"{PREFIX}members:{group}"


def retained_key(channel: str) -> str:
    """Key of the retained messages of `channel`."""
    return f"{PREFIX}retained:{channel}"


def presence_key(node: str) -> str:
    """Key of the set of subjects with streams on `node`."""
    return f"{PRESENCE}:{node}"


def occupancy_key(node: str) -> str:
    """Key of the set of channels with a listener on `node`."""
    return f"{OCCUPANCY}:{node}"


def sent_key(message_id: str) -> str:
    """Key that says that a message of the caller's `message_id` was published."""
    return f"{PREFIX}sent:{message_id}"


def run_key(run: str) -> str:
    """Key of the state of a run, by its id."""
    return f"{PREFIX}run:{run}"


def run_channel(run: str) -> str:
    """Name of the channel of a run, by its id."""
    return RUN_CHANNELS + run


def control_channel(subject: str, action: str) -> str:
    """PUB/SUB channel on which `action` is announced for `subject`: ADD, REMOVE, REVOKE, ..."""
    return f"{_CHANNELS}{subject}:{action}"


def parse_control(name: bytes) -> tuple[bytes, str] | None:
    """Split the name of a control channel into subject id and action; None if it is not one."""
    subject, separator, action = name.removeprefix(_CONTROL_PREFIX).rpartition(b":")
    if not separator or not name.startswith(_CONTROL_PREFIX):
        return None
    return subject, action.decode(errors="replace")


def is_channel(name: bytes) -> bool:
    """Whether a name found in a subject's list may be subscribed to."""
    return bool(name) and not name.startswith(PREFIX.encode())


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
    if text.startswith(PREFIX):
        raise InvalidChannel(
            f"channel {text[:80]!r}: names that begin with {PREFIX!r} are reserved"
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


def of_another_type(
    refusal: str, keys: Iterable[str | bytes], arguments: Iterable[object] = ()
) -> str:
    """Return what Redis refused; with the keys that may be the cause, if one has the wrong type.

    Redis does not say which key. A script has `keys`, and builds more from prefixes among its
    `arguments`. Tokens are left out.
    """
    if not refusal.startswith("WRONGTYPE"):
        return refusal
    named: dict[str, None] = {}
    for each in (*keys, *(each for each in arguments if _is_prefix(each))):
        text = each.decode(errors="replace") if isinstance(each, bytes) else str(each)
        prefix = f"{PREFIX}{text.split(':')[1]}:" if text.startswith(_SECRET) else text
        shown = f"{prefix}…" if prefix.endswith(":") else prefix[:80]
        named[shown if shown.isprintable() else ascii(shown)] = None
    some = ", ".join([*named][:MAX_NAMED])
    return f"WRONGTYPE: one of these keys holds what is not Sinapse's: {some}"


def _is_prefix(argument: object) -> bool:
    if isinstance(argument, bytes):
        return argument.startswith(PREFIX.encode()) and argument.endswith(b":")
    return isinstance(argument, str) and argument.startswith(PREFIX) and argument.endswith(":")


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
