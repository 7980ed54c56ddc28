"""Tokens and sessions while the home of their subject moves: the same in both places."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import hashed_token
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from sinapse.publisher.operations import homes
from tests.support import RedisServer, running_named
from tests.support.flavours import FLAVOURS


class Place(NamedTuple):
    servers: dict[str, RedisServer]

    def url(self, state: str = "", query: str = "") -> str:
        """Return the list, of which `d` is in a state."""
        parts = [f"{name}={server.url}" for name, server in self.servers.items()]
        options = "&".join(filter(None, [f"state={state}" if state else "", query]))
        return " ".join(parts) + (f"?{options}" if options else "")

    def note(self) -> None:
        """Note that all is copied."""
        for server in self.servers.values():
            with contextlib.closing(server.client()) as client:
                client.hset("sinapse:move", mapping={"done": "a b c + d", "tokens": "1"})

    def there(self, name: str) -> dict[str, Any]:
        """Return the tokens and sessions of a Redis, with the seconds that each has left."""
        found: dict[str, Any] = {}
        with contextlib.closing(self.servers[name].client()) as client:
            for raw in client.scan_iter(match="sinapse:*"):
                key = raw.decode()
                content: Any
                match client.type(key), key.split(":")[1]:
                    case b"string", kind if kind != "revoked":
                        content = client.get(key)
                    case b"zset", _:
                        content = client.zrange(key, 0, -1, withscores=True)
                    case b"hash", "session":
                        content = client.hgetall(key)
                    case _:
                        continue
                left = client.pttl(key)
                found[key] = content, None if left < 0 else (left + 5000) // 10_000
        return found

    def revoked(self, name: str) -> set[str]:
        with contextlib.closing(self.servers[name].client()) as client:
            keys: Any = client.keys("sinapse:revoked:*")
            return {key.decode().removeprefix("sinapse:revoked:") for key in keys}


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("homes")
    with running_named(folder, "abcd") as servers:
        yield Place(servers)


@pytest.fixture
def place(_place: Place) -> Place:
    empty(_place)
    return _place


def empty(place: Place) -> None:
    for server in place.servers.values():
        with contextlib.closing(server.client()) as client:
            client.flushall()


def moved(place: Place, state: str) -> tuple[str, str, str]:
    """Return a subject whose home moves, the names of its home, and of the other one."""
    shards = shards_of(parse_all([place.url(state)]))
    for subject in map(str, range(99)):
        other = shards.other_home(subject.encode())
        if other is not None:
            home = shards.home(subject.encode())
            return subject, shards.names[home], shards.names[other]
    raise AssertionError("nothing moves")


def stored(token: str, hashed: bool) -> str:
    return hashed_token(token) if hashed else token


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("state", ["joining", "joined", "leaving", "left"])
@pytest.mark.parametrize("kind", FLAVOURS)
def test_every_change_is_in_both_places_when_it_returns(
    place: Place, kind: str, state: str, hashed: bool
) -> None:
    place.note()
    if state == "left":
        for server in place.servers.values():
            with contextlib.closing(server.client()) as client:
                client.hset("sinapse:move", "done", "a b c - d")
    subject, home, other = moved(place, state)

    def same() -> dict[str, Any]:
        here, there = place.there(home), place.there(other)
        assert here == there
        return here

    with FLAVOURS[kind](place.url(state), hash_tokens=hashed) as publisher:
        first = publisher.tokens.generate(subject, expires_in=100)
        assert same()[f"sinapse:tokens:{stored(first, hashed)}"] == (subject.encode(), 10)
        assert publisher.tokens.renew(subject, expires_in=200)
        assert same()[f"sinapse:tokens:{stored(first, hashed)}"] == (subject.encode(), 20)
        second = publisher.tokens.generate(subject)
        assert set(same()) == {
            f"sinapse:tokens:{stored(second, hashed)}",
            f"sinapse:User:{subject}",
        }
        assert all(stored(first, hashed) in place.revoked(name) for name in "abcd")
        if not hashed:
            assert publisher.tokens.obtain(subject, expires_in=50) == second
            publisher.tokens.clear(subject)
            third = publisher.tokens.obtain(subject, expires_in=50)
            assert same()[f"sinapse:obtained:User:{subject}"][1] == 5
            assert publisher.tokens.get(subject) == third
        assert publisher.tokens.clear(subject)
        assert same() == {}
        one = publisher.sessions.open(subject, device="phone", expires_in=100)
        part = publisher.sessions.open(subject, only="room:*")
        assert same()[f"sinapse:session:{one.id}"][1] == 10
        assert f"sinapse:tokens:{stored(one.token, hashed)}" in same()
        assert f"sinapse:tokens:{stored(part.token, hashed)}" not in same()
        assert publisher.sessions.renew(subject, one.id, expires_in=200)
        assert same()[f"sinapse:session:{one.id}"][1] == 20
        assert publisher.sessions.end(subject, one.id)
        assert {key.split(":")[1] for key in same()} == {"session", "sessions"}
        more = publisher.sessions.open(subject)
        assert publisher.sessions.end_all(subject, but=more.id) == 1
        assert [each.id for each in publisher.sessions.list(subject)] == [more.id]
        assert {stored(each.token, hashed) for each in (one, part)} <= place.revoked(other)
        assert f"sinapse:session:{more.id}" in same()
        assert publisher.sessions.end_all(subject) == 1
        assert same() == {}


@pytest.mark.parametrize("state", ["joining", "joined"])
@pytest.mark.parametrize("kind", FLAVOURS)
def test_what_has_failed_in_the_midst_is_done_by_doing_it_again(
    place: Place, kind: str, state: str
) -> None:
    place.note()
    subject, home, other = moved(place, state)
    with (
        FLAVOURS[kind](place.url(state)) as publisher,
        Publisher(place.servers[home].url) as killed,  # It has only begun.
    ):
        publisher.tokens.generate(subject)
        assert killed.tokens.clear(subject)
        assert not publisher.tokens.clear(subject)
        assert place.there(other) == {}
        session = publisher.sessions.open(subject)
        assert killed.sessions.end(subject, session.id)
        assert not publisher.sessions.end(subject, session.id)
        assert place.there(other) == {}
        publisher.sessions.open(subject)
        kept = publisher.sessions.open(subject)
        assert killed.sessions.end_all(subject, but=kept.id) == 1
        assert publisher.sessions.end_all(subject, but=kept.id) == 0
        assert [each.id for each in publisher.sessions.list(subject)] == [kept.id]
        assert place.there(home) == place.there(other)


def test_an_error_of_the_other_home_leaves_open_what_has_happened(place: Place) -> None:
    place.note()
    subject, _, other = moved(place, "joining")
    with Publisher(place.url("joining")) as publisher:
        publisher.sessions.open(subject)
        with contextlib.closing(place.servers[other].client()) as client:
            key = f"sinapse:sessions:{subject}"
            client.rename(key, "kept")
            client.set(key, "of somebody else")
            with pytest.raises(BrokerUnavailable, match="WRONGTYPE") as failure:
                publisher.sessions.end_all(subject)
            assert failure.value.delivered is None
            client.rename("kept", key)
        assert publisher.sessions.end_all(subject) == 0
    assert place.there(other) == {}


@pytest.mark.parametrize("left", [0, 1])
def test_what_is_in_its_last_millisecond_is_written_too(place: Place, left: int) -> None:
    """Redis says 0 of what it still has, and refuses to write that."""
    entries: list[tuple[Any, Any]] = [
        (homes.Token("1", "token"), [b"1", left, b"1000"]),
        (homes.Tokens("1", "User"), [b"1000", b"token", left, b"token", b"1", left]),
        (homes.Session("1", "id"), [b"1000", b"1", left, [b"token", b"s.t"]]),
    ]
    operations = [each.write(each.read().result(answer)) for each, answer in entries]
    with Publisher(place.servers["a"].url) as publisher:
        results = publisher._connections.run_all(operations)
    assert results == [None, None, None]


def test_the_oldest_session_ends_in_both_places(place: Place) -> None:
    subject, home, other = moved(place, "joining")
    with Publisher(place.url("joining"), max_sessions=1) as publisher:
        first = publisher.sessions.open(subject)
        second = publisher.sessions.open(subject)
        assert second.ended == (first.id,)
    assert place.there(home) == place.there(other)
    assert f"sinapse:session:{first.id}" not in place.there(other)


def test_a_token_that_is_drawn_leads_to_the_home_of_its_subject(place: Place) -> None:
    place.note()
    for state in ("joining", "joined", ""):
        url = place.url(state)
        shards = shards_of(parse_all([url]))
        with Publisher(url) as publisher:
            for subject in map(str, range(20)):
                home = shards.home(subject.encode())
                for token in (
                    publisher.tokens.generate(subject),
                    publisher.sessions.open(subject).token,
                ):
                    assert shards.home(token.encode()) == home
                    assert f"sinapse:tokens:{token}" in place.there(shards.names[home])


def test_to_one_that_keeps_no_tokens_none_move(place: Place) -> None:
    joining, after = (place.url(state, "tokens=no") for state in ("joining", ""))
    with Publisher(after) as settled, Publisher(joining) as publisher:
        before = Publisher(" ".join(f"{name}={place.servers[name].url}" for name in "abc"))
        for subject in map(str, range(30)):
            token = before.tokens.generate(subject)
            assert publisher.tokens.get(subject) == settled.tokens.get(subject) == token
            session = settled.sessions.open(subject)
            assert [each.id for each in before.sessions.list(subject)] == [session.id]
            assert publisher.tokens.clear(subject)
            assert settled.tokens.get(subject) is None
        before.close()
    assert place.there("d") == {}


steps = st.lists(
    st.tuples(
        st.sampled_from(["joining", "joined"]),
        st.sampled_from(["generate", "obtain", "renew", "clear", "open", "end", "end_all"]),
        st.sampled_from([None, 30.0, 90.0]),
    ),
    max_size=12,
)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps)
def test_whoever_changes_them_the_places_are_the_same_and_nothing_that_ended_is_there(
    place: Place, changes: list[tuple[str, str, float | None]]
) -> None:
    empty(place)
    place.note()
    subject, home, other = moved(place, "joining")
    valid: set[str] = set()
    sessions: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        publishers = {
            state: stack.enter_context(Publisher(place.url(state)))
            for state in ("joining", "joined")
        }
        for state, change, lasts in changes:
            publisher = publishers[state]
            match change:
                case "generate":
                    valid = {publisher.tokens.generate(subject, expires_in=lasts)}
                case "obtain":
                    valid.add(publisher.tokens.obtain(subject, expires_in=lasts))
                case "renew":
                    assert publisher.tokens.renew(subject, expires_in=lasts) is bool(valid)
                case "clear":
                    assert publisher.tokens.clear(subject) is bool(valid)
                    valid = set()
                case "open":
                    session = publisher.sessions.open(subject, expires_in=lasts)
                    sessions[session.id] = session.token
                case "end" if sessions:
                    first = next(iter(sessions))
                    assert publisher.sessions.end(subject, first)
                    del sessions[first]
                case _:
                    assert publisher.sessions.end_all(subject) == len(sessions)
                    sessions.clear()
            here, there = place.there(home), place.there(other)
            assert here == there
            tokens = {key.removeprefix("sinapse:tokens:") for key in here if ":tokens:" in key}
            assert tokens == {*valid, *sessions.values()}
