"""Long polls: what a stream would have brought, one answer after the other."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from sinapse.publisher import Publisher
from sinapse.streams.longpoll import POLL_TIMEOUT, LongPoll
from tests.support import RedisServer, eventually, running_redis
from tests.support.constants import with_constants
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.longpoll import JSON, Poll, items, position, waiting
from tests.support.subscribing import subscribe


def test_what_was_missed_is_answered_at_once(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1", "room:2")
    start = position(daemon, token)
    publisher.publish("room:1", {"text": "é"}, event="chat")
    publisher.publish("room:2", "two")
    publisher.publish("room:3", "not for them")
    first, second = items(daemon, token, start)
    assert json.loads(first.pop("data")) == {"text": "é"}
    assert first.pop("id") < second.pop("id")
    assert first == {"event": "chat", "channel": "room:1"}
    assert second == {"data": "two", "channel": "room:2"}


def test_it_waits_for_what_comes(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1")
    with waiting(daemon, token, position(daemon, token)) as poll:
        publisher.publish("room:1", "hello")
        status, (message,) = poll.answer()
    assert (status, message["data"]) == (200, "hello")


def test_nobody_misses_or_doubles_anything(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1", "room:2")
    last = position(daemon, token)

    def publish() -> None:
        for number in range(1500):
            publisher.publish(f"room:{1 + number % 2}", str(number))

    publishing = threading.Thread(target=publish)
    publishing.start()
    received: list[str] = []
    while len(received) < 1500:
        for item in items(daemon, token, last):
            assert item.get("event") is None, item
            received.append(item["data"])
            last = item["id"]
    publishing.join()
    assert received == [str(number) for number in range(1500)]


def test_a_removed_channel_delivers_nothing_after(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1", "room:2")
    with waiting(daemon, token, position(daemon, token)) as poll:
        publisher.channels.remove("1", "room:2")
        publisher.publish("room:2", "removed")
        publisher.publish("room:1", "still")
        assert [each["data"] for each in poll.answer()[1]] == ["still"]


@pytest.mark.parametrize("how", ["token", "channels"])
def test_it_ends_with_its_token_and_with_its_last_channel(
    daemon: Daemon, publisher: Publisher, how: str
) -> None:
    token = subscribe(publisher, "room:1")
    with waiting(daemon, token, position(daemon, token)) as poll:
        if how == "token":
            publisher.tokens.clear("1")
        else:
            publisher.channels.remove("1", "room:1")
        assert poll.answer()[0] == 401
    assert Poll(daemon, token, None).answer()[0] == 401


def test_a_message_is_encoded_once_however_many_poll() -> None:
    # And a daemon over several Redis keeps one framing for all of them, not one a poll.
    request: Any = DummyRequest([b""])
    owner: Any = object()
    polls = [
        LongPoll(owner, request, [], b"token", Clock(), last_event_id="1f-1") for _ in range(3)
    ]
    assert len({poll.framing for poll in polls}) == 1


def test_a_large_answer_is_compressed_for_who_takes_that(
    daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, "room:1")
    last = position(daemon, token)
    headers = {**JSON, "Accept-Encoding": "gzip"}
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=40)
    for text, is_compressed in (("x" * 300, False), ("x" * 10_000, True), ("é", False)):
        with waiting(daemon, token, last) as poll:
            publisher.publish("room:1", text)
            _, (plain,) = poll.answer()
        connection.request("GET", f"/?access_token={token}&last_event_id={last}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.headers["Vary"] == "Origin, Accept-Encoding"
        assert (answer.headers["Content-Encoding"] == "gzip") == is_compressed
        if is_compressed:
            assert len(body) < 200
            body = gzip.decompress(body)  # Whole, with its trailer.
        assert json.loads(body) == [plain]
        last = plain["id"]
    connection.close()


def test_an_id_that_nobody_knows_is_a_reset(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1")
    publisher.publish("room:1", "before")
    (reset,) = items(daemon, token, "nonsense")
    assert reset["event"] == "reset"
    assert json.loads(reset["data"])["reason"] == "unknown-id"
    publisher.publish("room:1", "after")
    assert [each["data"] for each in items(daemon, token, reset["id"])] == ["after"]


def test_a_client_that_goes_leaves_nothing(daemon: Daemon, publisher: Publisher) -> None:
    def polls() -> float:
        return daemon.metrics()["sinapse_streams long poll"]

    token = subscribe(publisher, "room:1")
    # Those of other tests, which may still be on their way out, are no polls.
    with waiting(daemon, token, position(daemon, token)):
        assert polls() == 1
    eventually(lambda: polls() == 0)
    assert "Unhandled" not in daemon.log


@pytest.fixture(scope="module")
def impatient(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon whose long polls end soon: but not before what a test does meanwhile."""
    folder = tmp_path_factory.mktemp("impatient")
    environment = with_constants(folder, {"sinapse.streams.longpoll": {"POLL_TIMEOUT": 5}})
    with running_daemon(folder, redis_process.url, environment=environment) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


def test_a_poll_lasts_as_long_as_the_documentation_says() -> None:
    assert f"  to {POLL_TIMEOUT} seconds, and" in (ROOT / "docs" / "clients.md").read_text()
    assert f"{POLL_TIMEOUT} s for a long poll" in (ROOT / "docs" / "operations.md").read_text()


def test_nothing_is_an_answer_after_a_while(impatient: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1")
    last = position(impatient, token)
    assert Poll(impatient, token, last).answer() == (204, [])
    publisher.publish("room:1", "hello")
    assert [each["data"] for each in items(impatient, token, last)] == ["hello"]


def test_the_id_of_who_has_nothing_to_read_goes_on(impatient: Daemon, publisher: Publisher) -> None:
    """It would be forgotten one day, in which the client was never away."""
    token = subscribe(publisher, "room:1")
    with waiting(impatient, token, position(impatient, token)) as poll:
        publisher.channels.add("2", "room:2")
        with impatient.stream(publisher.tokens.generate("2")).opened() as other:
            publisher.publish("room:2", "for another subject")
            last = other.next().id
        status, [item] = poll.answer()
    assert (status, item) == (200, {"id": last})
    publisher.publish("room:1", "hello")
    assert [each["data"] for each in items(impatient, token, last)] == ["hello"]


def test_a_connection_serves_one_poll_after_the_other(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "room:1")
    last = position(daemon, token)
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=40)
    for number in range(5):
        publisher.publish("room:1", str(number))
        connection.request("GET", f"/?access_token={token}&last_event_id={last}", headers=JSON)
        (message,) = json.loads(connection.getresponse().read())
        assert message["data"] == str(number)
        last = message["id"]
    connection.close()


def test_without_retention_there_is_nothing_to_poll_for(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    token = subscribe(publisher, "room:1")
    with running_daemon(tmp_path, redis_server.url, "--retain", "0") as daemon:
        assert Poll(daemon, token, None).answer()[0] == 406


def test_while_redis_is_away_it_is_503_and_who_waits_waits_on(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        running_redis(
            tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always"
        ) as redis,
        Publisher(redis.url) as publisher,
        running_daemon(tmp_path, redis.url) as daemon,
    ):
        token = subscribe(publisher, "room:1")
        last = position(daemon, token)
        with waiting(daemon, token, last) as poll:
            redis.kill()
            eventually(lambda: daemon.get("/ready").status == 503)
            assert Poll(daemon, token, last).answer()[0] == 503
            redis.start()
            publisher.publish("room:1", "hello")
            assert [each["data"] for each in poll.answer()[1]] == ["hello"]
        assert "Traceback" not in daemon.log
