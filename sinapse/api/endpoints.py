"""What can be asked of the API: each operation, with its path, its method and what it does.

A path is made of segments; those in braces are parameters, percent-encoded. Everything raises what
the library raises.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from msgspec import Struct

from sinapse import publisher as library
from sinapse.api.bodies import (
    KIND,
    SESSION,
    Audience,
    Changed,
    ChannelList,
    Cleared,
    Ended,
    Failed,
    Grant,
    History,
    Listens,
    NewSession,
    NewToken,
    Online,
    OnlineIn,
    OpenedSession,
    Outcome,
    Position,
    Publish,
    Published,
    PublishedMany,
    PublishMany,
    Renewal,
    Renewed,
    Retained,
    Session,
    SessionList,
    Token,
)
from sinapse.errors import BrokerUnavailable, Incomplete
from sinapse.publisher.operations.history import LIMIT, MAX_ID_LENGTH, MAX_LIMIT
from sinapse.publisher.operations.tokens import USER
from sinapse.publisher.pipeline import Pending
from sinapse.publisher.tx import Publisher


class Call(NamedTuple):
    """A request, checked."""

    publisher: Publisher
    path: Mapping[str, str]
    body: Any
    """Of the type that the operation names; None if it has none."""
    query: Mapping[str, str]
    """The parameters that were given, each once; the endpoint takes all of them."""
    idempotency_key: str | None

    @property
    def kind(self) -> str:
        """Name of the subject's class."""
        return self.query.get(KIND_OF_SUBJECT.name, USER)


class Parameter(NamedTuple):
    """A parameter of the query, which may be left out."""

    name: str
    description: str
    schema: Mapping[str, Any]


KIND_OF_SUBJECT = Parameter(
    "kind",
    "Name of the subject's class.",
    {"type": "string", "default": USER, "pattern": KIND},
)
AFTER = Parameter(
    "after",
    "An id, as messages and positions have it, to read after; without one all is read.",
    {"type": "string", "maxLength": MAX_ID_LENGTH},
)
READ = Parameter(
    "limit",
    "How many messages, at the most.",
    {"type": "integer", "default": LIMIT, "minimum": 1, "maximum": MAX_LIMIT},
)

BUT = Parameter(
    "but",
    "The id of a session that stays.",
    {"type": "string", "pattern": SESSION},
)


class Endpoint(NamedTuple):
    """One row of the table."""

    name: str
    method: str
    path: str
    summary: str
    act: Callable[[Call], Awaitable[Struct | None]]
    answer: type[Struct] | None
    """Type of the answer's body; None for a 204."""
    body: type[Struct] | None = None
    query: Sequence[Parameter] = ()
    may_have_none: bool = False
    """A request without a body means one with nothing in it."""
    takes_key: bool = False
    """It is done once for each Idempotency-Key."""
    tells_token: bool = False
    """It answers with 409 where tokens are hashed."""
    takes_id: bool = False
    """It answers with 410 if its Redis does not know an id."""
    missing: str = ""
    """What a 404 says, if there is one: `act` returns None then."""


def failed(error: Exception) -> Failed:
    """Return the answer to what was not done."""
    if isinstance(error, BrokerUnavailable):
        return Failed(str(error), error.delivered)
    return Failed(str(error))


async def _publish(call: Call) -> Published:
    message = _arguments(call.body)
    if message["message_id"] is None:
        message["message_id"] = call.idempotency_key
    published = await call.publisher.publish(**message)
    return Published(int(published), published.id)


async def _publish_many(call: Call) -> PublishedMany:
    # Sent together, so that they stay in their order; what is invalid is left out.
    pipe = call.publisher.pipeline()
    outcomes: list[Pending[library.Published] | ValueError] = []
    for each in call.body.messages:
        try:
            outcomes.append(pipe.publish(**_arguments(each)))
        except ValueError as error:
            outcomes.append(error)
    with suppress(Incomplete):
        await pipe.send()
    return PublishedMany([_outcome(each) for each in outcomes])


def _outcome(found: Pending[library.Published] | ValueError) -> Outcome:
    try:
        if isinstance(found, ValueError):
            raise found
        return Outcome(nodes=int(found.result), id=found.result.id)
    except (BrokerUnavailable, ValueError) as error:
        failure = failed(error)
        return Outcome(error=failure.error, delivered=failure.delivered)


def _arguments(message: Publish) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


async def _get_token(call: Call) -> Token | None:
    token = await call.publisher.tokens.get(call.path["subject"], call.kind)
    return None if token is None else Token(token)


async def _generate_token(call: Call) -> Token:
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Token(await tokens.generate(call.path["subject"], wanted.kind, wanted.expires_in))


async def _obtain_token(call: Call) -> Token:
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Token(await tokens.obtain(call.path["subject"], wanted.kind, wanted.expires_in))


async def _renew_token(call: Call) -> Renewed:
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Renewed(await tokens.renew(call.path["subject"], wanted.kind, wanted.expires_in))


async def _clear_token(call: Call) -> Changed:
    return Changed(await call.publisher.tokens.clear(call.path["subject"], call.kind))


async def _open_session(call: Call) -> OpenedSession:
    wanted: NewSession = call.body
    opened = await call.publisher.sessions.open(
        call.path["subject"],
        device=wanted.device,
        expires_in=wanted.expires_in,
        only=wanted.only,
    )
    return OpenedSession(opened.id, opened.token, list(opened.ended))


async def _list_sessions(call: Call) -> SessionList:
    return SessionList(
        [
            Session(
                each.id,
                each.device,
                None if each.only is None else sorted(each.only),
                each.opened,
                each.seen,
                each.expires,
            )
            for each in await call.publisher.sessions.list(call.path["subject"])
        ]
    )


async def _renew_session(call: Call) -> Renewed:
    wanted: Renewal = call.body
    sessions = call.publisher.sessions
    return Renewed(
        await sessions.renew(call.path["subject"], call.path["session"], wanted.expires_in)
    )


async def _end_session(call: Call) -> Changed:
    return Changed(await call.publisher.sessions.end(call.path["subject"], call.path["session"]))


async def _end_sessions(call: Call) -> Ended:
    sessions = call.publisher.sessions
    return Ended(await sessions.end_all(call.path["subject"], call.query.get(BUT.name)))


async def _list_channels(call: Call) -> ChannelList:
    return ChannelList(sorted(await call.publisher.channels.list(call.path["subject"])))


async def _clear_channels(call: Call) -> Cleared:
    return Cleared(await call.publisher.channels.clear(call.path["subject"]))


async def _has_channel(call: Call) -> Listens:
    return Listens(await call.publisher.channels.has(call.path["subject"], call.path["channel"]))


async def _add_channel(call: Call) -> Changed:
    wanted: Grant = call.body
    channels = call.publisher.channels
    return Changed(
        await channels.add(call.path["subject"], call.path["channel"], wanted.expires_in)
    )


async def _remove_channel(call: Call) -> Changed:
    return Changed(await call.publisher.channels.remove(call.path["subject"], call.path["channel"]))


async def _history(call: Call) -> History:
    limit = call.query.get(READ.name, str(LIMIT))
    if not limit.isascii() or not limit.isdigit():
        raise ValueError(f"limit is a whole number: {limit!r:.80}")
    page = await call.publisher.history(
        call.path["channel"], call.query.get(AFTER.name), int(limit)
    )
    messages = [Retained(each.id, each.event, each.data) for each in page.messages]
    return History(messages, page.missing, page.more)


async def _position(call: Call) -> Position:
    return Position(await call.publisher.position())


async def _online(call: Call) -> Online:
    return Online(await call.publisher.online(call.path["subject"]))


async def _online_in(call: Call) -> OnlineIn:
    return OnlineIn(sorted(await call.publisher.online_in(call.path["channel"])))


async def _audience(call: Call) -> Audience:
    return Audience(*await call.publisher.audience(call.path["channel"]))


_TOKEN = "/v1/subjects/{subject}/token"  # noqa: S105  # It is a path.
_SESSIONS = "/v1/subjects/{subject}/sessions"
_SESSION = "/v1/subjects/{subject}/sessions/{session}"
_CHANNELS = "/v1/subjects/{subject}/channels"
_CHANNEL = "/v1/subjects/{subject}/channels/{channel}"

ENDPOINTS = (
    Endpoint(
        "publish",
        "POST",
        "/v1/publish",
        "Publish a message.",
        _publish,
        Published,
        Publish,
        takes_key=True,
    ),
    Endpoint(
        "publishMany",
        "POST",
        "/v1/publish/many",
        "Publish messages, in this order; each succeeds or fails on its own.",
        _publish_many,
        PublishedMany,
        PublishMany,
    ),
    Endpoint(
        "position",
        "GET",
        "/v1/position",
        "Return the id of now, over all channels.",
        _position,
        Position,
    ),
    Endpoint(
        "getToken",
        "GET",
        _TOKEN,
        "Return the current token.",
        _get_token,
        Token,
        query=[KIND_OF_SUBJECT],
        tells_token=True,
        missing="there is no token",
    ),
    Endpoint(
        "generateToken",
        "POST",
        _TOKEN,
        "Make a new token; the former one is revoked, and its streams end.",
        _generate_token,
        Token,
        NewToken,
    ),
    Endpoint(
        "obtainToken",
        "PUT",
        _TOKEN,
        "Return the current token, prolonged if needed, or make one.",
        _obtain_token,
        Token,
        NewToken,
        tells_token=True,
    ),
    Endpoint(
        "renewToken",
        "PATCH",
        _TOKEN,
        "Prolong the current token.",
        _renew_token,
        Renewed,
        NewToken,
    ),
    Endpoint(
        "clearToken",
        "DELETE",
        _TOKEN,
        "Revoke the current token, and end its streams.",
        _clear_token,
        Changed,
        query=[KIND_OF_SUBJECT],
    ),
    Endpoint(
        "openSession",
        "POST",
        _SESSIONS,
        "Open a session: a token that ends alone. If there are too many, the oldest one ends.",
        _open_session,
        OpenedSession,
        NewSession,
    ),
    Endpoint(
        "listSessions",
        "GET",
        _SESSIONS,
        "Return the sessions of a subject, without their tokens.",
        _list_sessions,
        SessionList,
    ),
    Endpoint(
        "endSessions",
        "DELETE",
        _SESSIONS,
        "End all sessions of a subject, or all but one, and their streams.",
        _end_sessions,
        Ended,
        query=[BUT],
    ),
    Endpoint(
        "renewSession",
        "PATCH",
        _SESSION,
        "Prolong a session.",
        _renew_session,
        Renewed,
        Renewal,
    ),
    Endpoint(
        "endSession",
        "DELETE",
        _SESSION,
        "End a session, and its streams.",
        _end_session,
        Changed,
    ),
    Endpoint(
        "listChannels",
        "GET",
        _CHANNELS,
        "Return what a subject may listen to.",
        _list_channels,
        ChannelList,
    ),
    Endpoint(
        "clearChannels",
        "DELETE",
        _CHANNELS,
        "Remove all channels of a subject, which ends its streams.",
        _clear_channels,
        Cleared,
    ),
    Endpoint(
        "hasChannel",
        "GET",
        _CHANNEL,
        "Return whether a subject may listen to a channel.",
        _has_channel,
        Listens,
    ),
    Endpoint(
        "addChannel",
        "PUT",
        _CHANNEL,
        "Add a channel to the list of a subject, for ever or for some time.",
        _add_channel,
        Changed,
        Grant,
        may_have_none=True,
    ),
    Endpoint(
        "removeChannel",
        "DELETE",
        _CHANNEL,
        "Remove a channel from the list of a subject.",
        _remove_channel,
        Changed,
    ),
    Endpoint(
        "readHistory",
        "GET",
        "/v1/channels/{channel}/history",
        "Return a page of what is retained of a channel, oldest first.",
        _history,
        History,
        query=[AFTER, READ],
        takes_id=True,
    ),
    Endpoint(
        "isOnline",
        "GET",
        "/v1/subjects/{subject}/online",
        "Return whether a subject has an open stream, if daemons run with --presence.",
        _online,
        Online,
    ),
    Endpoint(
        "onlineIn",
        "GET",
        "/v1/channels/{channel}/online",
        "Return the subjects that have an open stream and may listen to a channel.",
        _online_in,
        OnlineIn,
    ),
    Endpoint(
        "readAudience",
        "GET",
        "/v1/channels/{channel}/audience",
        "Return how many nodes listen to a channel, and how many subjects where presence is on.",
        _audience,
        Audience,
    ),
)
