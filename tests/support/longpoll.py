"""Long polls, answered at once or waited with."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

from tests.support import eventually
from tests.support.daemon import Daemon

#: By what a client says that it wants one.
JSON = {"Accept": "application/json"}


class Poll:
    """One request, which may have to wait for its answer."""

    def __init__(self, daemon: Daemon, token: str, after: str | None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=40)
        resume = "" if after is None else f"&last_event_id={after}"
        self.connection.request("GET", f"/?access_token={token}{resume}", headers=JSON)

    def answer(self) -> tuple[int, list[dict[str, Any]]]:
        response = self.connection.getresponse()
        body = response.read()
        assert response.headers["Cache-Control"] == "no-store"
        self.connection.close()
        if response.status != 200:
            return response.status, []
        assert response.headers["Content-Type"] == "application/json"
        items: list[dict[str, Any]] = json.loads(body)
        return 200, items


@contextlib.contextmanager
def waiting(daemon: Daemon, token: str, after: str) -> Iterator[Poll]:
    """Return a poll that the daemon waits with."""
    before = daemon.metrics()["sinapse_streams_opened_total"]
    poll = Poll(daemon, token, after)
    eventually(lambda: daemon.metrics()["sinapse_streams_opened_total"] > before)
    yield poll
    poll.connection.close()


def items(daemon: Daemon, token: str, after: str | None) -> list[dict[str, Any]]:
    status, found = Poll(daemon, token, after).answer()
    assert status == 200
    return found


def position(daemon: Daemon, token: str) -> str:
    """Return where a client begins that comes for the first time."""
    (opening,) = items(daemon, token, None)
    identifier: str = opening.pop("id")
    assert opening == {"event": "authentication", "data": "ok"}
    return identifier
