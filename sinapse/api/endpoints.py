"""What can be asked of the API: each operation, with its path, its method and what it does.

A path is made of segments; those in braces are parameters, percent-encoded.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from sinapse.api import actions
from sinapse.api.bodies import (
    Audience,
    Changed,
    ChannelList,
    Cleared,
    Ended,
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
    Position,
    Publish,
    Published,
    PublishedMany,
    PublishMany,
    Renewal,
    Renewed,
    SessionList,
    Token,
)
from sinapse.api.call import (
    AFTER,
    AFTER_MEMBER,
    BUT,
    KIND_OF_SUBJECT,
    MEMBERS,
    READ,
    Call,
    Parameter,
)


class Endpoint(NamedTuple):
    """One row of the table."""

    name: str
    method: str
    path: str
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
    has_bound: bool = False
    """It answers with 409 if there would be more than there may be."""
    takes_id: bool = False
    """It answers with 410 if its Redis does not know an id."""
    missing: str = ""
    """What a 404 says, if there is one: `act` returns None then."""

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return self.act.__doc__ or ""


_TOKEN = "/v1/subjects/{subject}/token"  # noqa: S105  # It is a path.
_SESSIONS = "/v1/subjects/{subject}/sessions"
_SESSION = "/v1/subjects/{subject}/sessions/{session}"
_CHANNELS = "/v1/subjects/{subject}/channels"
_CHANNEL = "/v1/subjects/{subject}/channels/{channel}"
_GROUPS = "/v1/subjects/{subject}/groups"
_GROUP = "/v1/subjects/{subject}/groups/{group}"
_GROUP_CHANNELS = "/v1/groups/{group}/channels"
_GROUP_CHANNEL = "/v1/groups/{group}/channels/{channel}"

ENDPOINTS = (
    Endpoint(
        "publish",
        "POST",
        "/v1/publish",
        actions.publish,
        Published,
        Publish,
        takes_key=True,
    ),
    Endpoint(
        "publishMany",
        "POST",
        "/v1/publish/many",
        actions.publish_many,
        PublishedMany,
        PublishMany,
    ),
    Endpoint(
        "position",
        "GET",
        "/v1/position",
        actions.position,
        Position,
    ),
    Endpoint(
        "getToken",
        "GET",
        _TOKEN,
        actions.get_token,
        Token,
        query=[KIND_OF_SUBJECT],
        tells_token=True,
        missing="there is no token",
    ),
    Endpoint(
        "generateToken",
        "POST",
        _TOKEN,
        actions.generate_token,
        Token,
        NewToken,
    ),
    Endpoint(
        "obtainToken",
        "PUT",
        _TOKEN,
        actions.obtain_token,
        Token,
        NewToken,
        tells_token=True,
    ),
    Endpoint(
        "renewToken",
        "PATCH",
        _TOKEN,
        actions.renew_token,
        Renewed,
        NewToken,
    ),
    Endpoint(
        "clearToken",
        "DELETE",
        _TOKEN,
        actions.clear_token,
        Changed,
        query=[KIND_OF_SUBJECT],
    ),
    Endpoint(
        "openSession",
        "POST",
        _SESSIONS,
        actions.open_session,
        OpenedSession,
        NewSession,
    ),
    Endpoint(
        "listSessions",
        "GET",
        _SESSIONS,
        actions.list_sessions,
        SessionList,
    ),
    Endpoint(
        "endSessions",
        "DELETE",
        _SESSIONS,
        actions.end_sessions,
        Ended,
        query=[BUT],
    ),
    Endpoint(
        "renewSession",
        "PATCH",
        _SESSION,
        actions.renew_session,
        Renewed,
        Renewal,
    ),
    Endpoint(
        "endSession",
        "DELETE",
        _SESSION,
        actions.end_session,
        Changed,
    ),
    Endpoint(
        "listChannels",
        "GET",
        _CHANNELS,
        actions.list_channels,
        ChannelList,
    ),
    Endpoint(
        "clearChannels",
        "DELETE",
        _CHANNELS,
        actions.clear_channels,
        Cleared,
    ),
    Endpoint(
        "hasChannel",
        "GET",
        _CHANNEL,
        actions.has_channel,
        Listens,
    ),
    Endpoint(
        "addChannel",
        "PUT",
        _CHANNEL,
        actions.add_channel,
        Changed,
        Grant,
        may_have_none=True,
    ),
    Endpoint(
        "removeChannel",
        "DELETE",
        _CHANNEL,
        actions.remove_channel,
        Changed,
    ),
    Endpoint(
        "listGroups",
        "GET",
        _GROUPS,
        actions.list_groups,
        GroupList,
    ),
    Endpoint(
        "leaveGroups",
        "DELETE",
        _GROUPS,
        actions.leave_groups,
        Left,
    ),
    Endpoint(
        "joinGroup",
        "PUT",
        _GROUP,
        actions.join_group,
        Changed,
        has_bound=True,
    ),
    Endpoint(
        "leaveGroup",
        "DELETE",
        _GROUP,
        actions.leave_group,
        Changed,
    ),
    Endpoint(
        "listMembers",
        "GET",
        "/v1/groups/{group}/members",
        actions.list_members,
        Members,
        query=[AFTER_MEMBER, MEMBERS],
    ),
    Endpoint(
        "listGroupChannels",
        "GET",
        _GROUP_CHANNELS,
        actions.list_group_channels,
        GroupChannelList,
    ),
    Endpoint(
        "clearGroup",
        "DELETE",
        _GROUP_CHANNELS,
        actions.clear_group,
        Cleared,
    ),
    Endpoint(
        "addToGroup",
        "PUT",
        _GROUP_CHANNEL,
        actions.add_to_group,
        Changed,
        has_bound=True,
    ),
    Endpoint(
        "removeFromGroup",
        "DELETE",
        _GROUP_CHANNEL,
        actions.remove_from_group,
        Changed,
    ),
    Endpoint(
        "readHistory",
        "GET",
        "/v1/channels/{channel}/history",
        actions.history,
        History,
        query=[AFTER, READ],
        takes_id=True,
    ),
    Endpoint(
        "isOnline",
        "GET",
        "/v1/subjects/{subject}/online",
        actions.online,
        Online,
    ),
    Endpoint(
        "onlineIn",
        "GET",
        "/v1/channels/{channel}/online",
        actions.online_in,
        OnlineIn,
    ),
    Endpoint(
        "readAudience",
        "GET",
        "/v1/channels/{channel}/audience",
        actions.audience,
        Audience,
    ),
)
