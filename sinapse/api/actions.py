"""What the API does for a request: each raises what the library raises."""

from contextlib import suppress
from typing import Any

from sinapse import publisher as library
from sinapse.api.bodies import (
    Audience,
    Changed,
    ChannelList,
    Cleared,
    Ended,
    Failed,
    Grant,
    GroupChannelList,
    GroupList,
    History,
    Left,
    Listens,
    Members,
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
    Renewal,
    Renewed,
    Retained,
    Session,
    SessionList,
    Token,
)
from sinapse.api.call import AFTER, AFTER_MEMBER, BUT, MEMBERS, READ, Call
from sinapse.errors import BrokerUnavailable, Incomplete
from sinapse.publisher.pipeline import Pending


def failed(error: Exception) -> Failed:
    """Return the answer to what was not done."""
    if isinstance(error, BrokerUnavailable):
        return Failed(str(error), error.delivered)
    return Failed(str(error))


async def publish(call: Call) -> Published:
    """Publish a message."""
    message = _arguments(call.body)
    if message["message_id"] is None:
        message["message_id"] = call.idempotency_key
    published = await call.publisher.publish(**message)
    return Published(int(published), published.id)


async def publish_many(call: Call) -> PublishedMany:
    """Publish messages, in this order; each succeeds or fails on its own."""
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


async def get_token(call: Call) -> Token | None:
    """Return the current token."""
    token = await call.publisher.tokens.get(call.path["subject"], call.kind)
    return None if token is None else Token(token)


async def generate_token(call: Call) -> Token:
    """Make a new token; the former one is revoked, and its streams end."""
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Token(await tokens.generate(call.path["subject"], wanted.kind, wanted.expires_in))


async def obtain_token(call: Call) -> Token:
    """Return the current token, prolonged if needed, or make one."""
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Token(await tokens.obtain(call.path["subject"], wanted.kind, wanted.expires_in))


async def renew_token(call: Call) -> Renewed:
    """Prolong the current token."""
    wanted: NewToken = call.body
    tokens = call.publisher.tokens
    return Renewed(await tokens.renew(call.path["subject"], wanted.kind, wanted.expires_in))


async def clear_token(call: Call) -> Changed:
    """Revoke the current token, and end its streams."""
    return Changed(await call.publisher.tokens.clear(call.path["subject"], call.kind))


async def open_session(call: Call) -> OpenedSession:
    """Open a session: a token that ends alone. If there are too many, the oldest one ends."""
    wanted: NewSession = call.body
    opened = await call.publisher.sessions.open(
        call.path["subject"],
        device=wanted.device,
        expires_in=wanted.expires_in,
        only=wanted.only,
    )
    return OpenedSession(opened.id, opened.token, list(opened.ended))


async def list_sessions(call: Call) -> SessionList:
    """Return the sessions of a subject, without their tokens."""
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


async def renew_session(call: Call) -> Renewed:
    """Prolong a session."""
    wanted: Renewal = call.body
    sessions = call.publisher.sessions
    return Renewed(
        await sessions.renew(call.path["subject"], call.path["session"], wanted.expires_in)
    )


async def end_session(call: Call) -> Changed:
    """End a session, and its streams."""
    return Changed(await call.publisher.sessions.end(call.path["subject"], call.path["session"]))


async def end_sessions(call: Call) -> Ended:
    """End all sessions of a subject, or all but one, and their streams."""
    sessions = call.publisher.sessions
    return Ended(await sessions.end_all(call.path["subject"], call.query.get(BUT.name)))


async def list_channels(call: Call) -> ChannelList:
    """Return what a subject may listen to."""
    return ChannelList(sorted(await call.publisher.channels.list(call.path["subject"])))


async def clear_channels(call: Call) -> Cleared:
    """Remove all channels of a subject, which ends its streams."""
    return Cleared(await call.publisher.channels.clear(call.path["subject"]))


async def has_channel(call: Call) -> Listens:
    """Return whether a subject may listen to a channel."""
    return Listens(await call.publisher.channels.has(call.path["subject"], call.path["channel"]))


async def add_channel(call: Call) -> Changed:
    """Add a channel to the list of a subject, for ever or for some time."""
    wanted: Grant = call.body
    channels = call.publisher.channels
    return Changed(
        await channels.add(call.path["subject"], call.path["channel"], wanted.expires_in)
    )


async def remove_channel(call: Call) -> Changed:
    """Remove a channel from the list of a subject."""
    return Changed(await call.publisher.channels.remove(call.path["subject"], call.path["channel"]))


async def list_groups(call: Call) -> GroupList:
    """Return the groups that a subject is in."""
    return GroupList(sorted(await call.publisher.groups.of(call.path["subject"])))


async def leave_groups(call: Call) -> Left:
    """End the membership of a subject in all groups."""
    return Left(await call.publisher.groups.clear(call.path["subject"]))


async def join_group(call: Call) -> Changed:
    """Make a subject a member of a group."""
    return Changed(await call.publisher.groups.add(call.path["subject"], call.path["group"]))


async def leave_group(call: Call) -> Changed:
    """End the membership of a subject in a group."""
    return Changed(await call.publisher.groups.remove(call.path["subject"], call.path["group"]))


async def list_members(call: Call) -> Members:
    """Return a page of the members of a group, in the order of their bytes."""
    groups = call.publisher.groups
    return Members(
        await groups.members(
            call.path["group"], call.query.get(AFTER_MEMBER.name), call.limit(MEMBERS)
        )
    )


async def list_group_channels(call: Call) -> GroupChannelList:
    """Return what the members of a group may listen to."""
    return GroupChannelList(sorted(await call.publisher.groups.channels(call.path["group"]).list()))


async def clear_group(call: Call) -> Cleared:
    """Remove all channels of a group."""
    return Cleared(await call.publisher.groups.channels(call.path["group"]).clear())


async def add_to_group(call: Call) -> Changed:
    """Let the members of a group listen to a channel."""
    channels = call.publisher.groups.channels(call.path["group"])
    return Changed(await channels.add(call.path["channel"]))


async def remove_from_group(call: Call) -> Changed:
    """Let the members of a group listen to a channel no longer."""
    channels = call.publisher.groups.channels(call.path["group"])
    return Changed(await channels.remove(call.path["channel"]))


async def history(call: Call) -> History:
    """Return a page of what is retained of a channel, oldest first."""
    page = await call.publisher.history(
        call.path["channel"], call.query.get(AFTER.name), call.limit(READ)
    )
    messages = [Retained(each.id, each.event, each.data) for each in page.messages]
    return History(messages, page.missing, page.more)


async def position(call: Call) -> Position:
    """Return the id of now, over all channels."""
    return Position(await call.publisher.position())


async def online(call: Call) -> Online:
    """Return whether a subject has an open stream, if daemons run with --presence."""
    return Online(await call.publisher.online(call.path["subject"]))


async def online_in(call: Call) -> OnlineIn:
    """Return the subjects that have an open stream and may listen to a channel."""
    return OnlineIn(sorted(await call.publisher.online_in(call.path["channel"])))


async def audience(call: Call) -> Audience:
    """Return how many nodes listen to a channel, and how many subjects where presence is on."""
    return Audience(*await call.publisher.audience(call.path["channel"]))
