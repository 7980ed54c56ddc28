"""How to reach a Redis: endpoint, TLS, AUTH and SELECT."""

from typing import Any, TypeVar

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS

from sinapse.redisurl import RedisURL

#: Seconds to connect, and for the answer to a command: a healthy Redis takes milliseconds.
TIMEOUT = 5

Protocol = TypeVar("Protocol", bound=txredisapi.RedisProtocol)


class _Factory(Factory):
    noisy = False

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002, N802
        # Raw bytes: the defaults turn a payload 42 into a number, and 1_000 as well.
        return self._kind(charset=None, convertNumbers=False, replyTimeout=TIMEOUT)


def endpoint(url: RedisURL, reactor: Any) -> IStreamClientEndpoint:
    """Return the endpoint of `url`; over TLS the certificate and its names are checked."""
    if url.path is not None:
        return UNIXClientEndpoint(reactor, url.path, timeout=TIMEOUT)
    plain = HostnameEndpoint(reactor, url.host, url.port, timeout=TIMEOUT)
    return wrapClientTLS(optionsForClientTLS(url.host), plain) if url.tls else plain


async def dial(kind: type[Protocol], url: RedisURL, reactor: Any) -> Protocol:
    """Connect and return a protocol that is ready for commands.

    The user name and password are sent here and not by txredisapi, which would never try again
    after an error. Raises what the endpoint raises, or ``txredisapi.RedisError``.
    """
    connecting: Deferred[Any] = endpoint(url, reactor).connect(_Factory(kind))
    protocol: Protocol = await connecting
    try:
        if url.password is not None:
            await protocol.auth(url.password, url.username)
        if url.db:
            await protocol.select(url.db)
    except BaseException:
        protocol.transport.abortConnection()
        raise
    return protocol
