"""Every name that Sinapse uses in Redis, under the prefix of an application.

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
``sinapse:former:<id>``                hash: channels to which a right of the subject has ended
                                       beside another one, and when it was there: id counters of
                                       its beginning and end, ``5-9 20-31``
``sinapse:former-of:<group>``          hash: channels that were on the list of a group, and when, in
                                       the same way
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
                                       it was retained; ``-`` if it is left to another Redis
``sinapse:nothing``                    never there: what would change it asks for leave to write
PUB/SUB ``sinapse:nodes``              every node listens
PUB/SUB ``sinapse:nodes:<epoch>``      every node listens that has looked at this epoch
PUB/SUB ``sinapse:nodes:<node>``       one node listens; with ``:<since>``, it acts by that;
                                       with ``:<state>``, its list has that state for this Redis
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
``sinapse:move``                       hash: which Redis have joined the others, or left them
``run:<run id>``                       the channel of a run
``inbox@<id>``                         the channel of what is published to one subject: who
                                       publishes to it adds it to the list, if it is not there
=====================================  ===========================================================

The prefix stands before each of them, and before the name of a channel where that is one of
PUB/SUB. What is kept in keys has no prefix: members, fields, payloads and arguments of scripts have
the names of channels as the application knows them. So two applications that share a Redis have
different prefixes, and mostly there is none.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Final

from sinapse.environment import is_off
from sinapse.errors import InvalidPrefix
from sinapse.protocol.keys import INBOXES, NODES, RESERVED, control_name, plain

#: Characters of a prefix, which stands in every name.
MAX_PREFIX_LENGTH = 64

#: Keys that are named where one of them is of another type, and characters of each.
MAX_NAMED = 8
MAX_SHOWN = 144

#: Printable ASCII without what patterns, scripts, shells and Redis Cluster read as something else.
_PREFIX = re.compile(f"[!#-&()+->@-Z^-z|~]{{1,{MAX_PREFIX_LENGTH}}}")


class Names:
    """The names of an application; there is one of each `prefix`: see :func:`names_under`."""

    def __init__(self, prefix: str) -> None:
        self.prefix: Final = prefix
        own = prefix + RESERVED
        self._own: Final = own
        self.retention: Final = own + "retention"
        self.epochs: Final = own + "epochs"
        self.last: Final = own + "last"
        self.checkpoints: Final = own + "checkpoints"
        self.ends: Final = own + "ends"
        self.nothing: Final = own + "nothing"
        self.replay: Final = own + "replay"
        self.runs: Final = own + "runs"
        self.move: Final = own + "move"
        #: PUB/SUB channel that every node is subscribed to.
        self.nodes: Final = prefix + NODES
        self.presence: Final = own + "presence"
        #: PUB/SUB channels that tell who comes and who goes.
        self.joined: Final = self.presence + ":join"
        self.left: Final = self.presence + ":leave"
        #: The nodes that tell which channels have a listener. No node is called `channels`.
        self.occupancy: Final = self.presence + ":channels"
        #: PUB/SUB channels that tell which channels get their first listener, and lose their last.
        self.occupied: Final = self.presence + ":occupied"
        self.vacated: Final = self.presence + ":vacated"
        #: The keys that all retained messages share.
        self.shared: Final = (self.retention, self.epochs, self.last, self.checkpoints)
        #: The keys that all messages of runs share.
        self.of_runs: Final = (*self.shared, self.replay, self.runs)
        # What keys begin with whose rest is a token.
        self._secret: Final = (self.token_key(""), self.revoked_key(""))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} under {self.prefix!r}>"

    def pubsub(self, channel: str) -> str:
        """PUB/SUB channel of the messages of `channel`."""
        return self.prefix + channel

    def token_key(self, token: str) -> str:
        """Key of the subject's id that `token` stands for."""
        return f"{self._own}tokens:{token}"

    def current_token_key(self, kind: str, subject: str) -> str:
        """Key of the current token of `subject`, whose class is named `kind`."""
        return f"{self._own}{kind}:{subject}"

    def obtained_tokens_key(self, kind: str, subject: str) -> str:
        """Key of the tokens of `subject` that were obtained, with the time of the first time."""
        return f"{self._own}obtained:{kind}:{subject}"

    def channels_key(self, subject: str) -> str:
        """Key of the set of channels that `subject` may listen to."""
        return f"{self._own}channels:{subject}"

    def revoked_key(self, token: str) -> str:
        """Key that says that `token`, which is in a different Redis, was revoked."""
        return f"{self._own}revoked:{token}"

    def session_key(self, session: str) -> str:
        """Key of a session, by its id."""
        return f"{self._own}session:{session}"

    def sessions_key(self, subject: str) -> str:
        """Key of the sessions of `subject`, by the time when each was opened."""
        return f"{self._own}sessions:{subject}"

    def grants_key(self, subject: str) -> str:
        """Key of the hash of these channels, with the id counter at which each was added."""
        return f"{self._own}grants:{subject}"

    def groups_key(self, subject: str) -> str:
        """Key of the groups that `subject` is in, with the id counter since which it is."""
        return f"{self._own}groups:{subject}"

    def group_key(self, group: str) -> str:
        """Key of the channels of `group`, with the id counter at which each was added."""
        return f"{self._own}group:{group}"

    def members_key(self, group: str) -> str:
        """Key of the members of `group`."""
        return f"{self._own}members:{group}"

    def former_key(self, subject: str) -> str:
        """Key of channels to which rights of `subject` have ended beside others, and of when."""
        return f"{self._own}former:{subject}"

    def former_of_group_key(self, group: str) -> str:
        """Key of the channels that `group` had, and of when."""
        return f"{self._own}former-of:{group}"

    def retained_key(self, channel: str) -> str:
        """Key of the retained messages of `channel`."""
        return f"{self._own}retained:{channel}"

    def presence_key(self, node: str) -> str:
        """Key of the set of subjects with streams on `node`."""
        return f"{self.presence}:{node}"

    def occupancy_key(self, node: str) -> str:
        """Key of the set of channels with a listener on `node`."""
        return f"{self.occupancy}:{node}"

    def sent_key(self, message_id: str) -> str:
        """Key that says that a message of the caller's `message_id` was published."""
        return f"{self._own}sent:{message_id}"

    def run_key(self, run: str) -> str:
        """Key of the state of a run, by its id."""
        return f"{self._own}run:{run}"

    def control_channel(self, subject: str, action: str) -> str:
        """PUB/SUB channel on which `action` is announced for `subject`: ADD, REMOVE, REVOKE, ..."""
        return self.prefix + control_name(subject, action)

    def of_another_type(
        self, refusal: str, keys: Collection[str | bytes], arguments: Iterable[object] = ()
    ) -> str:
        """Return what Redis refused; with the keys that may be why, if one is of another type.

        Redis does not say which key. A script has `keys`, changes lists if one of them is of an
        inbox, and builds more from prefixes among its `arguments`. Tokens are left out.
        """
        if not refusal.startswith("WRONGTYPE"):
            return refusal
        named: dict[str, None] = {}
        prefixes = (each for each in arguments if self._begins_keys(each))
        for text in (*self._lists_of(keys), *map(_text, (*keys, *prefixes))):
            secret = next(filter(text.startswith, self._secret), text)
            shown = f"{secret}…" if secret.endswith(":") else secret[:MAX_SHOWN]
            named[shown if shown.isprintable() else ascii(shown)] = None
        some = ", ".join([*named][:MAX_NAMED])
        return f"WRONGTYPE: one of these keys holds what is not Sinapse's: {some}"

    def _lists_of(self, keys: Collection[str | bytes]) -> Iterator[str]:
        """Yield the lists that publishing to an inbox changes, for those among `keys`."""
        inboxes = self.retained_key(INBOXES)
        for text in map(_text, keys):
            subject = text.removeprefix(inboxes)
            if subject != text:
                yield self.channels_key(subject)
                yield self.grants_key(subject)

    def _begins_keys(self, argument: object) -> bool:
        if isinstance(argument, bytes):
            return argument.startswith(self._own.encode()) and argument.endswith(b":")
        return (
            isinstance(argument, str) and argument.startswith(self._own) and argument.endswith(":")
        )


def _text(key: object) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


@cache
def names_under(prefix: str) -> Names:
    """Return the names of the application whose prefix this is, empty for none."""
    return Names(prefix)


#: The names of an application without a prefix.
PLAIN = names_under("")


def prefix_fault(prefix: str) -> str | None:
    """Return why names cannot begin with `prefix`; None if they can.

    Keys of two prefixes never meet, because none has in it what our own names begin with.
    """
    if not _PREFIX.fullmatch(prefix):
        return (
            f"must be 1 to {MAX_PREFIX_LENGTH} printable ASCII characters without white space, "
            "quotes, backslashes and {}*?[]"
        )
    if is_off(prefix):
        return "must not be a word that means none"
    return f"must not have {RESERVED!r} in it, which is reserved" if RESERVED in prefix else None


def checked_prefix(prefix: object, name: str = "prefix") -> str:
    """Return what a setting says that names begin with: nothing if it is empty, off or none.

    `name` is the caller's name for it. Raises :class:`~sinapse.errors.InvalidPrefix`.
    """
    if not isinstance(prefix, str):
        raise InvalidPrefix(f"{name} is a str, not {type(prefix).__name__}")
    text = plain(prefix)
    if not text or is_off(text):
        return ""
    if fault := prefix_fault(text):
        raise InvalidPrefix(f"{name} {text[:MAX_SHOWN]!r}: {fault}")
    return text
