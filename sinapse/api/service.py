"""The API as a part of the daemon: its endpoint, its keys, and its own connections to Redis."""

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sinapse.api.keys import Keys
from sinapse.api.resource import APIResource
from sinapse.errors import StartError
from sinapse.publisher.http.requests import MAX_REQUEST_SIZE
from sinapse.publisher.tx import Publisher
from sinapse.settings import Settings
from sinapse.sockets.gate import Gate
from sinapse.sockets.listener import Listener
from sinapse.web.limits import RequestLimits
from sinapse.web.site import Site

#: Seconds in which a request, which may be large, must be complete.
REQUEST_TIMEOUT = 30


class API(MultiService):
    """Serves ``--api``; `settings` name its endpoint, behind `gate`, and its keys' file."""

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, gate: Gate) -> None:
        """Read the keys, and the environment; raises :class:`~sinapse.errors.StartError`."""
        super().__init__()
        assert settings.api is not None  # noqa: S101
        assert settings.api_keys is not None  # noqa: S101
        self._file = settings.api_keys
        try:
            self._keys = Keys(settings.api_keys)
        except ValueError as error:
            raise self._error(error) from None
        try:
            self._publisher = Publisher(
                # They have their prefixes by now.
                settings.redis,
                hash_tokens=settings.hash_tokens,
                prefix="",
                reactor=reactor,
            )
        except ValueError as error:  # Of what publishers read from the environment.
            raise StartError(f"sinapse: {error}") from None
        limits = RequestLimits(timeout=REQUEST_TIMEOUT, body=MAX_REQUEST_SIZE)
        root = APIResource(self._publisher, self._keys)
        site = Site(root, reactor, limits, screen=root.screen)
        gate.relieve = site.close_an_idle
        self._listener = Listener(settings.api, site, reactor, option="api", gate=gate)
        self._listener.setServiceParent(self)

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        """Accept no more, and disconnect from Redis."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        await self._publisher.close()

    def renew(self) -> None:
        """Read keys and certificates again."""
        self._listener.renew_certificates()
        try:
            self._keys.renew()
        except ValueError as error:
            self._log.error("{error}; the former stay in use", error=self._error(error))
        else:
            self._log.info("--api-keys {file}: read again", file=str(self._file))

    def _error(self, error: ValueError) -> StartError:
        return StartError(f"sinapse: --api-keys {str(self._file)!r}: {error}")
