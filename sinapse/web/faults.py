"""Our own faults that a request has triggered: logged, but not once for each request."""

from collections.abc import Callable
from traceback import format_tb

from twisted.logger import Logger
from twisted.python.failure import Failure

from sinapse.ratelimit import LogLimit

#: Characters of an exception's text that are logged: it may quote what a client has sent.
MAX_ERROR_TEXT = 200


class Faults:
    """Logs at a bounded rate where something was raised; `seconds` is a clock."""

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._error = LogLimit(lambda text: self._log.error("{text}", text=text), seconds)

    def __call__(self, what: str, failure: Failure) -> None:
        """Log `what` went wrong, and where."""
        said = ascii(failure.getErrorMessage())[:MAX_ERROR_TEXT]
        frames = "".join(format_tb(failure.getTracebackObject()))
        kind = getattr(failure.type, "__name__", "?")
        self._error(
            f"{what}: {kind}: {said}\nTraceback (most recent call last):\n{frames}".rstrip()
        )
