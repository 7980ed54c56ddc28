"""What each operation is for the API, and what its answer means: no I/O."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sinapse.errors import ListFull, SinapseError, TokenIsHashed
from sinapse.protocol.trace import Trace
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.groups import (
    AddToGroup,
    ClearGroup,
    JoinGroup,
    LeaveGroup,
    LeaveGroups,
    ListGroupChannels,
    ListGroups,
    ListMembers,
    RemoveFromGroup,
)
from sinapse.publisher.operations.history import History, ReadHistory, Retained
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import Audience, IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.sessions import (
    EndSession,
    EndSessions,
    ListSessions,
    NewSession,
    OpenSession,
    RenewSession,
    Session,
)
from sinapse.publisher.operations.tokens import (
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)

#: Messages and bytes of one request, as the API takes them: some messages of the largest size, or
#: many small ones.
MAX_MESSAGES_PER_REQUEST = 1000
MAX_REQUEST_SIZE = 8 * 1024 * 1024


class APIRequest(NamedTuple):
    """What an operation is for the API, and what its answer means."""

    method: str
    path: str
    body: bytes | None
    result: Callable[[Mapping[str, Any]], Any]
    absent: bool = False
    """A 404 means that there is nothing, and so None."""
    conflict: type[SinapseError] = TokenIsHashed
    """What a 409 means."""
    trace: Trace | None = None
    """The trace that it belongs to."""


@singledispatch
def request_of(operation: Operation[Any]) -> APIRequest:
    """Return the request for `operation`; raises ``TypeError`` for what the API cannot do."""
    raise TypeError(f"the API has no {type(operation).__name__}")


@request_of.register
def _(operation: Publish) -> APIRequest:
    trace = operation.message.trace
    return APIRequest("POST", "/v1/publish", _message(operation), published, trace=trace)


def published(answer: Mapping[str, Any]) -> Published:
    """Return what the answer says of a message that was published."""
    return Published(answer["nodes"], answer.get("id"))


def _message(operation: Publish) -> bytes:
    return _json(
        {
            "channel": operation.channel,
            "message": operation.message.data,
            "event": operation.message.event,
            "retain": operation.retain / 1000,
            "message_id": operation.message_id,
            "replay": operation.replay,
            "retain_messages": operation.retain_messages,
            "but": operation.message.but,
        }
    )


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()  # Escaped, it could be six times as long.


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _channels(subject: str, channel: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/channels"
    return path if channel is None else f"{path}/{quote(channel, safe='')}"


@request_of.register
def _(operation: HasChannel) -> APIRequest:
    path = _channels(operation.subject, operation.channel)
    return APIRequest("GET", path, None, lambda answer: answer["listens"])


@request_of.register
def _(operation: AddChannel) -> APIRequest:
    path = _channels(operation.subject, operation.channel)
    body = _json({"expires_in": _seconds(operation.expires_in)})
    return APIRequest("PUT", path, body, lambda answer: answer["changed"])


@request_of.register
def _(operation: RemoveChannel) -> APIRequest:
    path = _channels(operation.subject, operation.channel)
    return APIRequest("DELETE", path, None, lambda answer: answer["changed"])


@request_of.register
def _(operation: ListChannels) -> APIRequest:
    return APIRequest(
        "GET", _channels(operation.subject), None, lambda answer: set(answer["channels"])
    )


@request_of.register
def _(operation: ClearChannels) -> APIRequest:
    return APIRequest(
        "DELETE", _channels(operation.subject), None, lambda answer: answer["removed"]
    )


def _groups(subject: str, group: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/groups"
    return path if group is None else f"{path}/{quote(group, safe='')}"


@request_of.register
def _(operation: JoinGroup) -> APIRequest:
    path = _groups(operation.subject, operation.group)
    return APIRequest("PUT", path, None, lambda answer: answer["changed"], conflict=ListFull)


@request_of.register
def _(operation: LeaveGroup) -> APIRequest:
    path = _groups(operation.subject, operation.group)
    return APIRequest("DELETE", path, None, lambda answer: answer["changed"])


@request_of.register
def _(operation: LeaveGroups) -> APIRequest:
    return APIRequest("DELETE", _groups(operation.subject), None, lambda answer: answer["left"])


@request_of.register
def _(operation: ListGroups) -> APIRequest:
    return APIRequest("GET", _groups(operation.subject), None, lambda answer: set(answer["groups"]))


@request_of.register
def _(operation: ListMembers) -> APIRequest:
    query = {"limit": str(operation.limit)}
    if operation.after is not None:
        query["after"] = operation.after
    path = f"/v1/groups/{quote(operation.group, safe='')}/members?{urlencode(query)}"
    return APIRequest("GET", path, None, lambda answer: answer["members"])


def _shared(group: str, channel: str | None = None) -> str:
    path = f"/v1/groups/{quote(group, safe='')}/channels"
    return path if channel is None else f"{path}/{quote(channel, safe='')}"


@request_of.register
def _(operation: ListGroupChannels) -> APIRequest:
    return APIRequest("GET", _shared(operation.group), None, lambda answer: set(answer["channels"]))


@request_of.register
def _(operation: AddToGroup) -> APIRequest:
    path = _shared(operation.group, operation.channel)
    return APIRequest("PUT", path, None, lambda answer: answer["changed"], conflict=ListFull)


@request_of.register
def _(operation: RemoveFromGroup) -> APIRequest:
    path = _shared(operation.group, operation.channel)
    return APIRequest("DELETE", path, None, lambda answer: answer["changed"])


@request_of.register
def _(operation: ClearGroup) -> APIRequest:
    return APIRequest("DELETE", _shared(operation.group), None, lambda answer: answer["removed"])


def _token(subject: str, kind: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/token"
    return path if kind is None else f"{path}?kind={quote(kind, safe='')}"


def _wanted(kind: str, milliseconds: int | None) -> bytes:
    return _json({"kind": kind, "expires_in": _seconds(milliseconds)})


@request_of.register
def _(operation: GetToken) -> APIRequest:
    path = _token(operation.subject, operation.kind)
    return APIRequest("GET", path, None, lambda answer: answer["token"], absent=True)


@request_of.register
def _(operation: GenerateToken) -> APIRequest:
    body = _wanted(operation.kind, operation.expires_in)
    return APIRequest("POST", _token(operation.subject), body, lambda answer: answer["token"])


@request_of.register
def _(operation: ObtainToken) -> APIRequest:
    body = _wanted(operation.kind, operation.expires_in)
    return APIRequest("PUT", _token(operation.subject), body, lambda answer: answer["token"])


@request_of.register
def _(operation: RenewToken) -> APIRequest:
    body = _wanted(operation.kind, operation.expires_in)
    return APIRequest("PATCH", _token(operation.subject), body, lambda answer: answer["renewed"])


@request_of.register
def _(operation: ClearToken) -> APIRequest:
    path = _token(operation.subject, operation.kind)
    return APIRequest("DELETE", path, None, lambda answer: answer["changed"])


def _sessions(subject: str, session: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/sessions"
    return path if session is None else f"{path}/{session}"


@request_of.register
def _(operation: OpenSession) -> APIRequest:
    body = _json(
        {
            "device": operation.device,
            "expires_in": _seconds(operation.expires_in),
            "only": None if operation.only is None else sorted(operation.only),
        }
    )
    return APIRequest("POST", _sessions(operation.subject), body, _opened)


def _opened(answer: Mapping[str, Any]) -> NewSession:
    return NewSession(answer["id"], answer["token"], tuple(answer["ended"]))


@request_of.register
def _(operation: ListSessions) -> APIRequest:
    return APIRequest("GET", _sessions(operation.subject), None, _listed)


def _listed(answer: Mapping[str, Any]) -> list[Session]:
    return [
        Session(**{**each, "only": None if each["only"] is None else frozenset(each["only"])})
        for each in answer["sessions"]
    ]


@request_of.register
def _(operation: RenewSession) -> APIRequest:
    path = _sessions(operation.subject, operation.session)
    body = _json({"expires_in": _seconds(operation.expires_in)})
    return APIRequest("PATCH", path, body, lambda answer: answer["renewed"])


@request_of.register
def _(operation: EndSession) -> APIRequest:
    path = _sessions(operation.subject, operation.one)
    return APIRequest("DELETE", path, None, lambda answer: answer["changed"])


@request_of.register
def _(operation: EndSessions) -> APIRequest:
    path = _sessions(operation.subject)
    if operation.but:
        path += f"?but={operation.but}"
    return APIRequest("DELETE", path, None, lambda answer: answer["ended"])


@request_of.register
def _(operation: IsOnline) -> APIRequest:
    path = f"/v1/subjects/{quote(operation.subject, safe='')}/online"
    return APIRequest("GET", path, None, lambda answer: answer["online"])


@request_of.register
def _(operation: OnlineIn) -> APIRequest:
    path = f"/v1/channels/{quote(operation.channel, safe='')}/online"
    return APIRequest("GET", path, None, lambda answer: set(answer["subjects"]))


@request_of.register
def _(operation: ReadAudience) -> APIRequest:
    path = f"/v1/channels/{quote(operation.channel, safe='')}/audience"
    return APIRequest("GET", path, None, lambda answer: Audience(**answer))


@request_of.register
def _(operation: ReadHistory) -> APIRequest:
    query = {"limit": str(operation.limit)}
    if operation.after is not None:
        query["after"] = operation.after
    path = f"/v1/channels/{quote(operation.channel, safe='')}/history?{urlencode(query)}"
    return APIRequest("GET", path, None, _history)


def _history(answer: Mapping[str, Any]) -> History:
    messages = (Retained(**each) for each in answer["messages"])
    return History(tuple(messages), answer["missing"], answer["more"])


@request_of.register
def _(_: Position) -> APIRequest:
    return APIRequest("GET", "/v1/position", None, lambda answer: answer["position"])


def common_trace(operations: Sequence[Publish]) -> Trace | None:
    """Return the trace that all messages of a request belong to; None if there is none."""
    traces = {operation.message.trace for operation in operations}
    return traces.pop() if len(traces) == 1 else None


def batches(operations: Sequence[Publish]) -> Iterator[list[bytes]]:
    """Yield messages for one request each."""
    batch: list[bytes] = []
    size = 0
    for operation in operations:
        message = _message(operation)
        # A comma each, and what is around them.
        size += len(message) + 1
        if batch and (len(batch) == MAX_MESSAGES_PER_REQUEST or size > MAX_REQUEST_SIZE - 100):
            yield batch
            batch, size = [], len(message) + 1
        batch.append(message)
    if batch:
        yield batch
