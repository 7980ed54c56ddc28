"""What can move: rights to channels, tokens and sessions, as they are found by their keys."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from sinapse.errors import InvalidSubject
from sinapse.protocol.keys import RESERVED, kind_name, session_id
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
        self._kinds: dict[str, Callable[[str, str], Listed | None]] = {
            own.channels_key(""): partial(_members, Grant, ("SMEMBERS",), ()),
            own.group_key(""): partial(_members, GroupChannel, ("HKEYS",), ()),
            own.sessions_key(""): partial(_members, Session, ("ZRANGE",), ("0", "-1")),
            own.token_key(""): _token,
            own.obtained_tokens_key("", "").removesuffix(":"): _tokens,
        }
        if with_groups:
            self._kinds[own.groups_key("")] = partial(_members, Membership, ("HKEYS",), ())

    def listed(self, key: str) -> Listed | None:
        """Return how to find the entries at `key`, if it has any."""
        prefix = self._own.prefix + RESERVED
        kind, colon, rest = key.removeprefix(prefix).partition(":")
        found = self._kinds.get(f"{prefix}{kind}:")
        if found is not None:
            return found(key, rest)
        return _tokens(key, f"{kind}:{rest}") if colon else None


def _members(
    kind: Callable[[str, str], Found], verb: Command, operands: Command, key: str, name: str
) -> Listed:
    """Return how to find entries of some kind: each is of what the key is named after."""
    return Listed(
        (*verb, key, *operands), lambda answer: [kind(name, each) for each in _texts(answer)]
    )


def _token(key: str, token: str) -> Listed | None:
    if session_id(token.encode()) is not None:
        return None  # It moves with its session.
    return Listed(("GET", key), lambda answer: [Token(each, token) for each in _texts([answer])])


def _tokens(key: str, name: str) -> Listed | None:
    kind, _, subject = name.partition(":")
    try:
        kind_name(kind)
    except InvalidSubject:
        return None
    return Listed(("EXISTS", key), lambda answer: [Tokens(subject, kind)] if answer else [])


def _texts(answer: Iterable[bytes | None]) -> list[str]:
    """Return names as text, but for what is not UTF-8, which is none of ours."""
    texts = []
    for raw in answer:
        if raw:
            try:
                texts.append(raw.decode())
            except UnicodeDecodeError:
                continue
    return texts
