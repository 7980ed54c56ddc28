"""The HTTP server: twisted.web's site, without an access log, and with what all connections share.

Each connection begins as HTTP/1, and changes to HTTP/2 if its TLS handshake says so.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.task import deferLater
from twisted.web.resource import IResource
from twisted.web.server import Request as TwistedRequest
from twisted.web.server import Site as TwistedSite

from sinapse.web.answers import Refusal
from sinapse.web.faults import Faults
from sinapse.web.http1 import HTTP1Channel
from sinapse.web.limits import REASONS, RequestLimits
from sinapse.web.request import Request

#: Seconds between two looks at whether all requests are answered.
SETTLE_TICK = 0.02


class Site(TwistedSite):
    """Serves `root` to requests within `limits`; with `http2`, over TLS, in HTTP/2 as well.

    `screen` gets the head of a request with a body, over HTTP/1, and returns a refusal, or None to
    read the body. `refused` counts refusals by their reason.
    """

    noisy = False
    #: Every connection ends with the next answer on it.
    is_closing = False

    def __init__(
        self,
        root: IResource,
        reactor: Any,
        limits: RequestLimits | None = None,
        *,
        http2: bool = False,
        screen: Callable[[Request], Refusal | None] = lambda _: None,
        refused: Counter[str] | None = None,
    ) -> None:
        limits = limits or RequestLimits()
        super().__init__(
            root,
            requestFactory=Request,
            timeout=limits.timeout,
            reactor=reactor,
            # Its code for multipart/form-data, and for parameters, can take seconds.
            parsePOSTFormSubmission=False,
        )
        self.limits = limits
        self.screen = screen
        #: Logs our own errors.
        self.faults = Faults(reactor.seconds)
        self._refused = Counter() if refused is None else refused
        self._http2 = http2
        #: Connections without a request, the longest idle first.
        self.idle: dict[Any, None] = {}
        #: Connections whose request is on its way, or not answered yet.
        self.pending: set[Any] = set()

    def close_an_idle(self) -> bool:
        """Close the connection that is idle the longest; returns whether there was one."""
        for channel in self.idle:
            del self.idle[channel]
            channel.close_idle()
            return True
        return False

    async def settle(self, seconds: float) -> None:
        """Return when every request has its answer, at the latest after some seconds.

        A connection that was accepted counts from the start: its first request is on its way.
        """
        deadline = self.reactor.seconds() + seconds
        while self.pending and self.reactor.seconds() < deadline:
            await deferLater(self.reactor, SETTLE_TICK)

    def count_refused(self, status: int) -> None:
        """Count a request that is refused with `status`, before its answer."""
        self._refused[REASONS[status].decode().lower()] += 1

    def buildProtocol(self, addr: IAddress | None) -> HTTP1Channel:  # type: ignore[override]  # noqa: ARG002, N802
        """Return the protocol of an accepted connection."""
        channel: Any = HTTP1Channel()
        channel.factory = channel.site = self
        channel.requestFactory = self.requestFactory
        channel.timeOut = self.timeOut
        channel.callLater = self.reactor.callLater
        return channel  # type: ignore[no-any-return]

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """Return the protocols to offer over TLS."""
        return [b"h2", b"http/1.1"] if self._http2 else [b"http/1.1"]

    def log(self, request: TwistedRequest) -> None:  # type: ignore[override]
        """Write no access log: its lines would have tokens in them."""
