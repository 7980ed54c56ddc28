"""The life of a token in a page: told before it ends, made longer, and what comes after its end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import redis

from sinapse.publisher import Publisher
from sinapse.publisher.connections import Connections
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support.proxy import Link, Proxy, unchanged
from tests.support.subscribing import OBTAINED, obtained
from tests.support.websocket import ending, opened, received


@pytest.fixture
def token(publisher: Publisher) -> str:
    """Return a token with four seconds to live: half of that is the warning's."""
    publisher.channels.add("1", "room:1")
    return publisher.tokens.generate("1", expires_in=4)


def test_a_stream_is_told_before_its_token_ends(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream, opened(daemon, token) as socket:
        told = stream.next()
        assert told.event == received(socket)["event"] == "token-expiring"
        assert told.data in {"1", "2"}  # Seconds, on a machine that may be slow.
        publisher.publish("room:1", "until the end")
        assert stream.message().data == received(socket)["data"] == "until the end"
        with pytest.raises(Ended):
            stream.next()
        assert ending(socket) == (4001, "token expired")


def test_a_token_that_is_renewed_keeps_its_streams(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream:
        assert stream.next().event == "token-expiring"
        assert publisher.tokens.renew("1", expires_in=5)
        # Told again, when half of what is left then is over: nothing has ended meanwhile.
        assert stream.next().event == "token-expiring"
        assert publisher.tokens.renew("1")
        time.sleep(3)  # There is no event of what does not happen.
        publisher.publish("room:1", "still here")
        assert stream.message().data == "still here"


def test_nothing_is_delivered_after_its_end_until_it_is_known_whether_it_was_renewed(
    distant: Daemon, proxy: Proxy, publisher: Publisher
) -> None:
    """The look-up takes its time, and what is published meanwhile comes after it, or never."""
    for subject in ("1", "2"):
        publisher.channels.add(subject, "room:1")
    tokens = [publisher.tokens.generate(subject, expires_in=2) for subject in ("1", "2")]
    is_over = threading.Event()

    def down(link: Link, data: bytes) -> bytes:
        if not link.is_subscriber:
            is_over.wait(EVENT_TIMEOUT)
        return data

    with distant.stream(tokens[0]).opened() as one, distant.stream(tokens[1]).opened() as other:
        assert one.next().event == other.next().event == "token-expiring"
        publisher.tokens.renew("1", expires_in=3600)
        proxy.down = down
        eventually(lambda: publisher.tokens.get("2") is None)
        # The node has noticed as well, when it asks.
        eventually(lambda: link_asks(proxy, tokens[1]))
        publisher.publish("room:1", "after its end")
        is_over.set()
        assert one.next().data == "after its end"
        with pytest.raises(Ended):
            other.next()
    proxy.down = unchanged


def test_the_end_of_a_token_is_counted_from_when_redis_was_asked(
    distant: Daemon, proxy: Proxy, publisher: Publisher, redis_client: redis.Redis
) -> None:
    """The answer arrives late, and what is left of the token's life has become less meanwhile."""
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1", expires_in=4)

    def down(link: Link, data: bytes) -> bytes:
        if token.encode() in link.sent:
            eventually(lambda: redis_client.pttl(f"sinapse:tokens:{token}") < 900)
            proxy.down = unchanged
        return data

    proxy.down = down
    with distant.stream(token).opened() as stream:
        eventually(lambda: publisher.tokens.get("1") is None)
        for _ in range(2):
            distant.get("/status")  # Before the second one is read, what was due is done.
        publisher.publish("room:1", "after its end")
        with pytest.raises(Ended):
            stream.next()


@pytest.mark.parametrize("lifetime", [3600, None])
def test_an_earlier_end_is_found_when_redis_was_away(
    distant: Daemon,
    proxy: Proxy,
    publisher: Publisher,
    redis_client: redis.Redis,
    lifetime: int | None,
) -> None:
    """Redis may be back with older data, of before the token was renewed."""
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1", expires_in=lifetime)
    with distant.stream(token).opened() as stream:
        redis_client.expire(f"sinapse:tokens:{token}", 2)
        proxy.cut()
        stream.wait_for_end()
    assert not redis_client.exists(f"sinapse:tokens:{token}")


def link_asks(proxy: Proxy, token: str) -> bool:
    """Whether a token was looked up three times: to open, before its end, and at its end."""
    return sum(link.sent.count(f"sinapse:tokens:{token}".encode()) for link in proxy.links) >= 3


def test_a_token_that_is_renewed_in_time_is_not_told_of(
    daemon: Daemon, publisher: Publisher, token: str
) -> None:
    with daemon.stream(token).opened() as stream:
        assert publisher.tokens.renew("1", expires_in=3600)
        time.sleep(4)
        publisher.publish("room:1", "nothing but this")
        assert stream.message() == Event("nothing but this")


def test_the_warning_can_be_turned_off(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    with running_daemon(tmp_path, redis_server.url, "--expiry-notice", "0") as daemon:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=2)
        with daemon.stream(token).opened() as stream, pytest.raises(Ended):
            stream.next()


class TestRenewing:
    """What is in Redis."""

    def test_a_life_is_made_longer_and_never_shorter(self, publisher: Publisher) -> None:
        token = publisher.tokens.generate("1", expires_in=100)
        assert publisher.tokens.renew("1", expires_in=1000)
        assert 900 < lifetime(publisher, token) <= 1000
        assert publisher.tokens.renew("1", expires_in=10)
        assert 900 < lifetime(publisher, token) <= 1000
        assert publisher.tokens.renew("1")
        assert lifetime(publisher, token) == -1
        assert publisher.tokens.renew("1", expires_in=10)
        assert lifetime(publisher, token) == -1
        assert publisher.tokens.get("1") == token

    def test_nobody_has_nothing_to_renew(self, publisher: Publisher) -> None:
        assert publisher.tokens.renew("1", expires_in=10) is False
        publisher.tokens.generate("1")
        publisher.tokens.clear("1")
        assert publisher.tokens.renew("1") is False

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "10"])
    def test_a_time_that_is_none_is_refused(self, publisher: Publisher, seconds: float) -> None:
        publisher.tokens.generate("1")
        with pytest.raises(ValueError, match="expires_in"):
            publisher.tokens.renew("1", expires_in=seconds)


class TestObtaining:
    """What a page gets when it is loaded."""

    def test_it_is_the_current_token_which_lives_on(self, publisher: Publisher) -> None:
        token = publisher.tokens.generate("1", expires_in=100)
        assert publisher.tokens.obtain("1", expires_in=1000) == token
        assert 900 < lifetime(publisher, token) <= 1000
        assert publisher.tokens.obtain("1", expires_in=10) == token
        assert 900 < lifetime(publisher, token) <= 1000
        assert publisher.tokens.obtain("1") == token
        assert lifetime(publisher, token) == -1
        assert publisher.tokens.obtain("1", expires_in=10) == token
        assert lifetime(publisher, token) == -1

    @pytest.mark.parametrize(("expires_in", "most"), [(1000, 1000), (None, -1)])
    def test_it_is_a_new_one_if_there_is_none(
        self, publisher: Publisher, expires_in: float | None, most: int
    ) -> None:
        token = publisher.tokens.obtain("1", expires_in=expires_in)
        assert publisher.tokens.get("1") == token
        assert lifetime(publisher, token) in range(most - 100 if most > 0 else most, most + 1)
        publisher.tokens.clear("1")
        assert publisher.tokens.obtain("1") != token

    def test_a_half_of_one_counts_for_nothing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = publisher.tokens.generate("1")
        redis_client.delete(f"sinapse:tokens:{token}")
        another = publisher.tokens.obtain("1")
        assert another != token
        assert redis_client.get(f"sinapse:tokens:{another}") == b"1"

    def test_one_that_is_as_old_as_it_was_to_become_is_left_to_run_out(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = publisher.tokens.generate("1", expires_in=50)
        assert publisher.tokens.obtain("1", expires_in=100) == token
        obtained(redis_client, token, ago=90)
        assert publisher.tokens.obtain("1", expires_in=100) == token
        obtained(redis_client, token, ago=100)
        assert publisher.tokens.obtain("1", expires_in=1000) == token
        assert publisher.tokens.renew("1", expires_in=2000)
        another = publisher.tokens.obtain("1", expires_in=100)
        assert another != token
        assert publisher.tokens.obtain("1", expires_in=100) == another
        assert publisher.tokens.get("1") == another
        assert 50 < lifetime(publisher, another) <= 100
        assert 1900 < redis_client.ttl(f"sinapse:tokens:{token}") <= 2000
        # It can be revoked for as long.
        assert 1900 < redis_client.ttl(OBTAINED) <= 2000

    def test_none_lives_for_ever_by_being_obtained(self, publisher: Publisher) -> None:
        token = publisher.tokens.obtain("1", expires_in=0.5)
        eventually(lambda: publisher.tokens.obtain("1", expires_in=0.5) != token)

    def test_one_that_never_expires_is_told_for_ever(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        token = publisher.tokens.obtain("1", expires_in=100)
        assert publisher.tokens.renew("1")
        obtained(redis_client, token, ago=1000)
        assert publisher.tokens.obtain("1", expires_in=100) == token

    @pytest.mark.parametrize("how", ["clear", "generate"])
    def test_those_that_run_out_are_revoked_with_the_current_one(
        self, daemon: Daemon, publisher: Publisher, redis_client: redis.Redis, how: str
    ) -> None:
        publisher.channels.add("1", "room:1")
        tokens = set()
        for _ in range(3):
            token = publisher.tokens.obtain("1", expires_in=100)
            tokens.add(token)
            obtained(redis_client, token, ago=1000)
        assert len(tokens) == 3
        with ExitStack() as stack:
            streams = [stack.enter_context(daemon.stream(token).opened()) for token in tokens]
            assert getattr(publisher.tokens, how)("1")
            for stream in streams:
                stream.wait_for_end()
        for token in tokens:
            with daemon.stream(token) as stream:
                assert stream.status == 401
        assert not redis_client.exists(OBTAINED)

    def test_what_is_remembered_is_what_is_left(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        def is_gone(token: str) -> bool:
            return not redis_client.exists(f"sinapse:tokens:{token}")

        lasting = publisher.tokens.obtain("1", expires_in=100)
        obtained(redis_client, lasting, ago=1000)
        for _ in range(2):
            token = publisher.tokens.obtain("1", expires_in=0.05)
            eventually(partial(is_gone, token))
        another = publisher.tokens.obtain("1", expires_in=100)
        assert redis_client.zrange(OBTAINED, 0, -1) == [lasting.encode(), another.encode()]
        publisher.tokens.obtain("2", expires_in=0.05)
        eventually(lambda: not redis_client.exists(OBTAINED[:-1] + "2"))

    def test_all_who_come_at_once_get_the_same(self, publisher: Publisher) -> None:
        barrier = threading.Barrier(5)

        def come(_: int) -> str:
            barrier.wait()
            return publisher.tokens.obtain("1", expires_in=100)

        with ThreadPoolExecutor(5) as threads:
            assert len(set(threads.map(come, range(5)))) == 1

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "10"])
    def test_a_time_that_is_none_is_refused(self, publisher: Publisher, seconds: float) -> None:
        with pytest.raises(ValueError, match="expires_in"):
            publisher.tokens.obtain("1", expires_in=seconds)
        assert publisher.tokens.get("1") is None


def lifetime(publisher: Publisher, token: str) -> int:
    """Return the seconds that both keys of a token have left, -1 for ever."""
    connections = publisher._connections
    assert isinstance(connections, Connections)
    lives = [
        connections.execute("TTL", key) for key in (f"sinapse:tokens:{token}", "sinapse:User:1")
    ]
    assert lives[0] == lives[1]
    return int(lives[0])


class TestStopStatus:
    """What an EventSource is told that comes with a token that is not valid."""

    @pytest.fixture
    def stopping(self, tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
        with running_daemon(tmp_path, redis_server.url, "--stop-status", "204") as daemon:
            yield daemon

    def test_204_tells_it_to_stop(self, stopping: Daemon, publisher: Publisher) -> None:
        with stopping.stream("unknown", {"Origin": "https://a.example"}) as stream:
            assert stream.status == 204
            assert stream.headers["Access-Control-Allow-Origin"] == "https://a.example"
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with stopping.stream(token).opened() as stream:
            publisher.tokens.clear("1")
            stream.wait_for_end()
        with stopping.stream(token, after=stream.position) as stream:
            assert stream.status == 204

    def test_others_are_told_401(self, stopping: Daemon) -> None:
        for accept in ("application/json", "*/*"):
            path = "/?access_token=unknown"
            with Stream(stopping.address, path, {"Accept": accept}) as stream:
                assert stream.status == 401


@pytest.fixture(scope="module")
def shared_baker(
    tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer
) -> Iterator[Daemon]:
    """One daemon that reads cookies, for tests that leave it as it was."""
    options = ("--cookie", "push", "--origin", "https://app.example")
    with running_daemon(tmp_path_factory.mktemp("baker"), redis_process.url, *options) as daemon:
        yield daemon


class TestCookies:
    """The token in a cookie."""

    @pytest.fixture
    def baker(self, tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
        options = ("--cookie", "push", "--origin", "https://app.example")
        with running_daemon(tmp_path, redis_server.url, *options) as daemon:
            yield daemon

    def test_a_cookie_opens_a_stream(self, baker: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        headers = {"Cookie": f"a=b; push={token}", "Origin": "https://app.example"}
        with Stream(baker.address, "/", headers).opened() as stream:
            publisher.publish("room:1", "hello")
            assert stream.message().data == "hello"
            assert stream.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert stream.headers["Access-Control-Allow-Credentials"] == "true"
        assert token not in baker.log

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": "https://app.example"}, 200),
            ({"Origin": "https://127.0.0.1", "Host": "127.0.0.1"}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({"Sec-Fetch-Site": "none"}, 200),
            ({}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ],
    )
    def test_a_foreign_page_opens_nothing_in_the_name_of_its_visitor(
        self,
        shared_baker: Daemon,
        publisher: Publisher,
        headers: dict[str, str],
        status: int,
    ) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        for method in ("GET", "POST"):
            for accept in ("text/event-stream", "application/json", "*/*"):
                sent = {"Cookie": f"push={token}", "Accept": accept, **headers}
                with Stream(shared_baker.address, "/", sent, method) as stream:
                    assert stream.status == status
                # Who knows the token may use it from anywhere.
                path = f"/?access_token={token}"
                with Stream(shared_baker.address, path, sent, method) as stream:
                    assert stream.status == 200

    def test_what_is_said_explicitly_comes_first(self, baker: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with Stream(baker.address, "/?access_token=x", {"Cookie": f"push={token}"}) as stream:
            assert stream.status == 401
        path = f"/?access_token={token}"
        with Stream(baker.address, path, {"Cookie": "push=x"}).opened():
            pass

    def test_foreign_pages_get_no_leave(self, baker: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        cookie = {"Cookie": f"push={publisher.tokens.generate('1')}"}
        headers = {**cookie, "Origin": "https://evil.example"}
        with Stream(baker.address, "/", headers) as stream:
            assert "Access-Control-Allow-Origin" not in stream.headers
            assert "Access-Control-Allow-Credentials" not in stream.headers
        with Stream(baker.address, "/", {"Cookie": "other=x"}) as stream:
            assert stream.status == 400

    def test_preflights_allow_credentials(self, baker: Daemon) -> None:
        answer = baker.get(
            "/",
            "OPTIONS",
            Origin="https://app.example",
            Access_Control_Request_Method="GET",
        )
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"

    def test_no_cookie_is_read_unless_asked_for(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        cookie = {"Cookie": f"push={publisher.tokens.generate('1')}"}
        headers = {**cookie, "Origin": "https://app.example"}
        for sent in (cookie, headers):
            with Stream(daemon.address, "/", sent) as stream:
                assert stream.status == 400


@pytest.mark.parametrize("query", ["padding=true", "padding=&padding=true"])
def test_polyfills_can_ask_for_padding(daemon: Daemon, publisher: Publisher, query: str) -> None:
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    path = f"/?access_token={token}&{query}"
    with Stream(daemon.address, path) as stream:
        first = stream.block().decode()
        padding, rest = first.split("\n", 1)
        assert padding == ":" + " " * 2048
        assert rest.startswith("retry: 5000\n")
        publisher.publish("room:1", json.dumps("hello"))
        assert stream.message().data == '"hello"'
