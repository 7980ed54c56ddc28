"""A relay: it sends what those who committed it could not send, until somebody stops it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from select import select
from typing import NamedTuple

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.client import Publisher
from sinapse.publisher.outbox.delivery import deliver
from sinapse.publisher.outbox.notices import Notices
from sinapse.publisher.outbox.store import Store, in_a_line

#: Rows that are read at once.
BATCH = 1000

#: Seconds between two looks, where nobody says that there is something.
INTERVAL = 1.0

#: Seconds from then on in which those who committed may send it themselves.
GRACE = 0.05

#: Seconds between two lines of the log about the same.
QUIET = 60.0

_log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """What became of what was there."""

    messages: int
    """How many were sent."""
    error: BrokerUnavailable | None
    """Why others wait, if Redis did not take them."""


class Relay:
    """Sends what is in the outboxes `stores`, with the publisher that `find` returns."""

    def __init__(self, stores: Sequence[Store], find: Callable[[], Publisher]) -> None:
        self._stores = stores
        self._find = find
        self._told: dict[str, float] = {}
        #: How many messages it has sent, and set aside, by the names of outboxes.
        self.sent: dict[str, int] = {store.name: 0 for store in stores}
        self.set_aside: dict[str, int] = {store.name: 0 for store in stores}

    def run(self, is_over: Callable[[], bool]) -> None:
        """Send what there is, again and again, until `is_over` says so."""
        try:
            while not is_over():
                listening = self._listen()  # First: what is committed after the look is told.
                for store in self._stores:
                    self.attempt(store, is_over)
                if not is_over():
                    self._wait(listening)
        finally:
            for store in self._stores:
                store.close()

    def attempt(self, store: Store, is_over: Callable[[], bool] = lambda: False) -> None:
        """Send what there is, as far as that is possible now; what fails is logged."""
        try:
            self.send(store, is_over)
        except Exception as error:  # noqa: BLE001  # Whatever the database says, it is asked again.
            self._tell(store, f"the outbox cannot be read: {in_a_line(error)}")

    def _listen(self) -> dict[Notices, Store]:
        listening = {}
        for store in self._stores:
            try:
                if notices := store.notices():
                    listening[notices] = store
            except Exception as error:  # noqa: BLE001  # As above.
                self._cannot_listen(store, error)
        return listening

    def _wait(self, listening: Mapping[Notices, Store]) -> None:
        """Return when a database says that there is something, or after a while."""
        heard = {notices: self._has_heard(notices, store) for notices, store in listening.items()}
        if not any(heard.values()):
            alive = [notices for notices, has_heard in heard.items() if has_heard is not None]
            ready = select(alive, (), (), INTERVAL)[0]
            found = [self._has_heard(notices, listening[notices]) for notices in ready]
            if None in found and not any(found):
                # Not connected again at once: it may be lost each time.
                time.sleep(INTERVAL)
        time.sleep(GRACE)

    def _has_heard(self, notices: Notices, store: Store) -> bool | None:
        """Whether there is something; None if the connection is lost."""
        try:
            return notices.taken()
        except Exception as error:  # noqa: BLE001  # As above.
            self._cannot_listen(store, error)
            return None

    def _cannot_listen(self, store: Store, error: Exception) -> None:
        self._tell(store, f"the database cannot be listened to: {in_a_line(error)}")
        store.close()  # So that it is asked anew.

    def send(self, store: Store, is_over: Callable[[], bool] = lambda: False) -> Sent:
        """Send what there is, as far as that is possible now; return what became of it.

        It may be more than can be sent soon: when `is_over` says so it ends after what it has read.
        """
        count = 0
        error: BrokerUnavailable | None = None
        held: set[str] = set()
        while not is_over():
            with store.alone() as is_alone:
                rows = store.waiting(BATCH, held) if is_alone else ()
                outcome = deliver(self._find(), rows)
                store.settle(outcome)
            count += len(outcome.sent)
            self.sent[store.name] += len(outcome.sent)
            self.set_aside[store.name] += len(outcome.refused)
            held |= outcome.held
            if outcome.error is not None:
                error = outcome.error
                self._tell(store, f"messages wait: {error}")
            if len(rows) < BATCH or outcome.is_cut_off:
                break
        return Sent(count, error)

    def _tell(self, store: Store, text: str) -> None:
        now = time.monotonic()
        if now - self._told.get(store.name, -QUIET) >= QUIET:
            self._told[store.name] = now
            _log.warning("Outbox %s: %s", store.name, text)
