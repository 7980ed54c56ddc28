"""Tokens that have moved to another home: each node finds them, and none that was revoked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port, running_named
from tests.support.daemon import Daemon, running_daemon
from tests.support.websocket import opened, received


class Place(NamedTuple):
    servers: dict[str, RedisServer]
    folder: Path

    def url(self, spec: str) -> str:
        """Return a list of Redis: ``a b c?state=joining``."""
        parts = (each.partition("?") for each in spec.split())
        return " ".join(f"{name}={self.servers[name].url}{mark}{q}" for name, mark, q in parts)

    @contextlib.contextmanager
    def daemon(self, spec: str, *options: str) -> Iterator[Daemon]:
        folder = self.folder / f"node-{free_port()}"
        folder.mkdir()
        # Ready when it has all of them: a token can be in any.
        all_of_them = ("--min-redis", "100%")
        with running_daemon(folder, self.url(spec), *all_of_them, *options) as daemon:
            yield daemon
        assert "Traceback" not in daemon.log, daemon.log

    def note(self, move: str, names: str = "abc") -> None:
        """Note in some of them that all is copied by a move."""
        for name in names:
            with contextlib.closing(self.servers[name].client()) as client:
                client.hset("sinapse:move", mapping={"done": move, "tokens": "1"})

    def moved(self, spec: str) -> str:
        """Return a subject whose home moves."""
        shards = shards_of(parse_all([self.url(spec)]))
        return next(
            each for each in map(str, range(99)) if shards.other_home(each.encode()) is not None
        )

    def home(self, spec: str, name: str) -> str:
        """Return where the tokens of a subject are, or where a token is looked for first."""
        shards = shards_of(parse_all([self.url(spec)]))
        return shards.names[shards.home(name.encode())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running_named(tmp_path, "abc", "--appendonly", "yes") as servers:
        yield Place(servers, tmp_path)


def status(daemon: Daemon, token: str) -> int:
    with daemon.stream(token) as stream:
        return stream.status


def grant(publisher: Publisher, subject: str) -> None:
    for number in range(9):  # Some in every Redis.
        publisher.channels.add(subject, f"room:{number}")


def hears(daemon: Daemon, publisher: Publisher, token: str) -> None:
    with daemon.stream(token).opened() as stream:
        for number in range(9):
            publisher.publish(f"room:{number}", "x")
        assert {stream.next().data for _ in range(9)} == {"x"}


def read_all(client: ClientConnection) -> None:
    while True:
        received(client)


def test_a_token_from_before_works_after_all_steps(place: Place) -> None:
    with Publisher(place.url("a b c?state=joining")) as publisher:
        before = Publisher(place.url("a b"))
        subject = place.moved("a b c?state=joining")
        grant(publisher, subject)
        token = before.tokens.generate(subject, expires_in=3600)
        before.close()
        assert publisher.tokens.renew(subject, expires_in=3700)
    place.note("a b + c")
    with Publisher(place.url("a b c?state=joined")) as publisher:
        assert publisher.tokens.renew(subject, expires_in=4000)
        part = publisher.sessions.open(subject, only="room:*")
        with place.daemon("a b c?state=joining") as daemon:
            hears(daemon, publisher, token)
            hears(daemon, publisher, part.token)
    for old in "ab":  # As the last step does.
        with contextlib.closing(place.servers[old].client()) as client:
            client.delete(f"sinapse:tokens:{token}", f"sinapse:User:{subject}")
    with (
        Publisher(place.url("c b a")) as publisher,
        place.daemon("b c a") as daemon,
    ):
        hears(daemon, publisher, token)
        with daemon.stream(token).opened() as stream:
            # Its home is asked for it again after a break.
            place.servers["c"].stop()
            place.servers["c"].start()
            eventually(lambda: daemon.get("/ready").status == 200)
            publisher.publish("room:0", "still")
            assert stream.next().data == "still"
            publisher.tokens.clear(subject)
            stream.wait_for_end()
        assert status(daemon, token) == 401
        hears(daemon, publisher, part.token)
        publisher.sessions.end(subject, part.id)
        assert status(daemon, part.token) == 401


@pytest.mark.parametrize("spec", ["a b c?state=joining", "a b c?state=left"])
def test_what_one_has_that_is_out_does_not_count(place: Place, spec: str) -> None:
    """It may have been revoked while nobody told it."""
    place.note("a b + c")
    subject = place.moved(spec)
    with contextlib.closing(place.servers["c"].client()) as client:
        client.set("sinapse:tokens:old", subject)
    with Publisher(place.url("a b")) as publisher, place.daemon(spec) as daemon:
        grant(publisher, subject)
        assert status(daemon, "old") == 401
        token = publisher.tokens.generate(subject)
        assert status(daemon, token) == 200


@pytest.mark.parametrize(
    ("node", "before", "after"),
    [
        ("a b c?state=joining", "a b c?state=joining", "a b c?state=joined"),
        ("a b c?state=joined", "a b c?state=joined", "a b c"),
        ("a b c", "a b c?state=joining", "a b c?state=joined"),
        ("a b c", "a b c?state=leaving", "a b c?state=left"),
        ("a b c", "a b c?state=left", "a b"),
        ("a b c?state=left", "a b c?state=left", "a b"),
    ],
)
def test_nodes_and_publishers_may_be_a_step_apart(
    place: Place, node: str, before: str, after: str
) -> None:
    joins = "join" in before
    place.note("a b + c" if joins else "a b - c")
    subject = place.moved("a b c?state=joining" if joins else "a b c?state=leaving")
    with Publisher(place.url(before)) as publisher:
        grant(publisher, subject)
        token = publisher.tokens.generate(subject)
        session = publisher.sessions.open(subject, only="room:*")
    with place.daemon(node) as daemon, Publisher(place.url(after)) as publisher:
        with daemon.stream(token).opened() as stream:
            another = publisher.tokens.generate(subject)
            stream.wait_for_end()
        assert status(daemon, token) == 401
        assert status(daemon, another) == 200
        assert status(daemon, session.token) == 200
        with daemon.stream(session.token).opened() as stream:
            publisher.sessions.end(subject, session.id)
            stream.wait_for_end()
        assert status(daemon, session.token) == 401


def test_who_is_unknown_while_one_is_away_comes_back_later_only_if_tokens_have_moved(
    place: Place,
) -> None:
    shards = shards_of(parse_all([place.url("a b c")]))
    unknown = next(f"t{n}" for n in range(99) if shards.names[shards.home(b"t%d" % n)] != "c")
    with place.daemon("a b c", "--min-redis", "50%") as daemon:
        place.servers["c"].stop()
        eventually(lambda: "unavailable" in daemon.log)
        assert status(daemon, unknown) == 401
        place.note("a b + c", "ab")
        assert daemon.get(f"/?access_token={unknown}").status == 503
        place.servers["c"].start()
        eventually(lambda: status(daemon, unknown) == 401)


def test_a_token_that_has_moved_ends_when_it_expires(place: Place) -> None:
    subject = place.moved("a b c?state=joining")
    place.note("a b + c")
    drawn = "drawn-for-other-homes"
    assert place.home("a b c", drawn) != "c"
    with (
        Publisher(place.url("a b c")) as publisher,
        place.daemon("a b c") as daemon,
        contextlib.closing(place.servers["c"].client()) as client,
    ):
        grant(publisher, subject)
        client.set(f"sinapse:tokens:{drawn}", subject, px=3000)
        with daemon.stream(drawn).opened() as stream:
            stream.wait_for_end()
        assert status(daemon, drawn) == 401


def test_what_was_revoked_at_its_home_alone_opens_no_stream_from_a_copy(place: Place) -> None:
    """Who revoked it was killed, or got no answer; then there is nothing left to revoke."""
    place.note("a b + c")
    subject = place.moved("a b c?state=joining")
    with Publisher(place.url("a b c?state=joined")) as publisher:
        grant(publisher, subject)
        token = publisher.tokens.generate(subject)
        replaced, ended = publisher.sessions.open(subject), publisher.sessions.open(subject)
    tokens = token, replaced.token, ended.token
    home = place.servers["c"].url
    with (
        Publisher(place.url("a b c")) as publisher,
        place.daemon("a b c") as daemon,
        Publisher(home, max_sessions=2) as killed,
    ):
        assert [status(daemon, each) for each in tokens] == [200, 200, 200]
        assert killed.sessions.open(subject).ended == (replaced.id,)
        assert killed.sessions.end(subject, ended.id)
        assert killed.tokens.clear(subject)
        assert not publisher.tokens.clear(subject)
        assert not publisher.sessions.end(subject, ended.id)
        assert [status(daemon, each) for each in tokens] == [401, 401, 401]


@pytest.mark.parametrize("how", ["away", "empty"])
def test_a_token_opens_without_the_redis_that_it_was_drawn_for(place: Place, how: str) -> None:
    place.note("a b + c")
    spec = "a b c?state=joining"
    subject = place.moved(spec)
    former = place.home("a b", subject)
    with Publisher(place.url(spec)) as publisher:
        grant(publisher, subject)
        while place.home("a b c", token := publisher.tokens.generate(subject)) == "c":
            pass
    with place.daemon("a b c", "--min-redis", "50%") as daemon:
        if how == "away":
            place.servers[former].stop()
            eventually(lambda: "unavailable" in daemon.log)
        else:
            with contextlib.closing(place.servers[former].client()) as client:
                client.flushall()
        with daemon.stream(token).opened():
            pass
        expected = 503 if how == "away" else 401
        eventually(lambda: daemon.get("/?access_token=unknown").status == expected)


def test_the_last_one_remembers_what_was_revoked_even_without_a_name(place: Place) -> None:
    place.note("a - c", "ac")
    subject = place.moved("a c?state=leaving")
    with Publisher(place.url("a c?state=left")) as publisher:
        grant(publisher, subject)
        token = publisher.tokens.generate(subject)
        session = publisher.sessions.open(subject)
    with place.daemon("a c") as daemon, Publisher(place.servers["a"].url) as publisher:
        with daemon.stream(token).opened() as stream, daemon.stream(session.token).opened():
            publisher.tokens.clear(subject)
            publisher.sessions.end_all(subject)
            stream.wait_for_end()
        assert [status(daemon, each) for each in (token, session.token)] == [401, 401]


def test_a_stream_whose_token_has_a_longer_life_elsewhere_is_not_told_that_it_was_revoked(
    place: Place,
) -> None:
    """Publishers are a step ahead: they have prolonged it where it is going to be."""
    place.note("a b - c")
    subject = place.moved("a b c?state=leaving")
    with Publisher(place.url("a b c?state=left")) as publisher:
        grant(publisher, subject)
        token = publisher.tokens.generate(subject)
    with place.daemon("a b c", "--min-redis", "100%") as daemon, opened(daemon, token) as client:
        with contextlib.closing(place.servers["c"].client()) as redis:
            redis.delete(f"sinapse:tokens:{token}")  # It expires, and nobody is told.
        place.servers["c"].stop()
        place.servers["c"].start()
        with pytest.raises(ConnectionClosed) as closed:
            read_all(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4006
        eventually(lambda: daemon.get("/ready").status == 200)
        with opened(daemon, token):
            pass
