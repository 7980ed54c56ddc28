"""How to reach a Redis: endpoint, TLS, AUTH and SELECT."""

from typing import Any, TypeVar
from typing import Protocol as Shape

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from sinapse.protocol.redisurl import RedisURL
from sinapse.txredis.tls import connect_securely

#: Seconds to connect, and for the answer to a command: a healthy Redis takes milliseconds.
ANSWER_TIMEOUT = 5

Protocol = TypeVar("Protocol", bound=txredisapi.RedisProtocol)


class Dial(Shape):
    """What connects, as :func:`dial` does."""

    async def __call__(self, kind: type[Protocol], url: RedisURL, reactor: Any) -> Protocol:
        """Return a connection; raises ``txredisapi.RedisError``, or what an endpoint raises."""


class _Factory(Factory):
    noisy = False

    def __init__(self, kind: Any, url: RedisURL, timeout: float, reactor: Any) -> None:
        self._kind = kind
        self._url = url
        self._timeout = timeout
        self._reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002, N802
        # Raw bytes: the defaults turn a payload 42 into a number, and 1_000 as well.
        protocol = self._kind(charset=None, convertNumbers=False, replyTimeout=self._timeout)
        protocol.clock = self._reactor
        protocol.names = self._url.names
        return protocol


def endpoint(url: RedisURL, reactor: Any, timeout: float = ANSWER_TIMEOUT) -> IStreamClientEndpoint:
    """Return the endpoint of `url`, without TLS."""
    if url.path is not None:
        return UNIXClientEndpoint(reactor, url.path, timeout=timeout)
    return HostnameEndpoint(reactor, url.host, url.port, timeout=timeout)


async def dial(
    kind: type[Protocol],
    url: RedisURL,
    reactor: Any,
    connect_timeout: float = ANSWER_TIMEOUT,
    timeout: float = ANSWER_TIMEOUT,  # noqa: ASYNC109  # It is the library's to keep, an answer at a time.
) -> Protocol:
    """Connect and return a protocol that is ready for commands.

    The user name and password are sent here and not by txredisapi, which would never try again
    after an error. Raises what the endpoint raises, or ``txredisapi.RedisError``.
    """
    factory = _Factory(kind, url, timeout, reactor)
    plain = endpoint(url, reactor, connect_timeout)
    protocol: Protocol
    if url.tls:
        protocol = await connect_securely(plain, factory, url, reactor)
    else:
        connecting: Deferred[Any] = plain.connect(factory)
        protocol = await connecting
        # The endpoint leaves a wrapper between the two, through which each read would go.
        protocol.transport.protocol = protocol
    try:
        if url.password is not None:
            await _authenticate(protocol, url.password, url.username)
        if url.db:
            await protocol.select(url.db)
    except BaseException:
        protocol.transport.abortConnection()
        raise
    return protocol


async def _authenticate(
    protocol: txredisapi.RedisProtocol, password: str, username: str | None
) -> None:
    try:
        await protocol.auth(password, username)
    except txredisapi.ResponseError as error:
        # A Redis that knows no AUTH quotes it with its arguments.
        raise txredisapi.ResponseError(str(error).partition(", with args")[0]) from None
