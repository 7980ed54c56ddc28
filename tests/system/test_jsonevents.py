"""Event streams whose events are JSON objects: ``format=json``, with the real daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe


class JSONStream(Stream):
    """A client that asks for them."""

    def __init__(self, daemon: Daemon, token: str, after: str | None = None) -> None:
        last = {} if after is None else {"Last-Event-ID": after}
        super().__init__(daemon.address, f"/?access_token={token}&format=json", last)

    def take(self) -> tuple[dict[str, Any], str | None]:
        """Return what the next event says, and its id."""
        event = self.next()
        assert event.event is None
        return json.loads(event.data), event.id


def test_each_message_says_its_channel_and_its_type(daemon: Daemon, publisher: Publisher) -> None:
    with JSONStream(daemon, subscribe(publisher, "room:1", "room:2")) as stream:
        opened, position = stream.take()
        assert opened == {"event": "authentication", "data": "ok"}
        first = publisher.publish("room:2", {"text": "a\nb"}, event="typing").id
        publisher.publish("room:1", "plain", retain=0)
        told = {"event": "typing", "data": '{"text":"a\\nb"}', "channel": "room:2"}
        assert stream.take() == (told, first)
        assert stream.take() == ({"data": "plain", "channel": "room:1"}, None)
        assert position not in (None, first)


def test_a_stream_resumes_and_is_told_what_is_missing(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1", "room:2")
    with JSONStream(daemon, token) as stream:
        _, begin = stream.take()
    publisher.publish("room:1", "gone", retain=0.001)
    last = publisher.publish("room:2", "kept").id
    eventually(lambda: not publisher.history("room:1").messages)
    with JSONStream(daemon, token, begin) as stream:
        assert stream.take()[0] == {"event": "authentication", "data": "ok"}
        reset, _ = stream.take()
        assert (reset["event"], "channel" in reset) == ("reset", False)
        assert json.loads(reset["data"]) == {"reason": "not-retained", "channels": ["room:1"]}
        assert stream.take() == ({"data": "kept", "channel": "room:2"}, last)
        assert stream.take() == ({}, last)


def test_over_several_redis_the_id_is_whole(
    tmp_path: Path, redis_server: RedisServer, redis_of_module: RedisServer
) -> None:
    url = f"{redis_server.url} {redis_of_module.url}"
    names = [f"room:{number}" for number in range(8)]
    with (
        running_daemon(tmp_path, url) as daemon,
        Publisher(url) as publisher,
        JSONStream(daemon, subscribe(publisher, *names)) as stream,
    ):
        _, place = stream.take()
        for name in names:
            publisher.publish(name, "x")
            told, identifier = stream.take()
            assert told == {"data": "x", "channel": name}
            assert identifier is not None
            assert identifier.count(".") == 1
            assert identifier != place
            place = identifier


@pytest.mark.parametrize("query", ["format=", "format=xml", "format=JSON"])
def test_any_other_format_is_the_usual_one(
    daemon: Daemon, publisher: Publisher, query: str
) -> None:
    token = subscribe(publisher, "room:1")
    with Stream(daemon.address, f"/?access_token={token}&{query}") as stream:
        stream.opened()
