"""A service that is a coroutine: it begins with the service, and is cancelled with it."""

from abc import abstractmethod

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure


class BackgroundService(Service):
    """A service that runs :meth:`stay`; what goes wrong with that is logged."""

    _log = Logger()
    _running: "Deferred[None] | None" = None

    @abstractmethod
    async def stay(self) -> None:
        """Do what the service does, until it is cancelled."""

    def startService(self) -> None:  # noqa: N802
        """Begin."""
        super().startService()
        self._running = Deferred.fromCoroutine(self.stay())
        self._running.addErrback(self._failed)

    def stopService(self) -> None:  # noqa: N802
        """Stop."""
        super().stopService()
        if self._running is not None:
            self._running.cancel()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("{service} failed", failure=failure, service=type(self).__name__)
