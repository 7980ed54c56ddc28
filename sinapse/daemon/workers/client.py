"""What a worker answers on its own administration endpoint, which is for its parent alone."""

import json
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

#: Seconds that a worker has to answer: far less than the ten that a scraper waits.
WORKER_ANSWER_TIMEOUT = 2.0


class Silence(Exception):
    """A worker has not answered, or not as it should."""


@implementer(IAgentEndpointFactory)
class _To:
    """Leads every request to one UNIX socket."""

    def __init__(self, path: str, reactor: Any) -> None:
        self._path = path
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: ARG002, N802
        return _Quiet(self._reactor, self._path, timeout=WORKER_ANSWER_TIMEOUT)


class _Quiet(UNIXClientEndpoint):
    """Writes no line for each connection."""

    def connect(self, protocolFactory: Any) -> "Deferred[Any]":  # noqa: N803
        protocolFactory.noisy = False
        return super().connect(protocolFactory)  # type: ignore[no-any-return]


class _Body(Protocol):
    """Gathers the body of an answer. Twisted's own way warns if that is there already."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.whole: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        if self.whole.called:  # It was given up.
            return
        if reason.check(ResponseDone):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)


async def ask(path: str, what: str, reactor: Any, method: str = "GET") -> dict[str, Any]:
    """Return the JSON object that is answered at `what`; raises :class:`Silence`."""
    answer = Deferred.fromCoroutine(_ask(path, what, reactor, method))
    answer.addTimeout(WORKER_ANSWER_TIMEOUT, reactor)
    try:
        return await answer
    except (
        *(CancelledError, ConnectError, ConnectionClosed, ResponseFailed, defer.TimeoutError),
        *(OSError, ValueError),
    ) as error:
        raise Silence(str(error)) from None


async def _ask(path: str, what: str, reactor: Any, method: str) -> dict[str, Any]:
    agent = Agent.usingEndpointFactory(reactor, _To(path, reactor))
    response = await agent.request(method.encode(), b"http://localhost" + what.encode())
    body = _Body()
    response.deliverBody(body)
    result = json.loads(await body.whole)
    if response.code != 200:
        raise ValueError(f"status {response.code}")
    if not isinstance(result, dict):
        raise ValueError("no object")  # noqa: TRY004
    return result
