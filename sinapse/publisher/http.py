"""Operations by way of the HTTP API of a daemon, in the place of Redis: see ``docs/api.md``.

The API checks what it is sent as the library does, and says of each failure whether it can have
been done all the same; so everything that is raised is what Redis would have led to.
"""

import http.client
import json
import select
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, singledispatch
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlencode

from sinapse.errors import (
    BrokerUnavailable,
    MessageTooLarge,
    PublishError,
    SinapseError,
    TokenIsHashed,
    UnknownID,
)
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    RemoveChannel,
)
from sinapse.publisher.operations.history import History, ReadHistory, Retained
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import Audience, IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.runner import Runner
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
from sinapse.publisher.pool import Busy, Pool
from sinapse.publisher.process import OfThisProcess

#: Messages and bytes of one request, as the API takes them: some messages of the largest size, or
#: many small ones.
MAX_MESSAGES_PER_REQUEST = 1000
MAX_REQUEST_SIZE = 8 * 1024 * 1024

#: What an answer says that the library would have raised.
_ERRORS: dict[int, type[SinapseError]] = {
    http.HTTPStatus.CONFLICT: TokenIsHashed,
    http.HTTPStatus.GONE: UnknownID,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: MessageTooLarge,
    http.HTTPStatus.UNPROCESSABLE_ENTITY: PublishError,
}


class _Request(NamedTuple):
    """What an operation is for the API, and what its answer means."""

    method: str
    path: str
    body: bytes | None
    result: Callable[[Mapping[str, Any]], Any]
    absent: bool = False
    """A 404 means that there is nothing, and so None."""


@singledispatch
def _request(operation: Operation[Any]) -> _Request:
    raise TypeError(f"the API has no {type(operation).__name__}")


@_request.register
def _(operation: Publish) -> _Request:
    return _Request("POST", "/v1/publish", _message(operation), _published)


def _published(answer: Mapping[str, Any]) -> Published:
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
        }
    )


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()  # Escaped, it could be six times as long.


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _channels(subject: str, channel: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/channels"
    return path if channel is None else f"{path}/{quote(channel, safe='')}"


@_request.register
def _(operation: HasChannel) -> _Request:
    path = _channels(operation.subject, operation.channel)
    return _Request("GET", path, None, lambda answer: answer["listens"])


@_request.register
def _(operation: AddChannel) -> _Request:
    path = _channels(operation.subject, operation.channel)
    body = _json({"expires_in": _seconds(operation.expires_in)})
    return _Request("PUT", path, body, lambda answer: answer["changed"])


@_request.register
def _(operation: RemoveChannel) -> _Request:
    path = _channels(operation.subject, operation.channel)
    return _Request("DELETE", path, None, lambda answer: answer["changed"])


@_request.register
def _(operation: ListChannels) -> _Request:
    return _Request(
        "GET", _channels(operation.subject), None, lambda answer: set(answer["channels"])
    )


@_request.register
def _(operation: ClearChannels) -> _Request:
    return _Request("DELETE", _channels(operation.subject), None, lambda answer: answer["removed"])


def _token(subject: str, kind: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/token"
    return path if kind is None else f"{path}?kind={quote(kind, safe='')}"


def _wanted(kind: str, milliseconds: int | None) -> bytes:
    return _json({"kind": kind, "expires_in": _seconds(milliseconds)})


@_request.register
def _(operation: GetToken) -> _Request:
    path = _token(operation.subject, operation.kind)
    return _Request("GET", path, None, lambda answer: answer["token"], absent=True)


@_request.register
def _(operation: GenerateToken) -> _Request:
    body = _wanted(operation.kind, operation.expires_in)
    return _Request("POST", _token(operation.subject), body, lambda answer: answer["token"])


@_request.register
def _(operation: ObtainToken) -> _Request:
    body = _wanted(operation.kind, operation.expires_in)
    return _Request("PUT", _token(operation.subject), body, lambda answer: answer["token"])


@_request.register
def _(operation: RenewToken) -> _Request:
    body = _wanted(operation.kind, operation.expires_in)
    return _Request("PATCH", _token(operation.subject), body, lambda answer: answer["renewed"])


@_request.register
def _(operation: ClearToken) -> _Request:
    path = _token(operation.subject, operation.kind)
    return _Request("DELETE", path, None, lambda answer: answer["changed"])


def _sessions(subject: str, session: str | None = None) -> str:
    path = f"/v1/subjects/{quote(subject, safe='')}/sessions"
    return path if session is None else f"{path}/{session}"


@_request.register
def _(operation: OpenSession) -> _Request:
    body = _json(
        {
            "device": operation.device,
            "expires_in": _seconds(operation.expires_in),
            "only": None if operation.only is None else sorted(operation.only),
        }
    )
    return _Request("POST", _sessions(operation.subject), body, _opened)


def _opened(answer: Mapping[str, Any]) -> NewSession:
    return NewSession(answer["id"], answer["token"], tuple(answer["ended"]))


@_request.register
def _(operation: ListSessions) -> _Request:
    return _Request("GET", _sessions(operation.subject), None, _listed)


def _listed(answer: Mapping[str, Any]) -> list[Session]:
    return [
        Session(**{**each, "only": None if each["only"] is None else frozenset(each["only"])})
        for each in answer["sessions"]
    ]


@_request.register
def _(operation: RenewSession) -> _Request:
    path = _sessions(operation.subject, operation.session)
    body = _json({"expires_in": _seconds(operation.expires_in)})
    return _Request("PATCH", path, body, lambda answer: answer["renewed"])


@_request.register
def _(operation: EndSession) -> _Request:
    path = _sessions(operation.subject, operation.one)
    return _Request("DELETE", path, None, lambda answer: answer["changed"])


@_request.register
def _(operation: EndSessions) -> _Request:
    path = _sessions(operation.subject)
    if operation.but:
        path += f"?but={operation.but}"
    return _Request("DELETE", path, None, lambda answer: answer["ended"])


@_request.register
def _(operation: IsOnline) -> _Request:
    path = f"/v1/subjects/{quote(operation.subject, safe='')}/online"
    return _Request("GET", path, None, lambda answer: answer["online"])


@_request.register
def _(operation: OnlineIn) -> _Request:
    path = f"/v1/channels/{quote(operation.channel, safe='')}/online"
    return _Request("GET", path, None, lambda answer: set(answer["subjects"]))


@_request.register
def _(operation: ReadAudience) -> _Request:
    path = f"/v1/channels/{quote(operation.channel, safe='')}/audience"
    return _Request("GET", path, None, lambda answer: Audience(**answer))


@_request.register
def _(operation: ReadHistory) -> _Request:
    query = {"limit": str(operation.limit)}
    if operation.after is not None:
        query["after"] = operation.after
    path = f"/v1/channels/{quote(operation.channel, safe='')}/history?{urlencode(query)}"
    return _Request("GET", path, None, _history)


def _history(answer: Mapping[str, Any]) -> History:
    messages = (Retained(**each) for each in answer["messages"])
    return History(tuple(messages), answer["missing"], answer["more"])


@_request.register
def _(_: Position) -> _Request:
    return _Request("GET", "/v1/position", None, lambda answer: answer["position"])


def _batches(operations: Sequence[Publish]) -> Iterator[list[bytes]]:
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


class _Link:
    """One connection; `connect_timeout` and `timeout` are seconds."""

    def __init__(
        self, url: APIURL, context: ssl.SSLContext | None, connect_timeout: float, timeout: float
    ) -> None:
        if context is None:
            self.connection = http.client.HTTPConnection(url.host, url.port)
        else:
            self.connection = http.client.HTTPSConnection(url.host, url.port, context=context)
        self._connect_timeout = connect_timeout
        self._timeout = timeout

    def connect(self) -> None:
        """Be connected."""
        if not self._is_open:
            self.connection.timeout = self._connect_timeout
            self.connection.connect()
            self.connection.sock.settimeout(self._timeout)

    @property
    def _is_open(self) -> bool:
        return self.connection.sock is not None

    def can_read(self, timeout: float) -> bool:
        """Whether there is something to read: nothing was asked, so it is the end."""
        # Not select(), which knows no descriptor above 1,023.
        poll = select.poll()
        poll.register(self.connection.sock, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def disconnect(self) -> None:
        """Close the connection, if it is open."""
        self.connection.close()


class HTTPConnections(Runner):
    """What :class:`~sinapse.publisher.connections.Connections` are to a Redis.

    Up to `size` connections, opened when needed, shared by all threads; a forked child opens its
    own. `connect_timeout` and `timeout` are seconds, as there.
    """

    def __init__(self, url: APIURL, *, size: int, connect_timeout: float, timeout: float) -> None:
        self._url = url
        context = ssl.create_default_context() if url.secure else None
        wait = connect_timeout + timeout
        self._pools = OfThisProcess(
            lambda: Pool(
                lambda: _Link(url, context, connect_timeout, timeout), size=size, timeout=wait
            )
        )

    def run(self, operation: Operation[T]) -> T:
        """Return what comes of `operation`: one request."""
        if (captured := standin.results([operation])) is not None:
            return cast(T, captured[0])
        return cast(T, self._ask(_request(operation)))

    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each: messages go in one request."""
        if all(isinstance(operation, Publish) for operation in operations):
            return self._publish_all([cast(Publish, operation) for operation in operations])
        results: list[Any] = []
        for operation in operations:
            try:
                results.append(self.run(operation))
            except (BrokerUnavailable, PublishError, TokenIsHashed, UnknownID) as error:
                results.append(error)
        return results

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._pools().disconnect()

    def _publish_all(self, operations: Sequence[Publish]) -> list[Any]:
        results: list[Any] = []
        for messages in _batches(operations):
            body = b'{"messages": [' + b",".join(messages) + b"]}"
            request = _Request("POST", "/v1/publish/many", body, lambda answer: answer["results"])
            try:
                answers = self._ask(request)
            except MessageTooLarge as error:
                results += [error] * len(messages)
                continue
            except BrokerUnavailable as error:
                if not results:
                    raise
                # Those before were published, and the caller is to know that.
                results += [error] * len(messages)
                continue
            for result in answers:
                is_published = result.get("nodes") is not None
                results.append(_published(result) if is_published else self._failure(result))
        return results

    def _failure(self, result: Mapping[str, Any]) -> Exception:
        if "delivered" in result:
            return BrokerUnavailable(result["error"], result["delivered"])
        return PublishError(result["error"])

    def _ask(self, request: _Request) -> Any:
        if request.body is not None and len(request.body) > MAX_REQUEST_SIZE:
            raise MessageTooLarge(f"the API takes requests of up to {MAX_REQUEST_SIZE} bytes")
        try:
            status, answer = self._pools().lend(partial(self._answer, request))
        except Busy as error:
            raise self._unavailable(str(error), delivered=False) from None
        except OSError as error:  # What goes wrong with a request is none.
            raise self._unavailable(str(error), delivered=False) from error
        if status == http.HTTPStatus.OK:
            return request.result(answer)
        if status == http.HTTPStatus.NOT_FOUND and request.absent:
            return None
        reason = answer.get("error", "") if isinstance(answer, dict) else ""
        if status in _ERRORS:
            raise _ERRORS[status](reason)
        delivered: bool | None = False
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            delivered = answer.get("delivered") if isinstance(answer, dict) else None
        raise self._unavailable(f"answers {status} {reason}", delivered)

    def _answer(self, request: _Request, link: _Link) -> tuple[int, Any]:
        """Return the status and the body of the answer to a request."""
        fields = {"Authorization": f"Bearer {self._url.key}"}
        if request.body is not None:
            fields["Content-Type"] = "application/json"
        try:
            link.connection.request(request.method, request.path, request.body, fields)
            response = link.connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unavailable(str(error) or type(error).__name__, None) from error

    def _unavailable(self, text: str, delivered: bool | None) -> BrokerUnavailable:
        return BrokerUnavailable(f"the API at {self._url}: {text}", delivered)
