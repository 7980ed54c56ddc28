"""Somebody who listens: a subject with channels and a token, and streams that come back."""

from __future__ import annotations

import json

from sinapse.publisher import Publisher
from tests.support.daemon import Daemon, Event, Stream


def subscribe(publisher: Publisher, *channels: str, subject: str = "1") -> str:
    """Let a subject listen to `channels`, and return a token for it."""
    for channel in channels or ("room:1",):
        publisher.channels.add(subject, channel)
    return publisher.tokens.generate(subject)


def position(daemon: Daemon, token: str) -> str:
    """Return the id of a new stream's first event."""
    with daemon.stream(token).opened() as stream:
        assert stream.position is not None
        return stream.position


def resumed(daemon: Daemon, token: str, after: str) -> Stream:
    """Resume, and read the opening, which has no id: the browser keeps its own until it is late."""
    stream = daemon.stream(token, after=after).opened()
    assert stream.position is None
    return stream


def reset_of(event: Event) -> dict[str, object]:
    """Return the data of an event that must be a reset."""
    assert event.event == "reset"
    content: dict[str, object] = json.loads(event.data)
    return content
