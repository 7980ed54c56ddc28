"""Somebody who listens: a subject with channels and a token, and streams that come back."""

from __future__ import annotations

import json
import re

import redis

from sinapse.publisher import Publisher
from tests.support.daemon import COME_BACK, Daemon, Event, Stream

#: When the tokens of the subject 1 were obtained first.
OBTAINED = "sinapse:obtained:User:1"


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


def refused(daemon: Daemon, token: str, address: str = "") -> tuple[int, str]:
    """Return status and text of the answer, which must say when to ask again.

    An EventSource is told so in the only way that it understands.
    """
    headers = {"X-Forwarded-For": address} if address else {}
    with daemon.stream(token, headers) as stream:
        assert stream.status == 200
        assert (told := re.fullmatch(COME_BACK, stream.response.read()))
        assert 5000 <= int(told[1]) <= 15000
        assert stream.headers["Access-Control-Allow-Origin"] is None
    answer = daemon.get(f"/?access_token={token}", **headers)
    assert 5 <= int(answer.headers["Retry-After"]) <= 15
    return answer.status, answer.text  # type: ignore[attr-defined]


def obtained(client: redis.Redis, token: str, *, ago: float) -> None:
    """Let it be `ago` seconds since `token` was obtained first."""
    seconds, microseconds = client.time()
    client.zadd(OBTAINED, {token: (seconds - ago) * 1000 + microseconds // 1000})
