"""The end of a stream with its token, unless that is renewed."""

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from sinapse.broker.interface import Broker
from sinapse.errors import BrokerUnavailable, CloseReason, Unauthorized
from sinapse.streams.stream import Stream

#: Seconds: a token with fewer left has not been renewed.
ALMOST_OVER = 0.1


class Expiry:
    """Ends the streams of `broker` whose tokens expire, told `notice` seconds before.

    `is_open` says whether a stream is open still; `move_on` ends one that is to come back at once.
    """

    def __init__(
        self,
        broker: Broker[Stream],
        notice: float,
        *,
        is_open: Callable[[Stream], bool],
        move_on: Callable[[Stream], None],
        reactor: Any,
    ) -> None:
        self._broker = broker
        self._notice = notice
        self._is_open = is_open
        self._move_on = move_on
        self._reactor = reactor
        broker.tell_expiry_to(self._told)

    def watch(self, stream: Stream, expires: float | None, *, is_told: bool = False) -> None:
        """Make sure that a stream ends when its token `expires`, on the reactor's clock.

        It gets no notice, if it `is_told` already.
        """
        if expires is None or not self._is_open(stream):
            return
        remaining = max(0, self._left(expires))
        # The notice takes at most half of a short rest; a rest under a second has no notice.
        left = min(self._notice, remaining / 2)
        if is_told or remaining < 1 or not stream.goes_on:
            left = 0

        def expire() -> None:
            if left:
                Deferred.fromCoroutine(self._near(stream, expires))
            else:
                Deferred.fromCoroutine(self._reached(stream))

        stream.forget_expiry()
        stream.expiry = self._reactor.callLater(remaining - left, expire)

    def _left(self, expires: float | None) -> float:
        """Return the seconds until `expires`."""
        return math.inf if expires is None else expires - self._reactor.seconds()

    def _told(self, subject: bytes, token: bytes, expires: float) -> None:
        """Make sure that the streams of a token end no later than `expires`."""
        for stream in self._broker.streams_of(subject):
            is_known = stream.expiry is not None and stream.expiry.getTime() <= expires
            if stream.token == token and not is_known:
                self.watch(stream, expires)

    async def _near(self, stream: Stream, known: float) -> None:
        """Tell a stream that its token expires, at `known` as far as we know, if not renewed."""
        try:
            expires = await self._broker.expiry(stream.token)
        except Unauthorized:
            self._broker.end(stream, CloseReason.EXPIRED)
            return
        except BrokerUnavailable:
            self.watch(stream, known, is_told=True)
            return
        is_near = expires is not None and expires <= known + 1  # A second for rounding.
        if expires is not None and is_near:
            seconds = str(max(1, round(self._left(expires))))
            stream.notice("token-expiring", seconds)
        self.watch(stream, expires, is_told=is_near)

    async def _reached(self, stream: Stream) -> None:
        """End a stream whose token has expired, unless it was renewed.

        Until that is known it gets nothing, since its token may be invalid by now.
        """
        place = self._broker.suspend(stream)
        if place is None:
            # Its replay is not complete. When it comes back, its token is looked up.
            self._move_on(stream)
            return
        try:
            expires = await self._broker.expiry(stream.token)
            # Our clock starts before that of Redis, so we may be here a moment too early.
            while (left := self._left(expires)) < ALMOST_OVER:
                await deferLater(self._reactor, max(0, left))
                expires = await self._broker.expiry(stream.token)
        except (Unauthorized, BrokerUnavailable):
            # As far as we know it has expired. If Redis is away and knows better, the browser comes
            # back and is admitted then.
            self._broker.end(stream, CloseReason.EXPIRED)
            return
        if self._is_open(stream):
            self._broker.resume(stream, place)
            self.watch(stream, expires)
