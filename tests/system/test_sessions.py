"""Sessions: each device has a token of its own, which may be for a part of the list."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sinapse.protocol.keys import new_token
from sinapse.protocol.names import PLAIN
from sinapse.publisher import NewSession, Publisher
from tests.support import RedisServer, eventually, running_several
from tests.support.daemon import Daemon, running_daemon


@pytest.fixture(autouse=True)
def listed(publisher: Publisher) -> None:
    publisher.channels.add("1", "news")


def status(daemon: Daemon, token: str) -> int:
    with daemon.stream(token) as stream:
        return stream.status


def test_one_session_ends_alone(daemon: Daemon, publisher: Publisher) -> None:
    phone, laptop = (publisher.sessions.open("1", device=name) for name in ("Phone", "Laptop"))
    with daemon.stream(phone.token).opened() as first, daemon.stream(laptop.token).opened() as rest:
        assert publisher.sessions.end("1", phone.id)
        first.wait_for_end()
        publisher.publish("news", "hello")
        assert rest.message().data == "hello"
    assert status(daemon, phone.token) == 401
    assert [each.id for each in publisher.sessions.list("1")] == [laptop.id]


def test_all_but_one_end(daemon: Daemon, publisher: Publisher) -> None:
    opened = [publisher.sessions.open("1") for _ in range(3)]
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(daemon.stream(each.token).opened()) for each in opened]
        assert publisher.sessions.end_all("1", but=opened[1].id) == 2
        streams[0].wait_for_end()
        streams[2].wait_for_end()
        publisher.publish("news", "hello")
        assert streams[1].message().data == "hello"


def test_one_too_many_ends_the_oldest(daemon: Daemon, redis_server: RedisServer) -> None:
    with Publisher(redis_server.url, max_sessions=2) as publisher:
        oldest, second = publisher.sessions.open("1"), publisher.sessions.open("1")
        with daemon.stream(oldest.token).opened() as stream:
            newest = publisher.sessions.open("1")
            stream.wait_for_end()
        assert newest.ended == (oldest.id,)
        assert [each.id for each in publisher.sessions.list("1")] == [second.id, newest.id]


def test_tokens_stand_beside_them(daemon: Daemon, publisher: Publisher) -> None:
    token, session = publisher.tokens.generate("1"), publisher.sessions.open("1")
    publisher.sessions.end_all("1")
    assert status(daemon, token) == 200
    session = publisher.sessions.open("1")
    publisher.tokens.clear("1")
    assert status(daemon, token) == 401
    assert status(daemon, session.token) == 200


def test_it_expires_and_is_renewed(daemon: Daemon, publisher: Publisher) -> None:
    session = publisher.sessions.open("1", expires_in=1)
    with daemon.stream(session.token).opened() as stream:
        assert publisher.sessions.renew("1", session.id, expires_in=60)
        other = publisher.sessions.open("1", expires_in=0.5)
        eventually(lambda: status(daemon, other.token) == 401)
        publisher.publish("news", "hello")
        stream.wait_for_message("hello")
    [left] = publisher.sessions.list("1")
    assert left.id == session.id
    assert left.expires is not None


def test_it_is_seen_when_its_stream_opens_and_when_it_ends(
    daemon: Daemon, publisher: Publisher
) -> None:
    session = publisher.sessions.open("1")

    def seen() -> float:
        [listed] = publisher.sessions.list("1")
        return listed.seen or 0.0

    assert not seen()
    with daemon.stream(session.token).opened():
        eventually(seen)
        at_opening = seen()
        assert at_opening >= publisher.sessions.list("1")[0].opened
    eventually(lambda: seen() > at_opening)


class TestANarrowToken:
    def test_is_for_a_part_of_the_list_whatever_that_becomes(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        publisher.channels.add("1", "page:1")
        narrow = publisher.sessions.open("1", only=["page:*", "room:7"])
        whole = publisher.sessions.open("1")
        with (
            daemon.stream(narrow.token).opened() as part,
            daemon.stream(whole.token).opened() as rest,
        ):
            publisher.publish("news", "1")
            for channel in ("room:8", "room:7", "page:2"):
                publisher.channels.add("1", channel)
                publisher.publish(channel, channel)
            publisher.channels.remove("1", "page:1")
            publisher.publish("page:1", "removed")
            publisher.publish("page:2", "2")
            assert [part.message().data for _ in range(3)] == ["room:7", "page:2", "2"]
            assert [rest.message().data for _ in range(5)] == [
                *("1", "room:8", "room:7", "page:2", "2")
            ]

    def test_ends_when_nothing_of_its_part_is_left(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        publisher.channels.add("1", "page:1")
        narrow = publisher.sessions.open("1", only="page:1")
        with daemon.stream(narrow.token).opened() as part:
            publisher.channels.remove("1", "page:1")
            part.wait_for_end()
        assert status(daemon, narrow.token) == 401
        publisher.channels.add("1", "page:1")
        assert status(daemon, narrow.token) == 200

    def test_resumes_its_part_only(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "page:1")
        narrow = publisher.sessions.open("1", only="page:1")
        position = publisher.position()
        publisher.publish("news", "not for it")
        publisher.publish("page:1", "for it")
        with daemon.stream(narrow.token, after=position).opened() as part:
            assert part.message().data == "for it"
            publisher.publish("news", "not for it")
            publisher.publish("page:1", "live")
            assert part.message().data == "live"

    def test_gets_the_past_of_its_part_only(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "page:1")
        narrow = publisher.sessions.open("1", only="page:*")
        with daemon.stream(narrow.token).opened() as part:
            for channel in ("room:7", "page:2"):
                publisher.publish(channel, f"past of {channel}", replay="all")
                publisher.channels.add("1", channel)
            publisher.publish("page:1", "live")
            assert [part.message().data for _ in range(2)] == ["past of page:2", "live"]

    def test_ends_with_its_session(self, daemon: Daemon, publisher: Publisher) -> None:
        narrow, other = (publisher.sessions.open("1", only="news") for _ in range(2))
        with (
            daemon.stream(narrow.token).opened() as ended,
            daemon.stream(other.token).opened() as rest,
        ):
            publisher.sessions.end("1", narrow.id)
            ended.wait_for_end()
            publisher.publish("news", "hello")
            rest.wait_for_message("hello")

    def test_is_none_to_a_server_that_knows_only_whole_lists(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        """Ruby's looks for the key of a token, and finds a subject there."""
        whole, narrow = publisher.sessions.open("1"), publisher.sessions.open("1", only="news")
        assert redis_client.get(PLAIN.token_key(whole.token)) == b"1"
        assert redis_client.get(PLAIN.token_key(narrow.token)) is None

    def test_is_not_made_up_by_who_knows_the_id(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        """The key of a session is found by the token's hash; the whole token has to be that."""
        narrow = publisher.sessions.open("1", only="news")
        redis_client.hset(PLAIN.session_key(narrow.id), "token", f"s.{new_token()}")
        assert status(daemon, narrow.token) == 401


@contextlib.contextmanager
def cut_off(daemon: Daemon, servers: list[RedisServer]) -> Iterator[None]:
    """Let a daemon lose its connections, and notice when the block ends."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        for server in servers:
            with contextlib.closing(server.client()) as client:
                for kind in ("normal", "pubsub"):
                    client.client_kill_filter(_type=kind, skipme=True)
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


@pytest.mark.parametrize("hashed", [False, True], ids=["plain", "hashed"])
@pytest.mark.parametrize("count", [1, 2], ids=["one Redis", "two"])
def test_all_of_it_survives_a_break(tmp_path: Path, count: int, hashed: bool) -> None:
    """Whatever happens while Redis is away is so when it is back: on one Redis and several."""
    channels = [f"page:{number}" for number in range(8)]
    options = ["--hash-tokens"] if hashed else []
    with (
        running_several(tmp_path, count) as (servers, url),
        running_daemon(tmp_path, url, *options) as daemon,
        Publisher(url, hash_tokens=hashed) as publisher,
        contextlib.ExitStack() as stack,
    ):
        for channel in (*channels, "news"):
            publisher.channels.add("1", channel)
        sessions: dict[str, NewSession] = {
            "whole": publisher.sessions.open("1"),
            "part": publisher.sessions.open("1", only="page:*"),
            "over": publisher.sessions.open("1", only="page:*"),
        }
        streams = {
            name: stack.enter_context(daemon.stream(each.token).opened())
            for name, each in sessions.items()
        }
        with cut_off(daemon, servers):
            publisher.sessions.end("1", sessions["over"].id)
            for channel in channels[::2]:
                publisher.channels.remove("1", channel)
            for channel in (*channels, "news"):
                publisher.publish(channel, f"on {channel}")
        streams["over"].wait_for_end()
        heard = {f"on {channel}" for channel in channels[1::2]}
        assert {streams["part"].message().data for _ in heard} == heard
        assert {streams["whole"].message().data for _ in range(5)} == heard | {"on news"}
        publisher.publish(channels[0], "removed")
        publisher.publish(channels[1], "after")
        assert streams["part"].message().data == "after"
        assert streams["whole"].message().data == "after"
