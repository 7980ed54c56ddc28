"""What a process sends after its own commit: at once, as long as Redis does not keep it waiting."""

import logging
import time
from collections.abc import Sequence

from sinapse.publisher.defaults import default
from sinapse.publisher.outbox.delivery import Outcome, deliver
from sinapse.publisher.outbox.rows import Row

#: Rows of its channels that a process sends after a commit; what is more is for the relay.
BATCH = 200

#: Seconds for which a process leaves the outbox to the relay, after Redis has kept it waiting.
PAUSE = 1.0

_log = logging.getLogger(__name__)


class Pause:
    """Until when this process leaves the outboxes to the relay; monotonic seconds."""

    until: float = 0.0


def is_for_the_relay() -> bool:
    """Whether what has been committed is left to the relay now."""
    return time.monotonic() < Pause.until


def send(rows: Sequence[Row]) -> Outcome:
    """Send rows, as far as Redis takes them; what waits then is told in a line of the log."""
    began = time.monotonic()
    outcome = deliver(default(), rows)
    if outcome.error is not None:
        if not outcome.sent and time.monotonic() - began > PAUSE:
            Pause.until = time.monotonic() + PAUSE
        _log.warning("Messages wait in the outbox: %s", outcome.error)
    return outcome
