"""What can move: rights to channels, tokens and sessions, as they are found by their keys."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from sinapse.errors import InvalidSubject
from sinapse.protocol.keys import (
    RESERVED,
    channel_name,
    group_name,
    kind_name,
    session_id,
    subject_id,
)
from sinapse.protocol.names import Names
from sinapse.protocol.sharding import Shards
from sinapse.publisher.operations.channels import Grant
from sinapse.publisher.operations.groups import GroupChannel, Membership
from sinapse.publisher.operations.homes import Session, Token, Tokens
from sinapse.publisher.operations.operation import Command, Entry, Operation


class Placed(Entry, Protocol):
    """An entry that has its place, of which it moves to another one."""

    def places(self, shards: Shards) -> tuple[int, int | None]:
        """Return its place, and the other one if it moves."""

    def forget(self) -> Operation[Any]:
        """Return what removes it from a place that is none of its own."""


#: A subject in a group is in all places.
Found: TypeAlias = Placed | Membership

#: Makes an entry of what its key is named after and of a member, or raises ``ValueError``.
Make: TypeAlias = Callable[[str, str], Found]


class Listed(NamedTuple):
    """A key with entries."""

    command: Command
    """What is asked for them."""
    entries: Callable[[Any], list[Found]]
    """What the answer means."""


class Reader:
    """Tells what stands at keys of the names `own`."""

    def __init__(self, own: Names, *, with_groups: bool) -> None:
        self._own = own
        #: Entries that were left out, as they have names that nothing of ours can have.
        self.invalid: int = 0
        self._kinds: dict[str, Callable[[bytes, str], Listed | None]] = {
            own.channels_key(""): partial(self._members, _grant, ("SMEMBERS",), ()),
            own.group_key(""): partial(self._members, _group_channel, ("HKEYS",), ()),
            own.sessions_key(""): partial(self._members, _session, ("ZRANGE",), ("0", "-1")),
            own.token_key(""): self._token,
            own.obtained_tokens_key("", "").removesuffix(":"): self._tokens,
        }
        if with_groups:
            self._kinds[own.groups_key("")] = partial(self._members, _membership, ("HKEYS",), ())

    def listed(self, key: bytes) -> Listed | None:
        """Return how to find the entries at `key`, if it has any."""
        prefix = self._own.prefix + RESERVED
        kind, colon, rest = _text(key).removeprefix(prefix).partition(":")
        found = self._kinds.get(f"{prefix}{kind}:")
        if found is not None:
            return found(key, rest)
        return self._tokens(key, f"{kind}:{rest}") if colon else None

    def _members(
        self, make: Make, verb: Command, operands: Command, key: bytes, name: str
    ) -> Listed:
        """Return how to find entries of some kind: each is of what the key is named after."""
        return Listed((*verb, key, *operands), partial(self._valid, make, name))

    def _token(self, key: bytes, token: str) -> Listed | None:
        if session_id(token.encode(errors="surrogateescape")) is not None:
            return None  # It moves with its session.
        valid = partial(self._valid, _token, token)
        return Listed(("GET", key), lambda answer: valid([answer] if answer else []))

    def _tokens(self, key: bytes, name: str) -> Listed | None:
        kind, _, subject = name.partition(":")
        try:
            kind_name(kind)
        except InvalidSubject:
            return None
        valid = partial(self._valid, _tokens, kind)
        raw = subject.encode(errors="surrogateescape")
        return Listed(("EXISTS", key), lambda answer: valid([raw] if answer else []))

    def _valid(self, make: Make, name: str, members: Iterable[bytes]) -> list[Found]:
        """Return entries, but for those that somebody else has written."""
        found = []
        for each in members:
            try:
                found.append(make(name, _text(each)))
            except ValueError:
                self.invalid += 1
        return found


def _text(raw: bytes) -> str:
    """Return a name as text; what is not UTF-8 becomes one that is refused."""
    return raw.decode(errors="surrogateescape")


def _grant(subject: str, channel: str) -> Grant:
    return Grant(subject_id(subject), channel_name(channel))


def _group_channel(group: str, channel: str) -> GroupChannel:
    return GroupChannel(group_name(group), channel_name(channel))


def _membership(subject: str, group: str) -> Membership:
    return Membership(subject_id(subject), group_name(group))


def _session(subject: str, session: str) -> Session:
    session.encode()
    return Session(subject_id(subject), session)


def _token(token: str, subject: str) -> Token:
    token.encode()
    return Token(subject_id(subject), token)


def _tokens(kind: str, subject: str) -> Tokens:
    return Tokens(subject_id(subject), kind)
