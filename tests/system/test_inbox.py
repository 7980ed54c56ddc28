"""What is published to one subject, which nobody has granted: with real daemons."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinapse.errors import InvalidChannel, InvalidSubject
from sinapse.publisher import Publisher, Subject, inbox, use
from tests.support import RedisServer, eventually, running_redis
from tests.support.daemon import Daemon, Ended, running_daemon
from tests.support.subscribing import subscribe


class User(Subject):
    def __init__(self, pk: str) -> None:
        self.id = pk


def test_it_comes_to_all_streams_of_one_subject_and_to_no_other(
    daemon: Daemon, publisher: Publisher
) -> None:
    ada, bob = (
        subscribe(publisher, "news", subject="ada"),
        subscribe(publisher, "news", subject="b"),
    )
    with (
        daemon.stream(ada).opened() as first,
        daemon.stream(ada).opened() as second,
        daemon.stream(bob).opened() as other,
    ):
        sent = publisher.publish_to("ada", {"text": "for you"}, event="note")
        publisher.publish("news", "for all")
        for stream in (first, second):
            assert stream.next() == ('{"text":"for you"}', "note", sent.id, None, None)
            assert stream.next().data == "for all"
        assert other.next().data == "for all"
    assert publisher.channels.list("ada") == {"news", "inbox@ada"}
    assert publisher.channels.list("b") == {"news"}


@pytest.mark.parametrize("retain", [None, 0])
def test_the_first_message_comes_once_to_who_is_there(
    nodes: list[Daemon], publisher: Publisher, retain: float | None
) -> None:
    """The nodes listen to the channel only when they hear of it."""
    names = [f"user-{number}" for number in range(20)]
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(
                nodes[number % 2].stream(subscribe(publisher, "news", subject=name)).opened()
            )
            for number, name in enumerate(names)
        ]
        for name in names:
            publisher.publish_to(name, f"to {name}", retain=retain)
        publisher.publish("news", "end")
        for name, stream in zip(names, streams, strict=True):
            got = [stream.next().data, stream.next().data]
            assert sorted(got) == ["end", f"to {name}"]


def test_who_was_away_gets_it_and_nobody_after_the_removal(
    daemon: Daemon, publisher: Publisher
) -> None:
    token = subscribe(publisher, "news", subject="ada")
    with daemon.stream(token).opened() as stream:
        last = stream.position
    publisher.publish_to("ada", "missed")
    with daemon.stream(token, after=last).opened() as stream:
        assert stream.next().data == "missed"
        publisher.channels.remove("ada", inbox("ada"))
        publisher.publish("news", "end")
        assert stream.next().data == "end"
        publisher.tokens.clear("ada", "User")
        publisher.publish_to("ada", "too late")
        with pytest.raises(Ended):
            stream.wait_for_message("too late")


def test_a_grant_that_is_over_takes_no_message_away(daemon: Daemon, publisher: Publisher) -> None:
    with daemon.stream(subscribe(publisher, "news", subject="ada")).opened() as stream:
        for number in range(20):
            publisher.channels.add("ada", inbox("ada"), 0.001)
            publisher.publish_to("ada", str(number))
        assert [stream.next().data for _ in range(20)] == [str(number) for number in range(20)]


def test_every_way_to_publish_adds_it_to_the_list(daemon: Daemon, publisher: Publisher) -> None:
    with (
        daemon.stream(subscribe(publisher, "news", subject="1")).opened() as one,
        daemon.stream(subscribe(publisher, "news", subject="2")).opened() as two,
    ):
        with publisher.pipeline() as pipe:
            pipe.publish(inbox("1"), "piped")
        publisher.publish_many([(inbox("2"), "many"), (inbox("1"), "many")])
        publisher.publish([inbox("1"), inbox(2)], "both")
        assert [one.next().data for _ in range(3)] == ["piped", "many", "both"]
        assert [two.next().data for _ in range(2)] == ["many", "both"]


def test_new_streams_get_its_past(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher, "news", subject="ada")
    for number in range(3):
        publisher.publish_to("ada", str(number), replay=2)
    with daemon.stream(token) as stream:
        stream.opened()
        assert [stream.next().data, stream.next().data] == ["1", "2"]
    history = publisher.history(inbox("ada"))
    assert [each.data for each in history.messages] == ["0", "1", "2"]


def test_it_is_taken_away_with_the_user(daemon: Daemon, publisher: Publisher) -> None:
    use(publisher)
    ada = User("ada")
    try:
        ada.sinapse.add_channel("news")
        with daemon.stream(ada.sinapse.auth.obtain()).opened() as stream:
            ada.sinapse.publish("hello", "note")
            assert stream.message()[:2] == ("hello", "note")
            ada.sinapse.destroy()
            with pytest.raises(Ended):
                stream.next()
        assert publisher.channels.list("ada") == set()
    finally:
        use(None)


@pytest.mark.parametrize("subject", ["", "a\nb", None, object()])
def test_who_is_no_subject_has_no_inbox(publisher: Publisher, subject: object) -> None:
    with pytest.raises(InvalidSubject):
        publisher.publish_to(subject, "x")  # type: ignore[arg-type]


def test_a_name_that_is_too_long_is_refused_before_anything_is_sent(publisher: Publisher) -> None:
    with pytest.raises(InvalidChannel):
        publisher.publish_to("a" * 510, "x")
    assert publisher.channels.list("a" * 510) == set()


# Subjects without any channel


@pytest.fixture(params=["one Redis", "two"])
def lenient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Daemon, Publisher]]:
    """A daemon that admits them, and a publisher for it."""
    with contextlib.ExitStack() as stack:
        servers: list[RedisServer] = []
        for number in range(1 if request.param == "one Redis" else 2):
            folder = tmp_path / str(number)
            folder.mkdir()
            servers.append(stack.enter_context(running_redis(folder)))
        url = " ".join(server.url for server in servers)
        daemon = stack.enter_context(running_daemon(tmp_path, url, "--admit-empty"))
        yield daemon, stack.enter_context(Publisher(url))


def test_they_wait_for_what_is_for_them(lenient: tuple[Daemon, Publisher]) -> None:
    daemon, publisher = lenient
    token = publisher.tokens.obtain("ada")
    with daemon.stream(token).opened() as stream:
        publisher.publish_to("ada", "first")
        assert stream.next().data == "first"
        publisher.channels.clear("ada")
        publisher.channels.add("ada", "news")
        publisher.publish("news", "back")
        assert stream.next().data == "back"
    with daemon.stream("unknown") as stream:
        assert stream.status == 401


def test_they_are_refused_unless_that_was_asked_for(daemon: Daemon, publisher: Publisher) -> None:
    token = publisher.tokens.obtain("ada")
    with daemon.stream(token) as stream:
        assert (stream.status, stream.response.read()) == (401, b"401 no channels\n")
    publisher.publish_to("ada", "x")
    with daemon.stream(token) as stream:
        stream.opened()


def test_clients_of_the_ruby_protocol_hear_of_it(
    publisher: Publisher, redis_server: RedisServer
) -> None:
    with redis_server.client() as client, client.pubsub() as heard:
        heard.psubscribe("sinapse:channels:*")
        publisher.publish_to("ada", "x")
        publisher.publish_to("ada", "y")
        told: list[tuple[str, str]] = []

        def is_told() -> bool:
            message = heard.get_message(timeout=0.1)
            if message and message["type"] == "pmessage":
                told.append((message["channel"].decode(), message["data"].decode()))
            return len(told) == 2

        eventually(is_told)
        assert told[1] == ("sinapse:channels:ada:add", "inbox@ada")
        assert told[0][0] == "sinapse:channels:ada:grant"
        assert client.smembers("sinapse:channels:ada") == {b"inbox@ada"}
