"""Connections to the API, and a runner that carries operations out there."""

import http.client
import json
import select
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from sinapse.errors import (
    BrokerUnavailable,
    ListFull,
    MessageTooLarge,
    PublishError,
    SinapseError,
    TokenIsHashed,
    UnknownID,
)
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.http.requests import (
    MAX_REQUEST_SIZE,
    APIRequest,
    batches,
    common_trace,
    published,
    request_of,
)
from sinapse.publisher.operations import spans, standin
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.operations.operation import Operation, T
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.pool import Busy, Pool
from sinapse.publisher.process import OfThisProcess

#: What an answer says that the library would have raised.
_ERRORS: dict[int, type[SinapseError]] = {
    http.HTTPStatus.GONE: UnknownID,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: MessageTooLarge,
    http.HTTPStatus.UNPROCESSABLE_ENTITY: PublishError,
}


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
        if standin.current() is not None:
            return super().run(operation)
        sending = spans.sending([operation])
        if sending is None:
            return cast(T, self._ask(request_of(operation)))
        with sending:
            [result] = sending.ended([self._ask(request_of(operation))])
            return cast(T, result)

    def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return what comes of each: messages go in one request."""
        if all(isinstance(operation, Publish) for operation in operations):
            return self._publish_all([cast(Publish, operation) for operation in operations])
        results: list[Any] = []
        for operation in operations:
            try:
                results.append(self.run(operation))
            except (BrokerUnavailable, ListFull, PublishError, TokenIsHashed, UnknownID) as error:
                results.append(error)
        return results

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._pools().disconnect()

    def _publish_all(self, operations: Sequence[Publish]) -> list[Any]:
        results: list[Any] = []
        trace = common_trace(operations)
        for messages in batches(operations):
            body = b'{"messages": [' + b",".join(messages) + b"]}"
            request = APIRequest(
                "POST", "/v1/publish/many", body, lambda answer: answer["results"], trace=trace
            )
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
                results.append(published(result) if is_published else self._failure(result))
        return results

    def _failure(self, result: Mapping[str, Any]) -> Exception:
        if "delivered" in result:
            return BrokerUnavailable(result["error"], result["delivered"])
        return PublishError(result["error"])

    def _ask(self, request: APIRequest) -> Any:
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
        if status == http.HTTPStatus.CONFLICT:
            raise request.conflict(reason)
        if status in _ERRORS:
            raise _ERRORS[status](reason)
        delivered: bool | None = False
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            delivered = answer.get("delivered") if isinstance(answer, dict) else None
        raise self._unavailable(f"answers {status} {reason}", delivered)

    def _answer(self, request: APIRequest, link: _Link) -> tuple[int, Any]:
        """Return the status and the body of the answer to a request."""
        fields = {"Authorization": f"Bearer {self._url.key}"}
        if request.body is not None:
            fields["Content-Type"] = "application/json"
        if request.trace is not None:
            fields |= request.trace.fields()
        try:
            link.connection.request(request.method, request.path, request.body, fields)
            response = link.connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unavailable(str(error) or type(error).__name__, None) from error

    def _unavailable(self, text: str, delivered: bool | None) -> BrokerUnavailable:
        return BrokerUnavailable(f"the API at {self._url}: {text}", delivered)
