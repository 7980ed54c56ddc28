"""WebSockets of a daemon, with the client of `websockets`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support import EVENT_TIMEOUT
from tests.support.daemon import Daemon

#: What a client asks with that has no library; the key is the example of RFC 6455 §1.3.
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@contextlib.contextmanager
def opened(
    daemon: Daemon, token: str, after: str | None = None, **options: Any
) -> Iterator[ClientConnection]:
    """Open a WebSocket, and read what comes first."""
    resume = "" if after is None else f"&last_event_id={after}"
    url = f"ws://127.0.0.1:{daemon.port}/?access_token={token}{resume}"
    with connect(url, proxy=None, **options) as client:
        first = received(client)
        client.position = first.pop("id", None)
        assert first == {"event": "authentication", "data": "ok"}
        yield client


def received(client: ClientConnection) -> dict[str, Any]:
    """Return the next message, which is JSON."""
    message: dict[str, Any] = json.loads(client.recv(EVENT_TIMEOUT))
    return message


def ending(client: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the end, which must come next."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(EVENT_TIMEOUT)
    closed = caught.value.rcvd
    assert closed is not None
    return closed.code, closed.reason
