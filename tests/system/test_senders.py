"""Messages for all but who sent them: a client names its stream, and a backend says that name."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from sinapse.errors import InvalidStream
from sinapse.publisher import Publisher
from tests.support import running_several
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.longpoll import items, position, waiting
from tests.support.subscribing import resumed, subscribe
from tests.support.websocket import opened, received


def named(token: str, name: str = "mine") -> str:
    """Return a token for the query, with the name of a stream behind it."""
    return f"{token}&stream={name}"


def data(stream: Stream, end: str = "end") -> list[str]:
    """Return the data of what comes before the end."""
    found = []
    while (event := stream.next()).data != end:
        if event.event != "position":
            found.append(event.data)
    return found


@pytest.mark.parametrize("retain", [0, 60])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one read"])
def test_all_others_get_it(
    daemon: Daemon, publisher: Publisher, retain: int, together: bool
) -> None:
    mine, other = (subscribe(publisher, "room:1", "room:2", subject=each) for each in "12")
    with (
        daemon.stream(named(mine)).opened() as sender,
        daemon.stream(named(mine, "second-tab")).opened() as tab,
        daemon.stream(other).opened() as reader,
    ):
        messages = [
            {"channel": f"room:{1 + number % 2}", "message": text, "but": but, "retain": retain}
            for number, (text, but) in enumerate(
                [("1", None), ("2", "mine"), ("3", "mine"), ("4", "nobody"), ("end", None)]
            )
        ]
        if together:
            publisher.publish_many(messages)
        else:
            for each in messages:
                publisher.publish(**each)  # type: ignore[arg-type]  # Values of several types.
        assert data(sender) == ["1", "4"]
        assert data(tab) == data(reader) == ["1", "2", "3", "4"]


def test_other_transports_know_names_too(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with opened(daemon, named(token)) as socket, daemon.stream(token).opened() as reader:
        publisher.publish("room:1", "1", but="mine")
        publisher.publish("room:1", "2")
        assert reader.next().data == "1"
        assert received(socket).keys() == {"id"}
        assert received(socket)["data"] == "2"
    before = position(daemon, token)
    with waiting(daemon, named(token), before) as poll:
        publisher.publish("room:1", "3", but="mine")
        # It has the id, and asks for what comes after it.
        status, [answer] = poll.answer()
    assert (status, [*answer]) == (200, ["id"])
    publisher.publish("room:1", "4")
    assert [each["data"] for each in items(daemon, named(token), answer["id"])] == ["4"]
    assert [each["data"] for each in items(daemon, token, before)] == ["3", "4"]


def test_a_header_field_names_a_stream_as_the_query_does(
    daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with daemon.stream(token, {"Sinapse-Stream": "mine"}).opened() as sender:
        publisher.publish("room:1", "1", but="mine")
        publisher.publish("room:1", "end")
        assert data(sender) == []


def test_nor_does_the_sender_get_it_when_it_comes_back(
    daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with daemon.stream(named(token)).opened() as sender:
        before = sender.position
        assert before is not None
    for text in ("1", "2", "3", "end"):
        publisher.publish("room:1", text, but="mine" if text in "13" else None)
    with resumed(daemon, named(token), before) as sender, resumed(daemon, token, before) as other:
        assert data(sender) == ["2"]
        assert data(other) == ["1", "2", "3"]


def test_a_sender_has_the_ids_of_what_it_sent(daemon: Daemon, publisher: Publisher) -> None:
    """It lacks nothing when it comes back, though what it sent is not retained any more."""
    token = subscribe(publisher)
    last = None
    with daemon.stream(named(token)).opened() as sender:
        for number in range(8):
            published = publisher.publish("room:1", number, but="mine", retain_messages=5)
            last = sender.next()
            assert (last.event, last.id) == ("position", published.id)
    assert last is not None
    with resumed(daemon, named(token), last.id or "") as sender:
        publisher.publish("room:1", "end")
        assert data(sender) == []


@pytest.mark.parametrize("count", [1, 2], ids=["one Redis", "two"])
def test_a_past_and_several_redis(tmp_path: Path, count: int) -> None:
    with (
        running_several(tmp_path, count) as (_, url),
        running_daemon(tmp_path, url) as daemon,
        Publisher(url) as publisher,
    ):
        channels = [f"room:{number}" for number in range(6)]
        token = subscribe(publisher, *channels)
        for channel in channels:
            publisher.publish(channel, f"{channel} sent", but="mine", replay="all")
            publisher.publish(channel, f"{channel} heard", replay="all")
        expected = {f"{channel} heard" for channel in channels}
        with daemon.stream(named(token)).opened() as sender:
            heard: set[str] = set()
            while heard != expected:
                event = sender.next()
                if event.event != "position":
                    assert event.data in expected
                    heard.add(event.data)
            for channel in channels:
                publisher.publish(channel, f"{channel} sent", but="mine")
            publisher.publish("room:1", "end")
            assert data(sender) == []


@pytest.mark.parametrize("name", ["a" * 65, "a b", "a:b", "ä", "%00", "a%0a"])
def test_what_is_no_name_is_refused(daemon: Daemon, publisher: Publisher, name: str) -> None:
    token = subscribe(publisher)
    url = f"http://127.0.0.1:{daemon.port}/?access_token={token}&stream={name}"
    answer = httpx.get(url, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.text) == (400, "400 stream is 1 to 64 of A-Z a-z 0-9 _ -\n")


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "ä", b"mine", 7])
def test_nor_is_it_published(publisher: Publisher, name: str) -> None:
    with pytest.raises(InvalidStream):
        publisher.publish("room:1", "1", but=name)


def test_the_name_is_told_to_nobody(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with opened(daemon, token) as socket:
        publisher.publish("room:1", "1", but="mine")
        assert "mine" not in json.dumps(received(socket))
    assert [each.data for each in publisher.history("room:1").messages] == ["1"]
