"""Sessions, of every kind of publisher and over the API: what they do, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from sinapse.errors import BrokerUnavailable, InvalidChannel, InvalidSubject
from sinapse.protocol.keys import hashed_token, session_id
from sinapse.protocol.names import PLAIN
from sinapse.publisher import NewSession, Publisher, Session
from sinapse.publisher.operations.sessions import MAX_DEVICE, MAX_ONLY, MAX_SESSIONS, SESSIONS
from tests.support import RedisServer, eventually, free_port, running_redis
from tests.support.daemon import running_daemon
from tests.support.flavours import FLAVOURS, Flavour
from tests.support.listening import Listener
from tests.support.publishing import NO_CHANNELS, NO_LIFETIMES, NO_SUBJECTS, calls

KEY = "k" * 32

#: More digits than Python writes.
HUGE = 10**5000

NO_SESSIONS: list[Any] = [
    *("", "x", "0" * 31, "0" * 33, "A" * 32, "g" * 32, f"{'0' * 32}\n", "0" * 31 + "\u0660"),
    *(None, 1, b"0" * 32, ["0" * 32], object()),
]
NO_DEVICES: list[Any] = [
    "",
    "x" * (MAX_DEVICE + 1),
    "a\nb",
    "a\0",
    "\x1b[2J",
    "\ud800",
    b"a",
    1,
    [],
]
NO_ONLY: list[Any] = [
    *([], (), set(), "", "*", ["a", "*"], "sinapse:*", "sinapse:x", "a\nb", "a\n*", ["a", ""]),
    *([f"room:{n}" for n in range(MAX_ONLY + 1)], b"a", 1, [None], object(), f"{'a' * 513}*"),
]
NO_COUNTS: list[Any] = [0, -1, MAX_SESSIONS + 1, 1.5, True, "10", [10]]


@pytest.fixture(scope="module")
def api_url(
    redis_of_module: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Serve the API for the Redis of the module."""
    folder, port = tmp_path_factory.mktemp("api"), free_port()
    keys: Path = folder / "keys"
    keys.write_text(KEY)
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(keys))
    with running_daemon(folder, redis_of_module.url, *options) as daemon:
        yield f"http+sinapse://{KEY}@127.0.0.1:{port}"
        assert "Traceback" not in daemon.log


@pytest.fixture
def redis_server(emptied_redis: RedisServer) -> RedisServer:
    """Return a Redis of this module's own."""
    return emptied_redis


@pytest.fixture(params=[*FLAVOURS, "http"])
def publisher(
    request: pytest.FixtureRequest, redis_server: RedisServer, api_url: str
) -> Iterator[Publisher]:
    """Return each kind of publisher in turn, and one that uses the API in the place of Redis."""
    flavour = FLAVOURS.get(request.param)
    with Publisher(api_url) if flavour is None else flavour(redis_server.url) as publisher:
        yield publisher


def expect_nothing(client: redis.Redis) -> None:
    """Check that nothing was written; a daemon that looks after ids is there."""
    assert client.keys("sinapse:session*") == client.keys("sinapse:tokens:*") == []


def now(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


class TestOpen:
    def test_its_token_stands_for_the_subject(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        opened = publisher.sessions.open("7")
        assert type(opened) is NewSession
        assert opened.ended == ()
        assert session_id(opened.token.encode()) == opened.id
        assert opened.token not in repr(opened)
        assert redis_client.get(PLAIN.token_key(opened.token)) == b"7"
        for key in (
            PLAIN.token_key(opened.token),
            PLAIN.session_key(opened.id),
            PLAIN.sessions_key("7"),
        ):
            assert redis_client.ttl(key) == -1
        assert listener.heard() == []

    def test_each_has_its_own(self, publisher: Publisher) -> None:
        opened = [publisher.sessions.open("7") for _ in range(5)]
        assert len({each.token for each in opened}) == len({each.id for each in opened}) == 5

    @pytest.mark.parametrize("only", [None, "news"])
    def test_it_expires_in_the_given_time(
        self, publisher: Publisher, redis_client: redis.Redis, only: str | None
    ) -> None:
        opened = publisher.sessions.open("7", expires_in=60.5, only=only)
        keys = [PLAIN.session_key(opened.id), PLAIN.sessions_key("7")]
        if only is None:
            keys.append(PLAIN.token_key(opened.token))
        for key in keys:
            assert 30_500 < int(redis_client.pttl(key)) <= 60_500
        publisher.sessions.open("7", expires_in=1e-6)
        eventually(lambda: len(publisher.sessions.list("7")) == 1, "the other expires")

    def test_a_part_of_the_list_is_one_or_several_channels_and_prefixes(
        self, publisher: Publisher
    ) -> None:
        class Room:
            sinapse_channel = "room:1"

        given: list[tuple[Any, set[str]]] = [
            ("news", {"news"}),
            ("page:*", {"page:*"}),
            (Room(), {"room:1"}),
            ([Room(), "page:*", "news"], {"room:1", "page:*", "news"}),
            ({"a/b c", "é*"}, {"a/b c", "é*"}),
            ([f"room:{n}" for n in range(MAX_ONLY)], {f"room:{n}" for n in range(MAX_ONLY)}),
        ]
        for only, _ in given:
            publisher.sessions.open("7", only=only)
        found = [each.only for each in publisher.sessions.list("7")]
        assert found == [frozenset(expected) for _, expected in given]

    def test_a_part_has_no_key_of_a_token(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        narrow = publisher.sessions.open("7", only="news")
        assert not redis_client.exists(PLAIN.token_key(narrow.token))

    def test_beyond_a_hundred_the_oldest_ends(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        opened = [publisher.sessions.open("7") for _ in range(SESSIONS)]
        assert not any(each.ended for each in opened)
        publisher.sessions.open("8")
        last = publisher.sessions.open("7")
        assert last.ended == (opened[0].id,)
        kept = [each.id for each in publisher.sessions.list("7")]
        assert kept == [each.id for each in opened[1:]] + [last.id]
        assert listener.heard() == [("sinapse:channels:7:revoke", opened[0].token.encode())]
        assert not redis_client.exists(
            PLAIN.token_key(opened[0].token), PLAIN.session_key(opened[0].id)
        )

    def test_nothing_invalid_is_written(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        for subject in (*NO_SUBJECTS, HUGE):
            with pytest.raises(InvalidSubject):
                publisher.sessions.open(subject)
        for device in NO_DEVICES:
            with pytest.raises(ValueError, match="a device is"):
                publisher.sessions.open("7", device=device)
        for seconds in (*NO_LIFETIMES, HUGE):
            with pytest.raises(ValueError, match="expires_in is seconds"):
                publisher.sessions.open("7", expires_in=seconds)
        channels = [each for each in NO_CHANNELS if each is not None]
        for only in (*NO_ONLY, *channels, *([each] for each in NO_CHANNELS)):
            with pytest.raises(InvalidChannel):
                publisher.sessions.open("7", only=only)
        expect_nothing(redis_client)


class TestList:
    def test_it_is_what_they_were_opened_with(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        before = now(redis_client) - 0.001  # Redis counts milliseconds.
        phone = publisher.sessions.open("7", device="Ada's ☎", expires_in=60, only=["b", "a*"])
        laptop = publisher.sessions.open(7)
        after = now(redis_client)
        first, second = publisher.sessions.list("7")
        assert type(first) is Session
        assert (first.id, first.device, first.only, first.seen) == (
            *(phone.id, "Ada's ☎", frozenset({"b", "a*"})),
            None,
        )
        assert (second.id, second.device, second.only, second.seen) == (laptop.id, None, None, None)
        assert before <= first.opened <= second.opened <= after
        assert first.expires is not None
        assert before + 60 <= first.expires <= after + 60.01
        assert second.expires is None
        assert publisher.sessions.list("8") == []

    def test_no_token_is_in_it(self, publisher: Publisher) -> None:
        opened = publisher.sessions.open("7")
        assert opened.token not in repr(publisher.sessions.list("7"))

    def test_when_it_was_seen_is_told(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        opened = publisher.sessions.open("7")
        redis_client.hset(PLAIN.session_key(opened.id), "seen", "1700000000123")
        assert publisher.sessions.list("7")[0].seen == 1700000000.123

    def test_what_another_program_wrote_is_read(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        opened = publisher.sessions.open("7")
        for field, text in (("device", b"\xff\n"), ("opened", "9" * 400), ("seen", "soon")):
            redis_client.hset(PLAIN.session_key(opened.id), field, text)
        redis_client.zadd(PLAIN.sessions_key("7"), {"none": 5})
        [found] = publisher.sessions.list("7")
        assert found == Session(opened.id, "\N{REPLACEMENT CHARACTER}\n", None, 0.0, None, None)


class TestRenew:
    def test_it_lives_longer_and_never_shorter(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        opened = publisher.sessions.open("7", expires_in=60)
        keys = PLAIN.token_key(opened.token), PLAIN.session_key(opened.id), PLAIN.sessions_key("7")
        assert publisher.sessions.renew("7", opened.id, 600) is True
        assert publisher.sessions.renew("7", opened.id, expires_in=0.001) is True
        for key in keys:
            assert 300_000 < int(redis_client.pttl(key)) <= 600_000
        assert publisher.sessions.renew("7", opened.id) is True
        assert [redis_client.pttl(key) for key in keys] == [-1] * 3

    def test_it_is_one_of_that_subject(self, publisher: Publisher) -> None:
        opened = publisher.sessions.open("7", expires_in=60)
        assert publisher.sessions.renew("8", opened.id) is False
        assert publisher.sessions.renew("7", "0" * 32) is False
        assert publisher.sessions.list("7")[0].expires is not None

    def test_nothing_invalid_is_asked_for(self, publisher: Publisher) -> None:
        opened = publisher.sessions.open("7", expires_in=60)
        for session in NO_SESSIONS:
            with pytest.raises(ValueError, match="a session's id is 32 hexadecimal digits, not"):
                publisher.sessions.renew("7", session)
        for seconds in NO_LIFETIMES:
            with pytest.raises(ValueError, match="expires_in is seconds"):
                publisher.sessions.renew("7", opened.id, seconds)
        for subject in NO_SUBJECTS:
            with pytest.raises(InvalidSubject):
                publisher.sessions.renew(subject, opened.id)
        assert publisher.sessions.list("7")[0].expires is not None


class TestEnd:
    def test_it_leaves_nothing_and_nodes_are_told(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        whole, narrow = publisher.sessions.open("7"), publisher.sessions.open("7", only="news")
        for each in (whole, narrow):
            assert publisher.sessions.end("7", each.id) is True
            assert publisher.sessions.end("7", each.id) is False
        expect_nothing(redis_client)
        assert listener.heard() == [
            ("sinapse:channels:7:revoke", each.token.encode()) for each in (whole, narrow)
        ]

    def test_others_live_on(self, publisher: Publisher) -> None:
        token = publisher.tokens.generate("7")
        first, second = publisher.sessions.open("7"), publisher.sessions.open("7")
        assert publisher.sessions.end("8", first.id) is False
        assert publisher.sessions.end("7", first.id) is True
        assert [each.id for each in publisher.sessions.list("7")] == [second.id]
        assert publisher.tokens.get("7") == token

    def test_all_or_all_but_one_end(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        opened = [publisher.sessions.open("7") for _ in range(4)]
        other = publisher.sessions.open("8")
        assert publisher.sessions.end_all("7", but=opened[2].id) == 3
        assert [each.id for each in publisher.sessions.list("7")] == [opened[2].id]
        revoked = [payload.decode() for _, payload in listener.heard()]
        assert revoked == [opened[number].token for number in (0, 1, 3)]
        assert publisher.sessions.end_all("7", "0" * 32) == 1
        assert publisher.sessions.end_all("7") == 0
        assert [each.id for each in publisher.sessions.list("8")] == [other.id]
        assert publisher.sessions.end_all("8") == 1
        expect_nothing(redis_client)

    def test_nothing_invalid_ends_any(self, publisher: Publisher) -> None:
        publisher.sessions.open("7")
        for session in NO_SESSIONS:
            with pytest.raises(ValueError, match="a session's id is 32 hexadecimal digits, not"):
                publisher.sessions.end("7", session)
            if session is not None:
                with pytest.raises(ValueError, match="a session's id is"):
                    publisher.sessions.end_all("7", but=session)
        for subject in NO_SUBJECTS:
            with pytest.raises(InvalidSubject):
                publisher.sessions.end(subject, "0" * 32)
            with pytest.raises(InvalidSubject):
                publisher.sessions.end_all(subject)
            with pytest.raises(InvalidSubject):
                publisher.sessions.list(subject)
        assert len(publisher.sessions.list("7")) == 1


def test_a_key_that_is_none_of_ours_is_named(
    publisher: Publisher, redis_client: redis.Redis
) -> None:
    redis_client.set(PLAIN.sessions_key("7"), "no sorted set")
    for ask in (publisher.sessions.open, publisher.sessions.list, publisher.sessions.end_all):
        with pytest.raises(BrokerUnavailable, match=r"WRONGTYPE: .*: sinapse:sessions:7"):
            ask("7")


def test_each_operation_is_one_round_trip(flavour: Flavour, tmp_path: Path) -> None:
    with (  # The daemon of this module asks its own Redis as well, when it likes.
        running_redis(tmp_path) as server,
        closing(server.client()) as redis_client,
        flavour(server.url) as publisher,
    ):
        for warm in (True, False):
            opened = publisher.sessions.open("7")
            asked: list[Any] = [
                lambda: publisher.sessions.open("7"),
                lambda: publisher.sessions.list("7"),
                lambda opened=opened: publisher.sessions.renew("7", opened.id),
                lambda opened=opened: publisher.sessions.end("7", opened.id),
                lambda: publisher.sessions.end_all("7"),
            ]
            for ask in asked:
                redis_client.config_resetstat()
                ask()
                made = calls(redis_client)
                assert warm or (made["evalsha"], "eval" in made) == (1, False)


class TestSettings:
    @pytest.mark.parametrize("how", ["parameter", "environment"])
    def test_it_is_said_how_many_there_may_be(
        self,
        flavour: Flavour,
        redis_server: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_SESSIONS", "2" if how == "environment" else "5")
        options: Any = {} if how == "environment" else {"max_sessions": 2}
        with flavour(redis_server.url, **options) as publisher:
            assert publisher.max_sessions == 2
            first = publisher.sessions.open("7")
            publisher.sessions.open("7")
            assert publisher.sessions.open("7").ended == (first.id,)

    def test_if_there_are_more_already_so_many_end(
        self, flavour: Flavour, redis_server: RedisServer
    ) -> None:
        with flavour(redis_server.url) as publisher:
            opened = [publisher.sessions.open("7").id for _ in range(5)]
        with flavour(redis_server.url, max_sessions=2) as publisher:
            last = publisher.sessions.open("7")
            assert last.ended == tuple(opened[:4])
            assert [each.id for each in publisher.sessions.list("7")] == [opened[4], last.id]

    @pytest.mark.parametrize("count", NO_COUNTS)
    def test_a_parameter_that_cannot_be_used_is_named(self, flavour: Flavour, count: Any) -> None:
        with pytest.raises(ValueError, match=r"^max_sessions is a whole number, 1 to 1000: "):
            flavour("redis://h", max_sessions=count)

    @pytest.mark.parametrize("text", ["0", "-1", "1001", "1.5", "many", " ", "\u0663", "9" * 5000])
    def test_a_setting_that_cannot_be_used_is_named(
        self, flavour: Flavour, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_SESSIONS", text)
        with pytest.raises(ValueError, match=r"^SINAPSE_MAX_SESSIONS is a whole number, 1 to 1000"):
            flavour("redis://h")

    def test_an_empty_setting_is_none(
        self, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_SESSIONS", "")
        assert flavour("redis://h").max_sessions == SESSIONS

    def test_hashed_no_token_is_in_redis_and_all_else_is_as_ever(
        self, flavour: Flavour, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        with flavour(redis_server.url, hash_tokens=True) as publisher:
            whole = publisher.sessions.open("7", expires_in=60)
            narrow = publisher.sessions.open("7", only="news")
            assert redis_client.get(PLAIN.token_key(hashed_token(whole.token))) == b"7"
            for each in (whole, narrow):
                stored = redis_client.hget(PLAIN.session_key(each.id), "token")
                assert stored == hashed_token(each.token).encode()
            assert [each.id for each in publisher.sessions.list("7")] == [whole.id, narrow.id]
            assert publisher.sessions.renew("7", whole.id) is True
            assert publisher.sessions.end("7", whole.id) is True
            assert publisher.sessions.end_all("7") == 1
        expect_nothing(redis_client)


def test_several_redis_have_those_of_their_subjects(
    flavour: Flavour, redis_server: RedisServer
) -> None:
    urls = " ".join(f"{redis_server.url[:-1]}{number}" for number in (0, 1))
    with flavour(urls, max_sessions=3) as publisher:
        for subject in range(10):
            opened = [publisher.sessions.open(subject) for _ in range(4)]
            assert opened[3].ended == (opened[0].id,)
            assert len(publisher.sessions.list(subject)) == 3
            assert publisher.sessions.renew(subject, opened[1].id, 60) is True
            assert publisher.sessions.end(subject, opened[1].id) is True
            assert publisher.sessions.end_all(subject, opened[2].id) == 1
