"""Hashed tokens: who reads Redis, or a backup of it, can open no stream with what is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sinapse.errors import Incomplete, TokenIsHashed, Unauthorized
from sinapse.protocol.keys import HASHED, hashed_token, presented_token
from sinapse.protocol.names import PLAIN
from sinapse.protocol.sharding import numbered, shard_of
from sinapse.publisher import Publisher
from sinapse.publisher.aio import Publisher as AsyncPublisher
from sinapse.publisher.operations.tokens import GenerateToken
from tests.support import RedisServer, eventually, free_port, running_redis
from tests.support.daemon import Daemon, running_daemon


@pytest.fixture(scope="module")
def hashing_process(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("hashing")
    with running_daemon(folder, redis_process.url, "--hash-tokens") as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def hashing(hashing_process: Daemon, redis_server: RedisServer) -> Daemon:
    return hashing_process


@pytest.fixture
def hasher(redis_server: RedisServer) -> Iterator[Publisher]:
    """Return a publisher that hashes tokens."""
    with Publisher(redis_server.url, hash_tokens=True) as publisher:
        publisher.channels.add("1", "news")
        yield publisher


def status(daemon: Daemon, token: str) -> int:
    with daemon.stream(token) as stream:
        return stream.status


def test_a_stream_opens_with_the_token_and_hears_everything(
    hashing: Daemon, hasher: Publisher
) -> None:
    with hashing.stream(hasher.tokens.generate("1")).opened() as stream:
        hasher.publish("news", "hello")
        assert stream.message().data == "hello"
        hasher.tokens.clear("1")
        stream.wait_for_end()


def test_a_new_token_ends_the_streams_of_the_former(hashing: Daemon, hasher: Publisher) -> None:
    former = hasher.tokens.generate("1")
    with hashing.stream(former).opened() as stream:
        hasher.tokens.generate("1")
        stream.wait_for_end()
    assert status(hashing, former) == 401


def test_a_token_expires_and_is_renewed(
    hashing: Daemon, hasher: Publisher, redis_client: redis.Redis
) -> None:
    token = hasher.tokens.generate("1", expires_in=60)
    assert hasher.tokens.renew("1", expires_in=3600)
    assert not hasher.tokens.renew("2")
    for key in (PLAIN.token_key(hashed_token(token)), PLAIN.current_token_key("User", "1")):
        assert redis_client.pttl(key) > 3_000_000
    assert status(hashing, token) == 200
    token = hasher.tokens.generate("1", expires_in=0.5)
    eventually(lambda: status(hashing, token) == 401)


def test_streams_stay_open_while_redis_is_away(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, "--appendonly", "yes") as server,
        running_daemon(tmp_path, server.url, "--hash-tokens") as daemon,
        Publisher(server.url, hash_tokens=True) as hasher,
    ):
        hasher.channels.add("1", "news")
        with daemon.stream(hasher.tokens.generate("1")).opened() as stream:
            server.stop()
            server.start()
            eventually(lambda: daemon.get("/ready").status == 200)
            eventually(lambda: daemon.metrics()["sinapse_redis_connects_total"] == 2)
            hasher.publish("news", "hello")
            stream.wait_for_message("hello")


@pytest.mark.parametrize("name", ["hashing", "daemon"])
def test_a_hash_is_no_token(
    request: pytest.FixtureRequest, name: str, hasher: Publisher, redis_client: redis.Redis
) -> None:
    daemon: Daemon = request.getfixturevalue(name)
    token = hasher.tokens.generate("1")
    stored = redis_client.get(PLAIN.current_token_key("User", "1"))
    assert isinstance(stored, bytes)
    assert stored.decode() == hashed_token(token)
    assert status(daemon, stored.decode()) == 401
    assert status(daemon, stored.decode().removeprefix(HASHED)) == 401


def test_a_daemon_that_hashes_takes_no_token_that_is_not(
    hashing: Daemon, hasher: Publisher, publisher: Publisher
) -> None:
    former = publisher.tokens.generate("1")
    assert status(hashing, former) == 401


def test_the_first_hashed_token_takes_the_place_of_one_that_is_not(
    hasher: Publisher, publisher: Publisher, redis_client: redis.Redis
) -> None:
    former = publisher.tokens.generate("1")
    hasher.tokens.generate("1")
    assert not redis_client.exists(PLAIN.token_key(former))


def test_redis_never_hears_of_a_token(
    hashing: Daemon, hasher: Publisher, redis_client: redis.Redis, redis_server: RedisServer
) -> None:
    """Not in a key, not in a value, not in a command, not in a message, not in what is saved."""
    with redis_client.monitor() as monitor:
        commands = monitor.listen()
        tokens = [hasher.tokens.generate("1")]
        with hashing.stream(tokens[0]).opened() as stream:
            tokens.append(hasher.tokens.generate("1", expires_in=60))
            stream.wait_for_end()
        hasher.tokens.renew("1")
        hasher.tokens.clear("1")
        redis_client.echo("that is all")
        heard = ""
        while "that is all" not in heard:
            heard += next(commands)["command"] + "\n"
    assert hashed_token(tokens[0]) in heard
    assert not any(token in heard for token in tokens)
    token = hasher.tokens.generate("1")
    redis_client.config_set("rdbcompression", "no")
    redis_client.save()
    saved = (redis_server.folder / "dump.rdb").read_bytes()
    assert hashed_token(token).encode() in saved
    assert token.encode() not in saved


def test_nobody_can_tell_the_current_token(hasher: Publisher, redis_server: RedisServer) -> None:
    hasher.tokens.generate("1")
    for tell in (hasher.tokens.get, hasher.tokens.obtain):
        with pytest.raises(TokenIsHashed, match="keep the one that generate"):
            tell("1")

    async def ask() -> None:
        async with AsyncPublisher(redis_server.url, hash_tokens=True) as publisher:
            with pytest.raises(TokenIsHashed):
                await publisher.tokens.get("1")
            token = await publisher.tokens.generate("1")
            assert await publisher.tokens.clear("1")
            assert len(token) == 86

    asyncio.run(ask())


def test_the_api_says_so_with_a_status_of_its_own(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    key, port = "k" * 40, free_port()
    (tmp_path / "keys").write_text(key)
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(tmp_path / "keys"))
    with (
        running_daemon(tmp_path, redis_server.url, "--hash-tokens", *options) as daemon,
        Publisher(f"http+sinapse://{key}@127.0.0.1:{port}") as publisher,
    ):
        for ask in (publisher.tokens.get, publisher.tokens.obtain):
            with pytest.raises(TokenIsHashed, match="keep the one"):
                ask("1")
        with publisher.pipeline() as pipe, contextlib.suppress(Incomplete):
            token, current = pipe.tokens.generate("1"), pipe.tokens.get("1")
            pipe.send()
        assert len(token.result) == 86
        with pytest.raises(TokenIsHashed):
            current.result  # noqa: B018
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize(("text", "hashed"), [("1", True), ("off", False), ("", False)])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, text: str, hashed: bool) -> None:
    monkeypatch.setenv("SINAPSE_HASH_TOKENS", text)
    with Publisher() as publisher:
        assert publisher.hash_tokens is hashed


def test_of_several_redis_a_hashed_token_leads_to_where_its_subject_is() -> None:
    for subject in range(20):
        operation = GenerateToken(subject, "User", None, hashed=True)
        operation.spread_over(numbered(3))
        presented = presented_token(operation.token.encode(), hashed=True)
        assert shard_of(presented, 3) == shard_of(operation.subject.encode(), 3)
        assert presented.decode() == operation.stored


def test_what_looks_like_a_hash_is_looked_up_by_nobody() -> None:
    with pytest.raises(Unauthorized):
        presented_token(HASHED.encode() + b"0" * 64, hashed=False)
    assert presented_token(b"token", hashed=False) == b"token"
